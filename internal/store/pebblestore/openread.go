package pebblestore

import (
	"fmt"
	"io/fs"
	"path/filepath"

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

// readFS is a file system whose locks change no file, on Unix.
type readFS struct{ vfs.FS }

// Unwrap is [vfs.FS].Unwrap.
func (f readFS) Unwrap() vfs.FS { return f.FS }
