// Command keyfold-kms keeps the keys. In this version the key process runs
// inside the server; this command makes its directory and shows what lies in
// it while the server is stopped.
//
// It owns flags and output. It never prints key material. Exit codes: 0 done,
// 1 failed, 2 wrong usage.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	os.Exit(a.run(ctx, os.Args[1:]))
}

// app is one run of the command line.
type app struct {
	out, err io.Writer
	getenv   func(string) string

	dataDir, root string
	json          bool
	started       bool // flags and arguments were right, the command ran
}

// run runs args and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	cmd := a.command()
	cmd.SetArgs(args)
	cmd.SetOut(a.out)
	cmd.SetErr(a.err)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(a.err, "keyfold-kms: %v\n", err)
	if !a.started {
		fmt.Fprintln(a.err, "hint: keyfold-kms --help")
		return 2
	}
	return 1
}

func (a *app) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keyfold-kms",
		Short: "Keyfold's keys",
		Long: `The keys of a Keyfold: KEKs and the DEKs of threads, under a root key.

The server of this version has the key process inside; "keys" needs it stopped.
For a development server: keyfold-kms keys --data-dir keyfold-data/kms`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(*cobra.Command, []string) error { return fmt.Errorf("a command is missing: init or keys") },
	}
	f := cmd.PersistentFlags()
	f.StringVar(&a.dataDir, "data-dir", a.getenv("KEYFOLD_KMS_DATA_DIR"), "directory of the key store (env KEYFOLD_KMS_DATA_DIR)")
	f.StringVar(&a.root, "root", a.getenv("KEYFOLD_KMS_ROOT"), "file:PATH of the root key; root.key beside the data directory when empty (env KEYFOLD_KMS_ROOT)")
	f.BoolVar(&a.json, "json", false, "JSON for machines instead of text for people")
	cmd.AddCommand(
		&cobra.Command{Use: "init", Short: "Make a root key and an empty key store", Args: cobra.NoArgs, RunE: a.runs(a.init)},
		&cobra.Command{Use: "keys", Short: "List KEKs with their versions and states, and count the DEKs; never material", Args: cobra.NoArgs, RunE: a.runs(a.keys)},
	)
	return cmd
}

// runs wraps do: the flags that every command needs are checked first.
func (a *app) runs(do func(context.Context, string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if a.dataDir == "" {
			return fmt.Errorf("name the key store: --data-dir DIR")
		}
		root, err := a.rootFile()
		if err != nil {
			return err
		}
		a.started = true
		return do(cmd.Context(), root)
	}
}

// rootFile returns the path of the root key.
func (a *app) rootFile() (string, error) {
	if a.root == "" {
		return filepath.Join(filepath.Dir(filepath.Clean(a.dataDir)), "root.key"), nil
	}
	path, ok := strings.CutPrefix(a.root, "file:")
	if !ok || path == "" {
		return "", fmt.Errorf("this version knows roots of the form file:PATH, not %q", a.root)
	}
	return path, nil
}
