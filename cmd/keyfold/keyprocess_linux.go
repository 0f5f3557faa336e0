package main

import "syscall"

// ownGroup keeps a terminal's Ctrl-C from a child, which we end after us, and
// has the system end it when we are killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
