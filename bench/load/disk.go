package main

import (
	"os"
	"path/filepath"
	"time"
)

// fsyncLoop appends 4 KiB and calls fsync, over and over, in a file of dir: how
// long this disk takes to make one write durable. Every durable write of the
// server waits at least for one of these, alone or with others.
func fsyncLoop(dir string, win window) *tally {
	t := &tally{}
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return &tally{errors: 1, first: err}
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := []byte(text(4096))
	for begin := time.Now(); begin.Before(win.end); begin = time.Now() {
		if _, err = f.Write(block); err == nil {
			err = f.Sync()
		}
		if err != nil {
			return &tally{errors: 1, first: err}
		}
		if begin.After(win.start) {
			t.latency.add(time.Since(begin))
			t.sent += int64(len(block))
		}
	}
	return t
}
