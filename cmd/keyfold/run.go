package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// runWorkers is how many secrets are read at once.
const runWorkers = 8

type runFlags struct {
	vault, prefix string
	strip, keep   bool
}

func (a *app) runCmd() *cobra.Command {
	var r runFlags
	cmd := &cobra.Command{
		Use: "run --vault V [--prefix P] -- CMD...", Short: "Run a command with the secrets of a vault in its environment",
		Long: `Run a command with the newest versions of a vault's secrets in its environment. The
names of the variables are made of the paths: in upper case, with _ for / and -. So
db/password is DB_PASSWORD. Two paths that make one name are an error, and so is a
secret that cannot be read: the command then does not start. Values are never on a
command line. Each is read once, which counts where reads are limited.

The command takes the place of this one: signals reach it, and its exit code is the
one that you see. KEYFOLD_API_KEY and the CMEK key are taken out of its environment
unless --keep-credentials is given; it can still read what keyfold login has saved.

Who may write to the vault decides what is in the environment. Names that say which
programs and libraries are loaded, such as PATH and LD_PRELOAD, are refused.`,
		Example: `  keyfold run --vault VAULT -- ./server --port 8080
  keyfold run --vault VAULT --prefix prod/ --strip-prefix -- sh -c 'psql "$DATABASE_URL"'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runWith(cmd.Context(), r, args) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the command's name is the command's
	f.StringVar(&r.vault, "vault", "", "ID of the vault (env KEYFOLD_VAULT)")
	f.StringVar(&r.prefix, "prefix", "", "only paths that begin so, such as prod/")
	f.BoolVar(&r.strip, "strip-prefix", false, "leave the prefix out of the names")
	f.BoolVar(&r.keep, "keep-credentials", false, "leave Keyfold's own credentials in the environment")
	a.keyFlag(cmd)
	return cmd
}

// runWith reads the secrets and becomes the command. It returns only if it
// cannot.
func (a *app) runWith(ctx context.Context, r runFlags, args []string) error {
	if a.JSON {
		return cli.Usagef("run prints nothing of its own, so there is no --json; give the flags of the command after its name")
	}
	r.vault = first(r.vault, a.getenv("KEYFOLD_VAULT"))
	if r.vault == "" {
		return cli.Advise(cli.Usagef("say which vault: --vault VAULT"), "export KEYFOLD_VAULT=ID; the IDs are listed by: keyfold vault list")
	}
	program, err := exec.LookPath(args[0])
	if err != nil { // before a value is read, which may count
		return cli.Advise(fmt.Errorf("cannot run %q: %w", args[0], err), "check its name and PATH")
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	secrets, err := a.variables(ctx, c, r)
	if err != nil {
		return onNotFound(err, listVaults)
	}
	c.Close()
	return a.become(program, args, environment(os.Environ(), secrets, r.keep))
}

// become is the end of this program, but for an error.
func (a *app) become(program string, args, env []string) error {
	err := syscall.Exec(program, args, env)
	if errors.Is(err, syscall.E2BIG) {
		return cli.Advise(fmt.Errorf("cannot run %q: its environment would be larger than the system admits", args[0]),
			"take fewer secrets: --prefix; and write large ones to files: keyfold secret get --out")
	}
	return fmt.Errorf("cannot run %q: %w", args[0], err)
}

// variables reads the secrets of a vault, as "NAME=value" in the order of paths.
func (a *app) variables(ctx context.Context, c *client.Client, r runFlags) ([]string, error) {
	listed, err := c.List(ctx, r.vault, r.prefix)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(listed))
	for i, s := range listed {
		paths[i] = s.Path
	}
	if len(paths) == 0 {
		return nil, cli.Advise(fmt.Errorf("there is no secret in the vault whose path begins with %q, or none that you can see", r.prefix), listSecrets)
	}
	cut := ""
	if r.strip {
		cut = r.prefix
	}
	env, err := variableNames(paths, cut)
	if err != nil {
		return nil, err
	}
	err = eachOf(ctx, len(paths), runWorkers, func(ctx context.Context, i int) error {
		s, err := c.Get(ctx, r.vault, paths[i])
		switch {
		case err != nil:
			return fmt.Errorf("reading %s: %w", paths[i], err)
		case strings.ContainsRune(string(s.Value), 0):
			return cli.Advise(fmt.Errorf("the value of %s holds a zero byte, which no variable can", paths[i]), "leave it out by --prefix, and write it to a file: keyfold secret get --out")
		}
		env[i] += "=" + string(s.Value)
		return nil
	})
	return env, err
}
