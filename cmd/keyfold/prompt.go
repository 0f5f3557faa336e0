package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/keyfold/keyfold/internal/cli"
)

// maxTyped bounds what is typed, or read as one line, in bytes.
const maxTyped = 4096

// askSecret asks for a password, key or code. On a terminal it is typed unseen;
// else it is the next line of stdin.
func (a *app) askSecret(ctx context.Context, what string) (string, error) {
	text, err := "", error(nil)
	if f, ok := a.In.(*os.File); ok && cli.IsTerminal(f) {
		text, err = a.typed(ctx, f, what)
	} else {
		text, err = nextLine(a.In)
	}
	if err == nil && text == "" {
		err = cli.Usagef("%s is missing: type it, or give it as a line of stdin", what)
	}
	return text, err
}

// typed reads a line that is not shown. A signal gives the terminal its echo
// back.
func (a *app) typed(ctx context.Context, f *os.File, what string) (string, error) {
	before, err := term.GetState(int(f.Fd()))
	if err != nil {
		return "", err
	}
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	fmt.Fprintf(a.Err, "%s: ", what)
	defer fmt.Fprintln(a.Err)
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	go func() { // ends with the process, when a signal comes first
		text, err := term.ReadPassword(int(f.Fd()))
		read <- line{text, err}
	}()
	select {
	case l := <-read:
		return strings.TrimSpace(string(l.text)), l.err
	case <-ctx.Done():
		return "", errors.Join(errors.New("interrupted"), term.Restore(int(f.Fd()), before))
	}
}

// nextLine takes one line off r and not a byte more: the next may be asked for
// too.
func nextLine(r io.Reader) (string, error) {
	var line strings.Builder
	for b := make([]byte, 1); line.Len() <= maxTyped; {
		switch n, err := r.Read(b); {
		case n == 1 && b[0] == '\n', errors.Is(err, io.EOF):
			return strings.TrimSuffix(line.String(), "\r"), nil
		case n == 1:
			line.WriteByte(b[0])
		case err != nil:
			return "", err
		}
	}
	return "", cli.Usagef("a line of stdin is longer than %d bytes", maxTyped)
}

// agree asks a person at a terminal; nobody is asked elsewhere.
func (a *app) agree(question string) error {
	f, ok := a.In.(*os.File)
	if !ok || !cli.IsTerminal(f) {
		return nil
	}
	fmt.Fprintf(a.Err, "%s [y/N] ", cli.Printable(question))
	answer, err := nextLine(f)
	if err != nil {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}
