package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// CreateFile makes the file path, with mode 0600, of what write writes. One that
// is there already is an error, and stays as it is.
func CreateFile(path string, write func(io.ReadWriteSeeker) error) error {
	there := fmt.Errorf("%s is there already; name another file", path)
	if _, err := os.Lstat(path); err == nil {
		return there
	}
	return putFile(path, write, func(from, to string) error {
		err := os.Link(from, to) // which, unlike a rename, replaces nothing
		if errors.Is(err, fs.ErrExist) {
			return there
		}
		return err
	})
}

// ReplaceFile is CreateFile that puts the file in the place of one that is there.
func ReplaceFile(path string, write func(io.ReadWriteSeeker) error) error {
	return putFile(path, write, os.Rename)
}

// Bytes is what writes text, for CreateFile and ReplaceFile.
func Bytes(text []byte) func(io.ReadWriteSeeker) error {
	return func(f io.ReadWriteSeeker) error { _, err := f.Write(text); return err }
}

// putFile writes a file beside path, gives it that name by put, and brings both
// to stable storage.
func putFile(path string, write func(io.ReadWriteSeeker) error, put func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".keyfold-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = put(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir brings the names in dir to stable storage: a variable, so that a test
// can see when.
var syncDir = func(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
