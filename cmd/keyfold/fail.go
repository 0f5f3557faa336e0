package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// onNotFound is cli.Advise for a thing that is not there.
func onNotFound(err error, hint string) error {
	if client.IsNotFound(err) {
		return cli.Advise(err, hint)
	}
	return err
}

// onProblem is cli.Advise for a problem of that type.
func onProblem(err error, problemType, hint string) error {
	if e, ok := errors.AsType[*client.Error](err); ok && e.Type == problemType {
		return cli.Advise(err, hint)
	}
	return err
}

// explain is explain, for a run.
func (a *app) explain(err error) (text, hint string) {
	text, hint = explain(err)
	if a.signedIn && client.IsUnauthenticated(err) {
		hint = signIn
	}
	if _, ok := errors.AsType[*client.KeyError](err); ok && a.cmekKeyFile == "" && a.getenv("KEYFOLD_CMEK_KEY") != "" {
		hint = "unset KEYFOLD_CMEK_KEY, which goes before a key file; " + hint
	}
	return text, hint
}

// explain is the text of err without the names of the packages that it is from,
// and what helps against errors that any command can meet.
func explain(err error) (text, hint string) {
	text = err.Error()
	for _, name := range []string{"client: ", "cmek: ", "kmskey: ", "keyshare: ", "keybackup: "} {
		text = strings.ReplaceAll(strings.TrimPrefix(text, name), ": "+name, ": ")
	}
	return text, generalHint(err)
}

func generalHint(err error) string {
	if hint := kmsHint(err); hint != "" {
		return hint
	}
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
	hint := "export KEYFOLD_CMEK_KEY_FILE=FILE, where FILE is the key file with the fingerprint " + e.Fingerprint
	if e.Given == "" {
		hint += "; or name the key process that has that key: --cmek-kms"
	}
	return hint
}

func statusHint(e *client.Error) string {
	switch e.Status {
	case http.StatusUnauthorized:
		return "export KEYFOLD_API_KEY=1ck_..., a live key of the server in KEYFOLD_URL; or " + signIn
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return "run the command again in a moment"
	case http.StatusInternalServerError:
		return "look for the request in the server's log"
	}
	return ""
}
