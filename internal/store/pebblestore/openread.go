package pebblestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyfold/keyfold/internal/fault"
)

// OpenRead opens the store in dir to be read, and changes no file of it: commits
// fail. While it is open no other process can open the store, but to read it too. It is
// not for a process that has the store open for writing, or opens it meanwhile: that one
// would lose its lock, as a process does that closes the file.
//
// Its errors are those of Open, and one that is fs.ErrNotExist if there is no store.
func OpenRead(dir string) (*Store, error) {
	there, err := Exists(dir)
	if err == nil && !there {
		err = fmt.Errorf("there is no store in %s: %w", dir, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	path, err := filepath.Abs(dir)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the store's directory %s cannot be used: %v", dir, err)
	}
	return openLocked(path, Options{fs: readFS{vfs.Default}, readOnly: true})
}

// readFS is a file system whose locks change no file.
type readFS struct{ vfs.FS }

// Lock locks the file against those who want it for themselves alone. If there is
// none, nobody has the store open: it was copied without the file.
func (readFS) Lock(name string) (io.Closer, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return io.NopCloser(nil), nil
	}
	if err != nil {
		return nil, err
	}
	lock := syscall.Flock_t{Type: syscall.F_RDLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &lock); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Unwrap is [vfs.FS].Unwrap.
func (f readFS) Unwrap() vfs.FS { return f.FS }
