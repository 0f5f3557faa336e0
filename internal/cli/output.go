package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// PrintJSON writes v for machines.
func (a *App) PrintJSON(v any) error {
	enc := json.NewEncoder(a.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Answer writes v with --json, and else a line.
func (a *App) Answer(v any, format string, args ...any) error {
	if a.JSON {
		return a.PrintJSON(v)
	}
	_, err := fmt.Fprintln(a.Out, Printable(fmt.Sprintf(format, args...)))
	return err
}

// Table writes v with --json, and else rows, aligned; headings, if any, are the
// first. What is empty is shown as a dash.
func (a *App) Table(v any, rows [][]string) error {
	if a.JSON {
		return a.PrintJSON(v)
	}
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = Printable(cell); cell == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// Printable makes s one line that cannot steer a terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// When is t for people, and as machines sort it.
func When(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// IsTerminal reports whether v is a terminal.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Follow shows how far some work is, as poll tells, until poll says that it has
// ended, or fails, or ctx ends.
func (a *App) Follow(ctx context.Context, what string, poll func() (done, total int, ended bool, err error)) error {
	bar := a.Bar(1, what)
	defer bar.End()
	for {
		done, total, ended, err := poll()
		if err != nil || ended {
			return err
		}
		bar.At(done, total)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Bar shows on stderr how far some work is: on a terminal, without --json, and
// else not at all.
type Bar struct{ bar *progressbar.ProgressBar }

// Bar returns the bar of work that has total parts; -1: nobody knows how many.
func (a *App) Bar(total int, what string) Bar {
	return Bar{progressbar.NewOptions(total, progressbar.OptionSetVisibility(IsTerminal(a.Err) && !a.JSON),
		progressbar.OptionSetWriter(a.Err), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetSpinnerChangeInterval(0),
		progressbar.OptionEnableColorCodes(false))}
}

// Add says that one more part is done. A bar that cannot be drawn is no reason
// to stop.
func (b Bar) Add() { _ = b.bar.Add(1) }

// At says that n parts of total are done.
func (b Bar) At(n, total int) {
	b.bar.ChangeMax(max(n, total, 1))
	_ = b.bar.Set(n)
}

// End takes the bar away; nothing else may be at work with it.
func (b Bar) End() { _ = b.bar.Clear() }
