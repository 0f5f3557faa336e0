//go:build !linux

package main

import "syscall"

// ownGroup keeps a terminal's Ctrl-C from a child, which we end after us.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
