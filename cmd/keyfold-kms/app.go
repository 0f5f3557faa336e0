package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/fault"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// app is one run of the command line.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	exit     func(int) // when the store fails in the middle of its work

	flags      settings // what the flags set
	configFile string
	json       bool

	set     settings // flags over environment over configuration file
	started bool     // flags and arguments were right, the command ran
}

// run runs args and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if _, told := errors.AsType[*failure](err); !told && !a.started {
		err = usagef("%w", err)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	return a.report(cmd, err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "keyfold-kms",
		Short: "Keyfold's key process",
		Long: `The keys of a Keyfold: KEKs and the DEKs of threads, under a root key.

Begin:             keyfold-kms init --data-dir DIR; keyfold-kms serve --data-dir DIR
Settings:          flags, over KEYFOLD_KMS_* in the environment, over --config FILE
A running process: at --endpoint, or at the socket kms.sock beside --data-dir
Over TCP:          --endpoint HOST:PORT --cert FILE --key FILE --ca FILE
Exit codes:        0 done, 1 failed, 2 wrong usage`,
		Version:           version(),
		SilenceUsage:      true,
		SilenceErrors:     true,
		Args:              cobra.NoArgs,
		RunE:              func(*cobra.Command, []string) error { return usagef("a command is missing") },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.settle(cmd) },
	}
	a.addFlags(root)
	root.AddCommand(a.initCmd(), a.serveCmd(), a.statusCmd(), a.keysCmd(), a.rotateCmd(), a.destroyCmd(), a.shredCmd(),
		a.jobsCmd(), a.auditCmd(), a.exportCmd(), a.backupCmd(), a.restoreCmd())
	return root
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s needs a command", cmd.CommandPath())
		}
		return usagef("%q is not a command of %s", args[0], cmd.CommandPath())
	}}
	g.AddCommand(commands...)
	return g
}

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
	if f, ok := errors.AsType[*failure](err); ok && f.hint != "" {
		return err
	}
	return &failure{err: err, hint: hint}
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
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(a.err, "keyfold-kms: %s\n", printable(line))
	}
	if hint != "" {
		fmt.Fprintf(a.err, "hint: %s\n", printable(hint))
	}
	if f.usage {
		return exitUsage
	}
	return exitFailed
}

// onCode is advise for an error of that code.
func onCode(err error, code fault.Code, hint string) error {
	if errors.Is(err, code) {
		return advise(err, hint)
	}
	return err
}

// version is that of the module, as the build has it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
