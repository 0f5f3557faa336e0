//go:build unix

package pebblestore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

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
