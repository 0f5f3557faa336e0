//go:build unix

package rootspec

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/keyfold/keyfold/internal/private"
)

// readCredential reads a file that systemd put there. It belongs to root or to
// us, and nobody else can read it: systemd lets the unit's user read by an
// access list, which shows in the mode as a right of the group, then root's.
func readCredential(path, what string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open the %s: %w; name it in LoadCredential= of the unit", what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the %s: %w", what, err)
	}
	if !ofSystemd(info, os.Geteuid()) {
		return nil, fmt.Errorf("the %s %s is not a file as systemd makes it, for root and this user alone; leave it to LoadCredential=", what, path)
	}
	return private.ReadAll(f, what+" "+path)
}

func ofSystemd(info fs.FileInfo, euid int) bool {
	st := info.Sys().(*syscall.Stat_t)
	perm := info.Mode().Perm()
	return info.Mode().IsRegular() &&
		(st.Uid == 0 || st.Uid == uint32(euid)) &&
		perm&^0o640 == 0 &&
		(perm&0o040 == 0 || st.Uid == 0 && st.Gid == 0)
}
