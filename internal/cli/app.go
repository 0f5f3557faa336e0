// Package cli is what Keyfold's command lines have in common: how a run begins
// and ends, what it prints, and how it writes a file.
//
// A run prints answers to stdout, and to stderr what went wrong and then a hint
// of what to do. It trusts its arguments and nothing that it prints: names and
// messages come from other people, and none of them steers a terminal. A file is
// whole and on stable storage, or not there; a crash leaves at most a file
// .keyfold-* beside it.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// App is one run of a command line.
type App struct {
	Name     string // begins each line to Err
	In       io.Reader
	Out, Err io.Writer
	JSON     bool // --json, which Run gives to every command

	// Explain, if not nil, returns the text of an error for people, and a hint
	// for one that has none of its own, or "".
	Explain func(error) (text, hint string)
}

// Run runs args and returns the exit code. An error from before a command's own
// RunE is one of usage.
func (a *App) Run(ctx context.Context, root *cobra.Command, args []string) int {
	root.Version, root.SilenceUsage, root.SilenceErrors = Version(), true, true
	root.PersistentFlags().BoolVar(&a.JSON, "json", false, "JSON for machines instead of text for people")
	root.SetArgs(args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.InitDefaultCompletionCmd(args...) // so that begins sees it
	begun := false
	begins(root, &begun)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitDone
	}
	f, told := errors.AsType[*failure](err)
	if !told && !begun {
		f = &failure{error: err, usage: true}
		err = f
	}
	if f != nil && f.usage {
		err = Advise(err, cmd.CommandPath()+" --help")
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	return a.Fail(err)
}

// begins has cmd and the commands below set begun when they run.
func begins(cmd *cobra.Command, begun *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error { *begun = true; return run(cmd, args) }
	}
	for _, c := range cmd.Commands() {
		begins(c, begun)
	}
}

// Group is a command that only holds others.
func Group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return Usagef("%s needs a command", cmd.CommandPath())
		}
		err := Usagef("%q is not a command of %s", args[0], cmd.CommandPath())
		if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
			return Advise(err, cmd.CommandPath()+" "+strings.Join(s, ", or "))
		}
		return err
	}}
	g.AddCommand(commands...)
	return g
}

// version is set where a build has no history to find it in:
// -ldflags "-X github.com/keyfold/keyfold/internal/cli.version=v1.2.3".
var version string

// Version is what the build was told, or else that of the module, as the build has it.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// UntilSignal is for work that must not end half way: it returns a context that
// the first Ctrl-C or SIGTERM ends. The second ends the process, as the first
// does wherever nobody has called this.
func UntilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
