// Command keyfold is Keyfold's command line: the server, one for development,
// and every user's call.
//
// It owns flags, environment and output; each command is one or a few calls of
// package client, which seals and opens. It trusts its environment and the
// files that the user names. CMEK keys and values are written only where they
// are asked for: to stdout, or to the file of --out, with mode 0600. What login
// saves is sent to its own server alone; it is whole or not there after a crash,
// and a crash in the middle of its renewal can end that sign-in. Errors go to
// stderr as what went wrong and then a hint. Exit codes: 0 done, 1 failed, 2 wrong
// usage. A signal ends the process, but where cli.UntilSignal says otherwise.
package main

import (
	"context"
	"os"
	_ "time/tzdata" // the hours of policies name zones, which a machine may not have

	"github.com/keyfold/keyfold/internal/cli"
)

func main() {
	a := &app{App: cli.App{Name: "keyfold", In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, getenv: os.Getenv}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}
