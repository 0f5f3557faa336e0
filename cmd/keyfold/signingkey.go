package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) signingKeyCmd() *cobra.Command {
	return cli.Group("signing-key", "Secrets that sign the IDs of your product's users, for frontend keys",
		a.signingKeyCreateCmd(), a.signingKeyListCmd(),
		a.deleteCmd("SIGNING-KEY", "End a signing secret: what it has signed is refused", "see which there are: keyfold signing-key list", (*client.Client).DeleteSigningKey))
}

func (a *app) signingKeyCreateCmd() *cobra.Command {
	var keyOut string
	cmd := &cobra.Command{
		Use: "create", Short: "Make a signing secret and show it, this once", Args: cobra.NoArgs,
		Long: `Make a signing secret of the org and show it, which happens this once; --key-out
writes it to a file instead. The newest signs; those before it are taken until you
delete them, so that users who are signed in stay so.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.showsKey(keyOut, func(c *client.Client) (shownKey, error) {
				made, err := c.CreateSigningKey(cmd.Context())
				return shownKey{what: "Signing secret", id: made.SigningKey.ID, key: made.Secret, all: made, rest: made.SigningKey}, err
			})
		},
	}
	keyOutFlag(cmd, &keyOut)
	return cmd
}

func (a *app) signingKeyListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the org's signing secrets, oldest first: the last one signs", Args: cobra.NoArgs,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			keys, err := c.SigningKeys(ctx)
			if err != nil {
				return err
			}
			rows := [][]string{{"ID", "CREATED"}}
			for _, k := range keys {
				rows = append(rows, []string{k.ID, cli.When(k.CreatedAt)})
			}
			return a.Table(api.SigningKeys{SigningKeys: append([]api.SigningKey{}, keys...)}, rows)
		}),
	}
}
