//go:build unix

package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkOwner refuses a file that others may read, or that belongs to another
// user than euid and root.
func checkOwner(what, path string, info fs.FileInfo, euid int) error {
	perm, owner := info.Mode().Perm(), info.Sys().(*syscall.Stat_t).Uid
	switch {
	case owner != 0 && owner != uint32(euid):
		return fmt.Errorf("the %s %s belongs to another user (uid %d); run: chown %d %q", what, path, owner, euid, path)
	case perm != 0o600 && perm != 0o400:
		return fmt.Errorf("the %s %s has mode %#o, and must be for its owner alone; run: chmod 600 %q", what, path, perm, path)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
