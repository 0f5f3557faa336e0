package main

import (
	"io/fs"
	"os"
	"syscall"
)

// isOurs reports whether the file belongs to the user that runs us.
func isOurs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}
