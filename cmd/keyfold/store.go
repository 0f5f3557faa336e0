package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/config"
	"github.com/keyfold/keyfold/internal/store/storespec"
	"github.com/keyfold/keyfold/internal/storecopy"
)

func (a *app) storeCmd() *cobra.Command {
	return cli.Group("store", "Move what a server or a key process keeps", a.storeCopyCmd())
}

// copyEnds are the two stores of a copy, as the environment has them.
type copyEnds struct {
	From config.Secret `env:"KEYFOLD_COPY_FROM"`
	To   config.Secret `env:"KEYFOLD_COPY_TO"`
}

func (a *app) storeCopyCmd() *cobra.Command {
	var from, to string
	var keys bool
	cmd := &cobra.Command{
		Use: "copy --from STORE --to STORE", Short: "Copy one store into another and prove that both hold the same",
		Long: `Copy the store of a server, or with --keys that of a key process, into an empty one,
and prove that both hold the same: all of the target is read back, and all of the
source once more. A STORE is pebble:DIR or postgres://USER@HOST/DATABASE; a server's
is the directory server of its data directory unless its settings say otherwise. One
with a password belongs in KEYFOLD_COPY_FROM or KEYFOLD_COPY_TO, or in the file that
KEYFOLD_COPY_FROM_FILE or KEYFOLD_COPY_TO_FILE names.

End everything that uses the source before, and start nothing on it afterwards. A copy
that was cut off goes on where it was when the same is run again; until it is done no
server and no key process starts on the target.`,
		Example: `  keyfold store copy --from pebble:/var/lib/keyfold/server --to postgres://keyfold@db/keyfold
  keyfold store copy --keys --from pebble:/var/lib/keyfold-kms/kms --to postgres://keyfold@db/keys`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var env copyEnds
			if err := config.Load(&env, "", a.getenv); err != nil {
				return cli.Usagef("%w", err)
			}
			source, err := copyEnd("--from", from, env.From)
			if err != nil {
				return err
			}
			target, err := copyEnd("--to", to, env.To)
			if err != nil {
				return err
			}
			if source == target {
				return cli.Usagef("--from and --to are the same store: %s", source)
			}
			return runs(cmd.Context(), func(ctx context.Context, onFailure func(error)) error {
				return a.storeCopy(ctx, source, target, keys, onFailure)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "the store that has the data (env KEYFOLD_COPY_FROM)")
	f.StringVar(&to, "to", "", "an empty store, or an unfinished copy of the other (env KEYFOLD_COPY_TO)")
	f.BoolVar(&keys, "keys", false, "copy the store of a key process, not that of a server")
	return cmd
}

// copyEnd is the store that flag or the environment names.
func copyEnd(flag, given string, env config.Secret) (storespec.Spec, error) {
	spec, err := storespec.Parse(first(given, string(env)))
	switch {
	case err != nil:
		return spec, cli.Usagef("%s: %w", flag, err)
	case spec.IsZero():
		return spec, cli.Usagef("name both stores: --from STORE --to STORE")
	}
	return spec.Absolute()
}

func (a *app) storeCopy(ctx context.Context, source, target storespec.Spec, keys bool, onFailure func(error)) (err error) {
	if err := mustExist(ctx, source); err != nil {
		return err
	}
	if err := mayFill(target); err != nil {
		return err
	}
	from, err := source.OpenCopy(ctx, storespec.Options{OnFailure: onFailure})
	if err != nil {
		return inUse(err, "a server or a key process", source.String(), "end it; it must not run while its store is copied")
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := target.OpenCopy(ctx, storespec.Options{OnFailure: onFailure})
	if err != nil {
		return inUse(err, "another process", target.String(), "end it, or name an empty store")
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	progress, end := a.copyProgress()
	report, err := storecopy.Copy(ctx, storecopy.Config{From: from, To: to, Source: source.String(), Target: target.String(), Keys: keys, Progress: progress})
	end()
	switch {
	case err != nil && ctx.Err() != nil:
		return cli.Advise(errors.New("interrupted before the copy was whole"), "run the same again, which goes on where it was")
	case err != nil:
		return err
	}
	return a.copied(report, source, target, keys)
}

// mustExist refuses a directory that holds no store, rather than make one.
func mustExist(ctx context.Context, source storespec.Spec) error {
	if source.Dir() == "" {
		return nil
	}
	there, err := source.Exists(ctx)
	if err != nil || there {
		return err
	}
	err = fmt.Errorf("there is no store in %s", source.Dir())
	for _, name := range []string{"server", "kms"} {
		inside := storespec.InDir(filepath.Join(source.Dir(), name))
		if there, _ := inside.Exists(ctx); there {
			return cli.Advise(err, "did you mean "+inside.String()+"?")
		}
	}
	return err
}

// mayFill refuses a directory that holds other things than a store.
func mayFill(target storespec.Spec) error {
	if target.Dir() == "" {
		return nil
	}
	there, err := target.Exists(context.Background())
	if err != nil || there {
		return err
	}
	if files, _ := os.ReadDir(target.Dir()); len(files) > 0 {
		return fmt.Errorf("%s holds other things; name a new directory", target.Dir())
	}
	return nil
}

// copyProgress shows a bar for each phase of a copy.
func (a *app) copyProgress() (progress func(storecopy.Phase, int, int), end func()) {
	var phase storecopy.Phase
	var bar cli.Bar
	end = func() {
		if phase != "" {
			bar.End()
		}
	}
	return func(now storecopy.Phase, done, total int) {
		if now != phase {
			end()
			phase, bar = now, a.Bar(total, string(now))
		}
		bar.At(done, total)
	}, end
}

// copied says what is in both stores and what to do now.
func (a *app) copied(r storecopy.Report, source, target storespec.Spec, keys bool) error {
	if a.JSON {
		return a.PrintJSON(struct {
			From string `json:"from"`
			To   string `json:"to"`
			storecopy.Report
		}{source.String(), target.String(), r})
	}
	how, setting, who := "copied and read back", "KEYFOLD_STORE", "server"
	if r.Already {
		how = "were there already"
	}
	if keys {
		setting, who = "KEYFOLD_KMS_STORE", "key process"
	}
	_, err := fmt.Fprintf(a.Out, "%d records, %d bytes, SHA-256 %s: %s\n  from  %s\n  to    %s\nNow let %s of every %s name the new store, and start nothing on the old one any more.\n",
		r.Records, r.Bytes, r.SHA256, how, source, target, setting, who)
	return err
}
