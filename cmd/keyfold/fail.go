package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// failure is an error with advice.
type failure struct {
	err   error
	hint  string // what to do, with the exact command where there is one
	usage bool   // the command line was wrong
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usagef is an error of the command line itself.
func usagef(format string, args ...any) error {
	return &failure{err: fmt.Errorf(format, args...), usage: true}
}

// advise adds a hint to err unless it has one. nil stays nil.
func advise(err error, hint string) error {
	if err == nil {
		return nil
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		return &failure{err: err, hint: hint}
	}
	if f.hint == "" {
		return &failure{err: err, hint: hint, usage: f.usage}
	}
	return err
}

// onNotFound is advise for a thing that is not there.
func onNotFound(err error, hint string) error {
	if client.IsNotFound(err) {
		return advise(err, hint)
	}
	return err
}

// report prints err and its hint, and returns the exit code.
func (a *app) report(cmd *cobra.Command, err error) int {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{}
	}
	hint := f.hint
	if hint == "" && f.usage {
		hint = cmd.CommandPath() + " --help"
	}
	if hint == "" {
		hint = a.generalHint(err)
	}
	fmt.Fprintf(a.err, "keyfold: %s\n", text(message(err)))
	if hint != "" {
		fmt.Fprintf(a.err, "hint: %s\n", text(hint))
	}
	if f.usage {
		return exitUsage
	}
	return exitFailed
}

// message is the text of err without the name of the package that it is from.
func message(err error) string {
	s := err.Error()
	for _, name := range []string{"client: ", "cmek: "} {
		s = strings.TrimPrefix(s, name)
	}
	return s
}

// generalHint knows what helps against errors that any command can meet.
func (a *app) generalHint(err error) string {
	if key, ok := errors.AsType[*client.KeyError](err); ok {
		return keyHint(key)
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return statusHint(e)
	}
	if errors.Is(err, client.ErrUnsealed) {
		return "find out who disabled CMEK: keyfold vault get VAULT; run the command again to accept it"
	}
	if errors.Is(err, client.ErrNotSealed) {
		return "seal the vault: keyfold cmek enable VAULT; or write it as it is with --unsealed"
	}
	if errors.Is(err, context.Canceled) {
		return ""
	}
	// Not net.Error, which errors of files and deadlines are as well.
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return "is the server running? start one with: keyfold dev; or point KEYFOLD_URL at yours"
	}
	return ""
}

func keyHint(e *client.KeyError) string {
	if e.Fingerprint == "" {
		return "export KEYFOLD_CMEK_KEY_FILE=FILE"
	}
	return "export KEYFOLD_CMEK_KEY_FILE=FILE, where FILE is the key file with the fingerprint " + e.Fingerprint
}

func statusHint(e *client.Error) string {
	switch e.Status {
	case http.StatusUnauthorized:
		return "export KEYFOLD_API_KEY=1ck_..., a live key of the server in KEYFOLD_URL"
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return "run the command again in a moment"
	case http.StatusInternalServerError:
		return "look for the request in the server's log"
	}
	return ""
}
