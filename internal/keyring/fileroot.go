package keyring

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyfold/keyfold/internal/aead"
)

// A root key file is text, at most 4 KiB: comment lines, which begin with '#',
// empty lines, and one line with the standard base64 (44 characters) of the 32
// bytes of the root key.
//
//	# Keyfold root key ...
//	mfH0V7yXQ0yv1l1cB1s0m3Zb0S0c0m3PbHk1r0ot2k4=
//
// Its mode is 0600 or 0400, its owner the user who runs the KMS, or root.
const rootFileHead = `# Keyfold root key: the base64 of 32 bytes.
# Who reads this file can open every key of its KMS; without it nothing opens.
# Leave its mode at 0600, and keep a copy where the store's backups are not.
`

// FileRoot is the Root whose key is in a file.
type FileRoot struct {
	redacted
	key *aead.Key
}

// CreateFileRoot writes a fresh root key to a new file with mode 0600 and
// opens it. The file is whole or not there, whenever a crash comes, and on
// stable storage when it returns; a file that is there already is never
// touched (fs.ErrExist). A crash can leave a second file, .root.key-*, beside
// it, which nobody reads.
//
// The errors of CreateFileRoot and OpenFileRoot name the path: they are for
// the operator at start, and no *fault.Error, so that no edge sends them.
func CreateFileRoot(path string) (*FileRoot, error) {
	if err := createWhole(path, writeRoot); err != nil {
		return nil, fmt.Errorf("make the root key file: %w", err)
	}
	return OpenFileRoot(path)
}

// createWhole makes the file path with what write writes and syncs, which
// happens under another name.
func createWhole(path string, write func(*os.File) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".root.key-*") // of mode 0600
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path) // which, unlike a rename, replaces nothing
	}
	if err := errors.Join(err, os.Remove(f.Name())); err != nil {
		return err
	}
	return syncDir(dir)
}

// MemoryRoot returns a FileRoot without a file: its fresh key is written
// nowhere, and what it protects is gone with the process.
func MemoryRoot() (*FileRoot, error) {
	raw := aead.GenerateRaw()
	defer clear(raw)
	key, err := aead.NewKey(raw)
	if err != nil {
		return nil, err
	}
	return &FileRoot{key: key}, nil
}

func writeRoot(f *os.File) error {
	raw := aead.GenerateRaw()
	defer clear(raw)
	text := append(base64.StdEncoding.AppendEncode([]byte(rootFileHead), raw), '\n')
	defer clear(text)
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}

// OpenFileRoot reads the root key at path, as ReadPrivate says.
func OpenFileRoot(path string) (*FileRoot, error) {
	text, err := ReadPrivate(path, "root key file")
	if err != nil {
		return nil, missing(path, err)
	}
	defer clear(text)
	return ParseFileRoot(text, "root key file "+path)
}

// ParseFileRoot takes the root key from the text of a root key file, which comes
// from a file or from elsewhere; what names that in errors. The text stays the
// caller's to wipe.
func ParseFileRoot(text []byte, what string) (*FileRoot, error) {
	raw, ok := parseRoot(text)
	defer clear(raw[:cap(raw)])
	if !ok {
		return nil, fmt.Errorf("the %s must hold one line with the base64 of 32 bytes, beside comments; restore it from its backup", what)
	}
	key, err := aead.NewKey(raw)
	if err != nil {
		return nil, err
	}
	return &FileRoot{key: key}, nil
}

func parseRoot(text []byte) (raw []byte, ok bool) {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if raw != nil {
			return raw, false
		}
		raw = make([]byte, base64.StdEncoding.DecodedLen(len(line)))
		n, err := base64.StdEncoding.Strict().Decode(raw, line)
		if raw = raw[:n]; err != nil {
			return raw, false
		}
	}
	return raw, len(raw) == aead.KeySize
}

// Kind returns "file".
func (f *FileRoot) Kind() string { return "file" }

// Check returns nil: a root key that was read stays in memory.
func (f *FileRoot) Check(context.Context) error { return nil }

// DestroyKEK does nothing: what MakeKEK returned is all there is of a KEK.
func (f *FileRoot) DestroyKEK(context.Context, Name, []byte) error { return nil }

// MakeKEK makes 32 random bytes and returns them wrapped by the root key (60 bytes).
func (f *FileRoot) MakeKEK(_ context.Context, name Name) ([]byte, error) {
	raw := aead.GenerateRaw()
	defer clear(raw)
	return f.key.Seal(raw, kekAAD(name))
}

// LoadKEK opens what MakeKEK returned.
func (f *FileRoot) LoadKEK(_ context.Context, name Name, stored []byte) (KEK, error) {
	raw, err := fileKEK{f.key}.Unwrap(stored, kekAAD(name))
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	key, err := aead.NewKey(raw)
	if err != nil {
		return nil, err
	}
	return fileKEK{key}, nil
}

// Wipe makes the root unusable. KEKs that it loaded stay usable.
func (f *FileRoot) Wipe() { f.key.Wipe() }

// kekAAD is the AAD of a KEK's material under the root key: kind, KEK ID, version.
func kekAAD(name Name) []byte {
	return aead.AAD("keyfold/kek/v1", name.KEKID, decimal(name.Version))
}

// fileKEK is a KEK whose key is in this process.
type fileKEK struct{ *aead.Key }

func (k fileKEK) Wrap(dek, aad []byte) (wrapped []byte, err error) {
	aead.Erasing(func() { wrapped, err = k.Seal(dek, aad) })
	return wrapped, err
}

func (k fileKEK) Unwrap(wrapped, aad []byte) (dek []byte, err error) {
	aead.Erasing(func() { dek, err = k.Open(wrapped, aad) })
	return dek, err
}
