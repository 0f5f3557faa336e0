package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/schollz/progressbar/v3"
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
func (a *app) answer(v any, format string, args ...any) error {
	if a.json {
		return a.printJSON(v)
	}
	_, err := fmt.Fprintln(a.out, printable(fmt.Sprintf(format, args...)))
	return err
}

// table writes rows aligned, with headings in the first. What is empty is shown
// as a dash.
func (a *app) table(rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if row[i] = printable(cell); cell == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// printable makes s one line that cannot steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// bar is a progress bar on a terminal, and nil elsewhere.
func (a *app) bar(total int, what string) *progressbar.ProgressBar {
	if !isTerminal(a.err) || a.json {
		return nil
	}
	return progressbar.NewOptions(total,
		progressbar.OptionSetWriter(a.err), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(),
		progressbar.OptionEnableColorCodes(false))
}

// writeFile makes the file path, with mode 0600, of what write writes. It is
// whole, on stable storage, or not there; one that is there already is an error.
func writeFile(path string, write func(io.ReadWriteSeeker) error) error {
	there := fmt.Errorf("%s is there already; name another file", path)
	if _, err := os.Lstat(path); err == nil {
		return there
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".keyfold-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	err = os.Link(f.Name(), path) // which, unlike a rename, replaces nothing
	if errors.Is(err, fs.ErrExist) {
		return there
	} else if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
