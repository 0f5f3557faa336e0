package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) cmekEnableCmd() *cobra.Command {
	var opt client.EnableOptions
	cmd := &cobra.Command{
		Use: "enable [VAULT]", Short: "Seal a vault: from now on its values need the CMEK key", Args: a.vaultArgs(0),
		Long: `Seal a vault. Only the key's fingerprint is sent; the key stays here. Values
written from now on are sealed with it by the client. Values written before stay
as they are: write them again to seal them.

The vault keeps a key check: a value made of the key and the vault's ID that lets
clients refuse a wrong key before they write with it, and opens nothing. With
--bound, values are sealed for their vault and path, so that nobody can put one
at another's place; older clients than Keyfold's own do not read those.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			vault := a.vault(args)
			k, err := a.needCMEK(cmd.Context(), vault)
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			v, err := c.EnableCMEKWith(cmd.Context(), vault, k, opt)
			if e, ok := errors.AsType[*client.Error](err); ok && e.Status == http.StatusBadRequest {
				return cli.Advise(err, "see with which key: keyfold cmek status VAULT; for another: "+rotateCommand)
			}
			if err != nil {
				return onNotFound(err, listVaults)
			}
			a.warnOfLoss()
			return a.printVault(v)
		},
	}
	cmd.Flags().BoolVar(&opt.Bound, "bound", false, "bind each value to its vault and path")
	cmd.Flags().BoolVar(&opt.NoKeyCheck, "no-key-check", false, "keep no key check in the vault")
	a.keyFlag(cmd)
	return cmd
}

func (a *app) cmekDisableCmd() *cobra.Command {
	return &cobra.Command{
		Use: "disable [VAULT]", Short: "Stop sealing a vault: values written from now on are not sealed by the client", Args: a.vaultArgs(0),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			vault := a.vault(args)
			v, err := c.DisableCMEK(ctx, vault)
			if err != nil {
				return onNotFound(onProblem(err, api.ProblemCMEKRotating, cancelRotation), listVaults)
			}
			a.Note("warning: values written before still need their key: keep it")
			return a.printVault(v)
		}),
	}
}
