//go:build unix

package audit

import (
	"os"
	"syscall"
)

// lock takes f until it is closed, and fails when somebody else has it.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
