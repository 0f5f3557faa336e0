package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
)

// printJSON writes v for machines.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// answer writes v with --json, and else line.
func (a *app) answer(v any, line string) error {
	if a.json {
		return a.printJSON(v)
	}
	_, err := fmt.Fprintln(a.out, text(line))
	return err
}

// table writes rows aligned under their headings, which may be nil. What is
// empty is shown as a dash.
func (a *app) table(headings []string, rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	if headings != nil {
		fmt.Fprintln(w, strings.Join(headings, "\t"))
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = first(text(cell), "-")
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// text makes s one line that cannot steer a terminal: names and messages come
// from other people.
func text(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func whenOrNever(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return when(*t)
}

// isTerminal reports whether v is a terminal.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// writeOut runs write on the file at path, or on stdout when path is empty. A
// regular file appears whole, with mode 0600, or not at all; a device or pipe
// is written to as it is. While a regular file is written, a signal ends the
// context that write gets.
func (a *app) writeOut(ctx context.Context, path string, write func(context.Context, io.Writer) error) error {
	if path == "" {
		return write(ctx, a.out)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return closeAfter(f, write(ctx, f))
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	return writeFile(path, func(w io.Writer) error { return write(ctx, w) })
}

// writeFile writes a file of mode 0600 beside path, renames it to path, and
// brings it and its name to stable storage.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".keyfold-*")
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = closeAfter(f, err); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir brings the names in dir to stable storage: a variable, so that a test
// can see when.
var syncDir = func(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return closeAfter(d, d.Sync())
}

// closeAfter closes f and returns the first error.
func closeAfter(f *os.File, err error) error {
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
