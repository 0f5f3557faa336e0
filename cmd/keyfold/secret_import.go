package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) secretImportCmd() *cobra.Command {
	var envFile, dir, prefix, secretType string
	var unsealed bool
	cmd := &cobra.Command{
		Use: "import [VAULT] (--env-file F | --dir D)", Short: "Write many secrets at once; safe to run again",
		Long: `Write the variables of an .env file, or the files of a directory, as secrets. A
value that the vault has already is left alone, so an import that was interrupted
is finished by the same command. To compare, each secret that exists is read once,
which uses up one read of those that --max-reads limits. When a CMEK key is given
and the vault is not sealed, nothing is sent but with --unsealed.

A name becomes a path: characters other than letters, digits, _ - / become _, and
what is no letter or digit is cut at both ends. The name itself is kept in the
metadata, as "file" or "env". Of two names with one path the first is taken.

--dir takes regular files and links to files, also from directories below; hidden
files and directories are skipped. --env-file takes a regular file of lines

  NAME=value      to the end of the line or a " #comment"; $NAME is expanded
  NAME="value"    over several lines too; \n \r \t \" \\ \$; $NAME is expanded
  NAME='value'    over several lines too; nothing is special

$NAME and ${NAME} stand for variables set earlier in the file; any other $ stays
as it is, and the environment is not looked at.`,
		Args: a.vaultArgs(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (envFile == "") == (dir == "") {
				return cli.Usagef("give one of --env-file and --dir")
			}
			vault := a.vault(args)
			src, err := readSource(envFile, dir, prefix)
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			im := importer{
				c: c, vault: vault, kind: src.kind, secretType: first(secretType, defaultTypes[src.kind]),
				key: a.cmekKey, unsealed: unsealed,
			}
			if err := im.prepare(cmd.Context(), prefix); err != nil {
				return onNotFound(err, listVaults)
			}
			return a.runImport(cmd.Context(), &im, src)
		},
	}
	f := cmd.Flags()
	f.StringVar(&envFile, "env-file", "", "import the variables of this file")
	f.StringVar(&dir, "dir", "", "import the files of this directory")
	f.StringVar(&prefix, "prefix", "", "put all paths under this one")
	f.StringVar(&secretType, "type", "", "type of the secrets (file for --dir, env for --env-file)")
	a.keyFlag(cmd)
	unsealedFlag(cmd, &unsealed)
	return cmd
}

var defaultTypes = map[string]string{"env": "env", "file": "file"}

func readSource(envFile, dir, prefix string) (source, error) {
	if dir != "" {
		return dirSource(dir, prefix)
	}
	return envSource(envFile, prefix)
}

// importSummary is what an import prints with --json.
type importSummary struct {
	Written   int       `json:"written"`
	Unchanged int       `json:"unchanged"`
	Skipped   []skipped `json:"skipped"`
	Failed    []skipped `json:"failed"`
	Left      int       `json:"left"` // not reached, after an interrupt or an error that stops everything
}

// runImport imports src and tells what came of it. Ctrl-C lets writes that are
// under way finish and begins no others.
func (a *app) runImport(ctx context.Context, im *importer, src source) error {
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	bar := a.Bar(len(src.items), "importing")
	results := make([]result, len(src.items))
	stopped := eachOf(ctx, len(src.items), importWorkers, func(ctx context.Context, i int) error {
		var err error
		results[i], err = im.one(ctx, src.items[i])
		bar.Add()
		return err
	})
	bar.End()
	sum := importSummary{Skipped: append([]skipped{}, src.skipped...), Failed: []skipped{}}
	for i, r := range results {
		sum.count(src.items[i].name, r)
	}
	if err := a.printSummary(sum); err != nil {
		return err
	}
	return sum.verdict(stopped)
}

func (s *importSummary) count(name string, r result) {
	switch r.state {
	case stateWritten:
		s.Written++
	case stateUnchanged:
		s.Unchanged++
	case stateSkipped:
		s.Skipped = append(s.Skipped, skipped{name, r.reason})
	case stateFailed:
		s.Failed = append(s.Failed, skipped{name, r.reason})
	default:
		s.Left++
	}
}

func (a *app) printSummary(s importSummary) error {
	if a.JSON {
		return a.PrintJSON(s)
	}
	for _, x := range s.Skipped {
		fmt.Fprintf(a.Out, "skipped %s: %s\n", cli.Printable(x.Name), cli.Printable(x.Reason))
	}
	for _, x := range s.Failed {
		fmt.Fprintf(a.Out, "failed %s: %s\n", cli.Printable(x.Name), cli.Printable(x.Reason))
	}
	_, err := fmt.Fprintf(a.Out, "%d written, %d unchanged, %d skipped, %d failed\n", s.Written, s.Unchanged, len(s.Skipped), len(s.Failed))
	return err
}

// verdict is the command's error, if any.
func (s importSummary) verdict(stopped error) error {
	const again = "run the same command again to go on; what is there already is left alone"
	switch {
	case errors.Is(stopped, context.Canceled):
		return cli.Advise(fmt.Errorf("interrupted with %d left", s.Left), again)
	case stopped != nil:
		var key *client.KeyError
		if errors.As(stopped, &key) || client.IsUnauthenticated(stopped) {
			return stopped // their own hints help more
		}
		return cli.Advise(fmt.Errorf("stopped with %d left: %w", s.Left, stopped), again)
	case len(s.Failed) > 0:
		return cli.Advise(fmt.Errorf("%d were not imported", len(s.Failed)), again)
	}
	return nil
}
