// Package private reads and makes files that are for one user alone: root keys,
// PINs, the key of an audit, the directory of its log.
//
// It owns nothing. It trusts root and the user of the process, and on Windows
// everybody: there it does not look at owner and mode. What it made is whole
// and on stable storage, whenever a crash comes, or not there; a crash can leave
// a second file beside it, .NAME-*, of mode 0600 too, which nobody reads.
//
// Its errors name paths and say how to mend them: they are for the operator at
// start. They are no *fault.Error, so that no edge sends them.
package private

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxSecret is the most that a secret may have, in bytes.
const maxSecret = 4 << 10

// Read reads a file of at most 4 KiB that holds a secret; what names it in
// errors. It refuses a file that is not regular, that is not of this user or
// root, or whose mode is not 0600 or 0400. All checks are of the file that was
// opened, so a link to it does no harm. A file that is not there is
// fs.ErrNotExist. The caller wipes the bytes.
func Read(path, what string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // O_NONBLOCK: a FIFO must not hold us
	if err != nil {
		return nil, fmt.Errorf("open the %s: %w", what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the %s: %w", what, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the %s %s is not a regular file; name the file itself", what, path)
	}
	if err := check(what, path, info, os.Geteuid(), 0o600, 0o400); err != nil {
		return nil, err
	}
	return ReadAll(f, what+" "+path)
}

// ReadAll reads all of r, at most 4 KiB; what names it in errors. The caller
// wipes the bytes.
func ReadAll(r io.Reader, what string) ([]byte, error) {
	text := make([]byte, maxSecret+1)
	n, err := io.ReadFull(r, text)
	switch {
	case err == nil:
		clear(text)
		return nil, fmt.Errorf("the %s is over %d bytes; it is something else", what, maxSecret)
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		clear(text)
		return nil, fmt.Errorf("read the %s: %w", what, err)
	}
	return text[:n], nil
}

// Create makes the file path, of mode 0600, with what write writes, which
// happens under another name. One that is there already, or a link, is never
// touched (fs.ErrExist).
func Create(path string, write func(*os.File) error) error {
	dir, name := filepath.Dir(path), filepath.Base(path)
	f, err := os.CreateTemp(dir, "."+name+"-*") // of mode 0600
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Link(f.Name(), path) // which, unlike a rename, replaces nothing
	}
	if err := errors.Join(err, os.Remove(f.Name())); err != nil {
		return err
	}
	return SyncDir(dir)
}

// MakeDir makes the directory dir, of mode 0700, if it is missing. It refuses
// one that is not of this user or root, or of another mode; what names it in
// errors.
func MakeDir(dir, what string) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = SyncDir(filepath.Dir(dir))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("the %s %s is not a directory; name another", what, dir)
	}
	return check(what, dir, info, os.Geteuid(), 0o700)
}
