//go:build unix

package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// check refuses what belongs to another user than euid and root, or has none of
// modes, of which it advises the first.
func check(what, path string, info fs.FileInfo, euid int, modes ...fs.FileMode) error {
	perm, owner := info.Mode().Perm(), info.Sys().(*syscall.Stat_t).Uid
	switch {
	case owner != 0 && owner != uint32(euid):
		return fmt.Errorf("the %s %s belongs to another user (uid %d); run: chown %d %q", what, path, owner, euid, path)
	case !slices.Contains(modes, perm):
		return fmt.Errorf("the %s %s has mode %#o, and must be for its owner alone; run: chmod %o %q", what, path, perm, modes[0], path)
	}
	return nil
}

// SyncDir brings to stable storage which files dir has. On Windows it does
// nothing: a directory cannot be synced there.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
