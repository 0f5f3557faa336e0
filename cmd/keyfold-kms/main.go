// Command keyfold-kms is Keyfold's key process: the only holder of KEKs and
// threads' DEKs, and what its operator does with it.
//
// It owns flags, settings and output; "serve" runs package kmsnode, most other
// commands are one call of a running process through package kmsclient. It
// trusts its environment and the files that its operator names. It never prints
// key material. Errors go to stderr as what went wrong and then a hint. Exit
// codes: 0 done, 1 failed, 2 wrong usage. The first Ctrl-C or SIGTERM ends a
// command in order, the second at once.
package main

import (
	"context"
	"os"

	"github.com/keyfold/keyfold/internal/cli"
)

func main() {
	ctx, _ := cli.UntilSignal(context.Background())
	a := &app{App: cli.App{Name: "keyfold-kms", In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, getenv: os.Getenv}
	os.Exit(a.Run(ctx, a.root(), os.Args[1:]))
}
