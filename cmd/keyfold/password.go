package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) passwordCmd() *cobra.Command {
	return &cobra.Command{
		Use: "password", Short: "Change the password of your account", Args: cobra.NoArgs,
		Long: `Change the password of your account. You are asked for the present one and for the
new one, typed unseen or as two lines of stdin. All your sessions end, this machine's
once its present token runs out; API keys stay.`,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			current, err := a.askSecret(ctx, "Present password")
			if err != nil {
				return err
			}
			next, err := a.askSecret(ctx, "New password")
			if err != nil {
				return err
			}
			if err := c.ChangePassword(ctx, current, next); err != nil {
				return mistyped(err)
			}
			return a.Answer(struct {
				Changed bool `json:"password_changed"`
			}{true}, "your password is changed; sign in again with keyfold login")
		}),
	}
}

func (a *app) passkeyCmd() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List your passkeys, which are registered in a browser", Args: cobra.NoArgs,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			keys, err := c.Passkeys(ctx)
			if err != nil {
				return err
			}
			rows := [][]string{{"ID", "NAME", "STATE", "CREATED", "LAST USED"}}
			for _, k := range keys {
				state := "active"
				if k.CloneWarning {
					state = "copied" // it no longer signs in
				}
				rows = append(rows, []string{k.ID, k.Name, state, cli.When(k.CreatedAt), whenOrNever(k.LastUsedAt)})
			}
			return a.Table(api.Passkeys{Passkeys: append([]api.Passkey{}, keys...)}, rows)
		}),
	}
	return cli.Group("passkey", "The passkeys of your account", list,
		a.deleteCmd("PASSKEY", "End a passkey: it signs in no more", "see which there are: keyfold passkey list", (*client.Client).DeletePasskey))
}
