//go:build unix

package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkPrivate refuses a file or directory that others may use; mode is the
// most that it may have.
func checkPrivate(path string, info fs.FileInfo, mode fs.FileMode) error {
	owner, euid := info.Sys().(*syscall.Stat_t).Uid, os.Geteuid()
	switch {
	case owner != 0 && owner != uint32(euid):
		return fmt.Errorf("%s belongs to another user (uid %d); run: chown %d %q", path, owner, euid, path)
	case info.Mode().Perm()&^mode != 0:
		return fmt.Errorf("%s has mode %#o, and must be for its owner alone; run: chmod %o %q", path, info.Mode().Perm(), mode, path)
	}
	return nil
}

// lock takes f until it is closed, and fails when somebody else has it.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
