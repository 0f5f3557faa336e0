//go:build unix

package kmsnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// OursToWrite is an error where the key store of cfg is in a directory of another user:
// what we write there, and to open a store is to write, its process could not open. Root
// opens all, so that a directory of root is everybody's who may write in it.
func OursToWrite(cfg Config) error { return oursToWrite(cfg.store().Dir(), euid()) }

var euid = os.Geteuid // tests are somebody else

func oursToWrite(dir string, euid int) error {
	if dir == "" {
		return nil
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner == 0 || int(owner) == euid {
		return nil
	}
	name := "#" + strconv.FormatUint(uint64(owner), 10)
	if u, err := user.LookupId(name[1:]); err == nil {
		name = u.Username
	}
	return fmt.Errorf("the key store in %s belongs to the user %s, whose process could not open what another user writes there; "+
		"run the same as that user: sudo -u '%[2]s' keyfold-kms ..., and with a root key that only you can read: --root fd:0 <FILE", dir, name)
}
