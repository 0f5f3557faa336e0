package keyring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxSecret is the most that a file with a root key or a PIN may hold, in bytes.
const maxSecret = 4 << 10

// ReadPrivate reads a file of at most 4 KiB that holds a secret; what names it
// in errors. It refuses a file that another user can read or owns, and says how
// to mend it; on Windows it does not look at that. All checks are of the file
// that was opened, so a link to it does no harm. A file that is not there is
// fs.ErrNotExist. The caller wipes the bytes.
func ReadPrivate(path, what string) ([]byte, error) {
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
	if err := checkOwner(what, path, info, os.Geteuid()); err != nil {
		return nil, err
	}
	return ReadSecret(f, what+" "+path)
}

// ReadSecret reads all of r, at most 4 KiB; what names it in errors. The caller
// wipes the bytes.
func ReadSecret(r io.Reader, what string) ([]byte, error) {
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

// missing gives the error of a root key file that is not there its advice.
func missing(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no root key file at %s; restore it from its backup, unless this is a first start: %w", path, fs.ErrNotExist)
	}
	return err
}
