package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/private"
)

// rootFileHead begins a root key file, which is a key file of package private:
// its mode is 0600 or 0400, its owner the user who runs the KMS, or root.
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
// opens it, as private.CreateKey says: a file that is there already is never
// touched (fs.ErrExist).
//
// The errors of CreateFileRoot and OpenFileRoot name the path: they are for
// the operator at start, and no *fault.Error, so that no edge sends them.
func CreateFileRoot(path string) (*FileRoot, error) {
	raw := aead.GenerateRaw()
	defer clear(raw)
	if err := private.CreateKey(path, rootFileHead, raw); err != nil {
		return nil, fmt.Errorf("make the root key file: %w", err)
	}
	return OpenFileRoot(path)
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

// OpenFileRoot reads the root key at path, as private.Read says.
func OpenFileRoot(path string) (*FileRoot, error) {
	text, err := private.Read(path, "root key file")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no root key file at %s; restore it from its backup, unless this is a first start: %w", path, fs.ErrNotExist)
	} else if err != nil {
		return nil, err
	}
	defer clear(text)
	return ParseFileRoot(text, "root key file "+path)
}

// ParseFileRoot takes the root key from the text of a root key file, which comes
// from a file or from elsewhere; what names that in errors. The text stays the
// caller's to wipe.
func ParseFileRoot(text []byte, what string) (*FileRoot, error) {
	raw, err := private.ParseKey(text, what)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	key, err := aead.NewKey(raw)
	if err != nil {
		return nil, err
	}
	return &FileRoot{key: key}, nil
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

// ImportKEK returns raw wrapped by the root key (60 bytes), unless raw is that.
func (f *FileRoot) ImportKEK(_ context.Context, name Name, raw []byte) ([]byte, error) {
	key, err := aead.NewKey(raw)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	stored, err := f.key.Seal(raw, kekAAD(name))
	if err != nil {
		return nil, err
	}
	if itself, err := key.Open(stored, kekAAD(name)); err == nil {
		clear(itself)
		return nil, fault.New(fault.Invalid, "this key material is the root key; send other material, and take the root key for known to whatever this one passed through")
	}
	return stored, nil
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
