package pebblestore

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Exists reports whether there is a store in dir. It writes nothing, and says
// nothing of whether the store is whole. A directory that is not there holds
// none; one that cannot be read is an error, which names it.
func Exists(dir string) (bool, error) {
	desc, err := pebble.Peek(dir, vfs.Default)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for a store in %s: %w", dir, err)
	}
	return desc.Exists, nil
}
