package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/cmek"
)

// app is one run of the command line.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string

	// Global flags.
	url, apiKey string
	json        bool
	cmekKeyFile string // of the commands that have --cmek-key-file

	keyOnce sync.Once // guards the making of key and keyErr
	key     *cmek.Key
	keyErr  error

	started bool   // flags and arguments were right, the command ran
	atEnd   func() // closes the client's connections; nil: none were made
}

// run runs args and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if a.atEnd != nil {
		a.atEnd()
	}
	if err == nil {
		return exitDone
	}
	if _, told := errors.AsType[*failure](err); !told && !a.started {
		err = usagef("%w", err)
	}
	return a.report(cmd, err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "keyfold",
		Short: "Secrets and conversations, encrypted under keys that their keeper cannot use alone",
		Long: `Keyfold keeps secrets in vaults and messages in threads, encrypted.

Try it:            keyfold dev
Where and who:     KEYFOLD_URL, KEYFOLD_API_KEY; without both, the development
                   server of ./keyfold-data (KEYFOLD_DATA) when there is one
Default vault:     KEYFOLD_VAULT, used where VAULT is left out
The CMEK key:      --cmek-key-file, KEYFOLD_CMEK_KEY (base64), KEYFOLD_CMEK_KEY_FILE
                   or ONECLAW_CMEK_KEY, the first that is set
Exit codes:        0 done, 1 failed, 2 wrong usage`,
		Version:          version(),
		SilenceUsage:     true,
		SilenceErrors:    true,
		PersistentPreRun: func(*cobra.Command, []string) { a.started = true; a.warnOfFlags() },
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	f := root.PersistentFlags()
	f.StringVar(&a.url, "url", "", "server, such as http://127.0.0.1:7420 (env KEYFOLD_URL)")
	f.StringVar(&a.apiKey, "api-key", "", "API key; prefer the environment, arguments can be seen by others (env KEYFOLD_API_KEY)")
	f.BoolVar(&a.json, "json", false, "JSON for machines instead of text for people")
	root.AddCommand(a.devCmd(), a.vaultCmd(), a.secretCmd(), a.cmekCmd(), a.threadCmd(), a.messageCmd(), a.adminCmd())
	return root
}

func (a *app) warnOfFlags() {
	if a.apiKey != "" {
		a.warn("--api-key can be seen in the list of processes; set KEYFOLD_API_KEY instead")
	}
}

func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.err, "keyfold: warning: "+format+"\n", args...)
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s needs a command", cmd.CommandPath())
		}
		err := usagef("%q is not a command of %s", args[0], cmd.CommandPath())
		if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
			return advise(err, cmd.CommandPath()+" "+strings.Join(s, ", or "))
		}
		return err
	}}
	g.AddCommand(commands...)
	return g
}
