package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// app is one run of the command line.
type app struct {
	cli.App
	getenv func(string) string

	flags      settings // what the flags set
	configFile string
	set        settings       // flags over environment over configuration file
	store      storespec.Spec // of set; none: in the data directory
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
		Args:              cobra.NoArgs,
		RunE:              func(*cobra.Command, []string) error { return cli.Usagef("a command is missing") },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.settle(cmd) },
	}
	a.addFlags(root)
	root.AddCommand(a.initCmd(), a.serveCmd(), a.statusCmd(), a.readyCmd(), a.keysCmd(), a.rotateCmd(), a.destroyCmd(), a.shredCmd(),
		a.cmekCmd(), a.jobsCmd(), a.auditCmd(), a.exportCmd(), a.backupCmd(), a.restoreCmd())
	return root
}

// onCode is cli.Advise for an error of that code.
func onCode(err error, code fault.Code, hint string) error {
	if errors.Is(err, code) {
		return cli.Advise(err, hint)
	}
	return err
}
