package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
)

func (a *app) signupCmd() *cobra.Command {
	var req api.SignUp
	var invited bool
	cmd := &cobra.Command{
		Use: "signup --email ADDRESS", Short: "Make an account, and sign in", Args: cobra.NoArgs,
		Long: `Make an account with a password, and sign in as keyfold login does. It gets an org of
its own, or joins the one that --invited is for: then you are asked for the text of
the invitation, which keyfold member invite has shown somebody. What is asked for is
typed unseen, or is a line of stdin each: the password, and then the invitation.

A password has 12 characters or more, upper and lower case, a digit and a special
character, and no three equal or sequential ones in a row. Whether a server admits
new accounts at all is its own matter.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.keepSignIn(ctx, func(c *client.Client) (saved credential, err error) {
				if req.Password, err = a.newPassword(ctx); err != nil {
					return saved, err
				}
				if invited {
					if req.Invitation, err = a.askSecret(ctx, "Invitation"); err != nil {
						return saved, err
					}
				}
				t, err := c.SignUp(ctx, req)
				saved.setToken(t)
				return saved, err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Email, "email", "", "of the account; an invitation is for one email")
	f.StringVar(&req.DisplayName, "name", "", "how others see you")
	f.StringVar(&req.OrgName, "org", "", "name of your new org")
	f.BoolVar(&invited, "invited", false, "join an org by an invitation, which is asked for")
	cmd.MarkFlagsMutuallyExclusive("org", "invited")
	_ = cmd.MarkFlagRequired("email")
	return cmd
}

// newPassword asks for a password that is typed for the first time.
func (a *app) newPassword(ctx context.Context) (string, error) {
	return a.newSecret(ctx, "Password")
}
