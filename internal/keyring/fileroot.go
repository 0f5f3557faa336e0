package keyring

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

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
const maxRootFile = 4 << 10

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

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// OpenFileRoot reads the root key at path. It refuses a file that another user
// can read or owns, and says how to mend it. All checks are of the file that
// was opened, so a link to it does no harm. A file that is not there is
// fs.ErrNotExist.
func OpenFileRoot(path string) (*FileRoot, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // O_NONBLOCK: a FIFO must not hold us
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no root key file at %s; restore it from its backup, unless this is a first start: %w", path, fs.ErrNotExist)
	} else if err != nil {
		return nil, fmt.Errorf("open the root key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the root key file: %w", err)
	}
	if err := checkRootFile(path, info, os.Geteuid()); err != nil {
		return nil, err
	}
	return readRoot(path, f)
}

func checkRootFile(path string, info fs.FileInfo, euid int) error {
	perm, owner := info.Mode().Perm(), info.Sys().(*syscall.Stat_t).Uid
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("the root key file %s is not a regular file; name the file itself", path)
	case owner != 0 && owner != uint32(euid):
		return fmt.Errorf("the root key file %s belongs to another user (uid %d); run: chown %d %q", path, owner, euid, path)
	case perm != 0o600 && perm != 0o400:
		return fmt.Errorf("the root key file %s has mode %#o, and must be for its owner alone; run: chmod 600 %q", path, perm, path)
	case info.Size() > maxRootFile:
		return fmt.Errorf("the root key file %s is over %d bytes; it is not a root key file", path, maxRootFile)
	}
	return nil
}

func readRoot(path string, f io.Reader) (*FileRoot, error) {
	text := make([]byte, maxRootFile)
	defer clear(text)
	n, err := io.ReadFull(f, text)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read the root key file: %w", err)
	}
	raw, ok := parseRoot(text[:n])
	defer clear(raw[:cap(raw)])
	if !ok {
		return nil, fmt.Errorf("the root key file %s must hold one line with the base64 of 32 bytes, beside comments; restore it from its backup", path)
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
	raw, err := f.key.Open(stored, kekAAD(name))
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

func (k fileKEK) Wrap(dek, aad []byte) ([]byte, error)       { return k.Seal(dek, aad) }
func (k fileKEK) Unwrap(wrapped, aad []byte) ([]byte, error) { return k.Open(wrapped, aad) }
