package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) totpCmd() *cobra.Command {
	return cli.Group("totp", "The second factor of your account", a.totpEnableCmd(), a.totpDisableCmd())
}

func (a *app) totpEnableCmd() *cobra.Command {
	return &cobra.Command{
		Use: "enable", Short: "Ask for a code of an app at each sign-in with your password", Args: cobra.NoArgs,
		Long: `Ask for a code of an authenticator app at each sign-in with your password. You are
asked for your password, are shown a secret to enter in the app, and are asked for
a code of the app. Then come ten recovery codes, which work once each in place of the
app's: keep them apart from it. With --json that is two objects on stdout.`,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			password, err := a.askSecret(ctx, "Password")
			if err != nil {
				return err
			}
			factor, err := c.BeginTOTP(ctx, password)
			if err != nil {
				return mistyped(err)
			}
			if err := a.Table(factor, [][]string{{"Secret", factor.Secret}, {"Link", factor.OTPAuthURI}}); err != nil {
				return err
			}
			code, err := a.askSecret(ctx, "Code that the app shows")
			if err != nil {
				return cli.Advise(err, "nothing has changed; begin again: keyfold totp enable")
			}
			codes, err := c.ConfirmTOTP(ctx, code)
			if err != nil {
				return cli.Advise(err, "nothing has changed; begin again: keyfold totp enable")
			}
			return a.printRecoveryCodes(codes)
		}),
	}
}

func (a *app) printRecoveryCodes(codes []string) error {
	rows := [][]string{}
	for _, code := range codes {
		rows = append(rows, []string{"Recovery code", code})
	}
	return a.Table(struct {
		Codes []string `json:"recovery_codes"`
	}{codes}, rows)
}

func (a *app) totpDisableCmd() *cobra.Command {
	return &cobra.Command{
		Use: "disable", Short: "Ask for the password alone; needs a code of the app, or a recovery code", Args: cobra.NoArgs,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			code, err := a.askSecret(ctx, "Code that the app shows, or a recovery code")
			if err != nil {
				return err
			}
			if err := c.DisableTOTP(ctx, code); err != nil {
				return mistyped(err)
			}
			return a.Answer(struct {
				Enabled bool `json:"totp_enabled"`
			}{false}, "the second factor is off")
		}),
	}
}

// mistyped is for a 401 that may not be that of the credential.
func mistyped(err error) error {
	if client.IsUnauthenticated(err) {
		return cli.Advise(err, "check what you have typed; nothing has changed")
	}
	return err
}
