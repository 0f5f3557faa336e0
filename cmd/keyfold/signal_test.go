package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestOneSignalEndsACommandThatWaitsForItsInput(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	sh := &shell{t: t, env: map[string]string{}}
	cmd, output := sh.start("secret", "put", "v", "p", "--file", fifo)
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // returns when the command has opened it
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	giveUp := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer giveUp.Stop()
	_ = cmd.Wait()
	if s := cmd.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGTERM {
		t.Errorf("%s: %s", cmd.ProcessState, output)
	}
}

func TestASignalLeavesNoPartOfAFile(t *testing.T) {
	dir := t.TempDir()
	err := new(app).writeOut(t.Context(), filepath.Join(dir, "out"), func(ctx context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, "a part")
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	left, _ := os.ReadDir(dir)
	if !errors.Is(err, context.Canceled) || len(left) != 0 {
		t.Errorf("%v, and %v is left", err, left)
	}
}
