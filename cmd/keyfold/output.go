package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/keyfold/keyfold/internal/cli"
)

func whenOrNever(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return cli.When(*t)
}

// writeOut runs write on the file at path, or on stdout when path is empty. A
// regular file appears whole, with mode 0600, or not at all; a device or pipe
// is written to as it is. While a regular file is written, a signal ends the
// context that write gets.
func (a *app) writeOut(ctx context.Context, path string, write func(context.Context, io.Writer) error) error {
	if path == "" {
		return write(ctx, a.Out)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(ctx, f), f.Close())
	}
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	return cli.ReplaceFile(path, func(f io.ReadWriteSeeker) error { return write(ctx, f) })
}
