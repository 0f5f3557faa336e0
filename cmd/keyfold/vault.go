package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

const listVaults = "see which there are: keyfold vault list"

func (a *app) vaultCmd() *cobra.Command {
	return cli.Group("vault", "Containers of secrets",
		a.vaultCreateCmd(), a.vaultListCmd(), a.vaultGetCmd(), a.vaultDeleteCmd())
}

func (a *app) vaultCreateCmd() *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a vault and print its ID", Args: cobra.ExactArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := c.CreateVault(ctx, api.CreateVault{Name: args[0], Description: description})
			if err != nil {
				return err
			}
			return a.Answer(v, "%s", v.ID)
		}),
	}
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	return cmd
}

func (a *app) vaultListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List vaults", Args: cobra.NoArgs,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			vaults, err := c.ListVaults(ctx)
			if err != nil {
				return err
			}
			rows := [][]string{{"ID", "NAME", "CMEK", "CREATED"}}
			for _, v := range vaults {
				rows = append(rows, []string{v.ID, v.Name, cmekState(v), cli.When(v.CreatedAt)})
			}
			return a.Table(api.Vaults{Vaults: append([]api.Vault{}, vaults...)}, rows)
		}),
	}
}

func (a *app) vaultGetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "get [VAULT]", Short: "Show a vault and its CMEK state", Args: a.vaultArgs(0),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			vault := a.vault(args)
			v, err := c.GetVault(ctx, vault)
			if err != nil {
				return onNotFound(err, listVaults)
			}
			return a.printVault(v)
		}),
	}
}

func (a *app) vaultDeleteCmd() *cobra.Command {
	return &cobra.Command{
		Use: "delete VAULT", Short: "Delete a vault and all its secrets, for good", Args: cobra.ExactArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.DeleteVault(ctx, args[0]); err != nil {
				return onNotFound(err, listVaults)
			}
			return a.Answer(deleted{ID: args[0], Deleted: true}, "deleted %s", args[0])
		}),
	}
}

// deleted is what a deletion prints with --json.
type deleted struct {
	ID      string `json:"id"`
	Deleted bool   `json:"deleted"`
}

func (a *app) printVault(v api.Vault) error {
	rows := [][]string{{"ID", v.ID}, {"Name", v.Name}, {"Description", v.Description}, {"Created", cli.When(v.CreatedAt)}, {"CMEK", cmekState(v)}}
	if v.CMEKEnabled {
		rows = append(rows, []string{"Fingerprint", v.CMEKFingerprint})
	}
	return a.Table(v, rows)
}

func cmekState(v api.Vault) string {
	if v.CMEKEnabled {
		return "enabled"
	}
	return "disabled"
}
