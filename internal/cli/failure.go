package cli

import (
	"errors"
	"fmt"
	"strings"
)

// failure is an error with advice.
type failure struct {
	error
	hint  string // what to do, with the exact command where there is one
	usage bool   // the command line was wrong
}

func (f *failure) Unwrap() error { return f.error }

// Usagef is an error of the command line itself.
func Usagef(format string, args ...any) error {
	return &failure{error: fmt.Errorf(format, args...), usage: true}
}

// Advise adds a hint to err unless it has one. nil stays nil.
func Advise(err error, hint string) error {
	f, ok := errors.AsType[*failure](err)
	switch {
	case err == nil || ok && f.hint != "":
		return err
	case ok:
		return &failure{err, hint, f.usage}
	}
	return &failure{error: err, hint: hint}
}

// Fail prints err after the name, its further lines indented, and its hint, and
// returns the exit code.
func (a *App) Fail(err error) int {
	text, hint := err.Error(), ""
	if a.Explain != nil {
		text, hint = a.Explain(err)
	}
	f, ok := errors.AsType[*failure](err)
	if ok && f.hint != "" {
		hint = f.hint
	}
	lead := a.Name + ": "
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' }) {
		fmt.Fprintf(a.Err, "%s%s\n", lead, Printable(line))
		lead = "  "
	}
	if hint != "" {
		fmt.Fprintf(a.Err, "hint: %s\n", Printable(hint))
	}
	if ok && f.usage {
		return ExitUsage
	}
	return ExitFailed
}

// Note writes a line to stderr, after the name.
func (a *App) Note(format string, args ...any) {
	fmt.Fprintf(a.Err, "%s: %s\n", a.Name, Printable(fmt.Sprintf(format, args...)))
}
