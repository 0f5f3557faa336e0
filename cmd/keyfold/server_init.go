package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/config"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/password"
)

func (a *app) serverInitCmd(file *string) *cobra.Command {
	var req api.SignUp
	var keyOut string
	cmd := &cobra.Command{
		Use: "init --email ADDRESS", Short: "Make the first org, its owner and the operator's key",
		Long: `Make the first org of a server, its owner with a password, and the admin key with
which the operator runs the server. The key is shown this once. The password is asked
for, typed unseen or a line of stdin; or it is in KEYFOLD_PASSWORD, or in the file
that KEYFOLD_PASSWORD_FILE names. The org has the plan default_plan.

The server must not be running, and the key process must. Where somebody has an
account already nothing is done.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, err := a.settled(cmd.Context(), *file)
			if err != nil {
				return err
			}
			if req.Password, err = a.firstPassword(cmd.Context()); err != nil { // which one signal ends
				return err
			}
			return runs(cmd.Context(), func(ctx context.Context, onFailure func(error)) error {
				return a.serverInit(ctx, s, keyOut, req, onFailure)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Email, "email", "", "of the owner, who signs in by it")
	f.StringVar(&req.OrgName, "org", "", "name of the org; the email when empty")
	keyOutFlag(cmd, &keyOut)
	_ = cmd.MarkFlagRequired("email")
	return cmd
}

func (a *app) serverInit(ctx context.Context, s serverSettings, keyOut string, req api.SignUp, onFailure func(error)) (err error) {
	node, err := s.open(ctx, s.Log.Logger(a.Err), nil, onFailure)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeNode(node)) }()
	return a.showsKeyOf(nil, keyOut, func(*client.Client) (shownKey, error) {
		made, err := node.Identity.Found(ctx, req)
		if errors.Is(err, fault.Unavailable) {
			err = cli.Advise(err, "is the key process running at "+s.KMS.URL+"?")
		}
		return founded(made), err
	})
}

// founded is what init prints.
func founded(made identity.Founded) shownKey {
	type rest struct {
		OrgID      string `json:"org_id"`
		Email      string `json:"email"`
		AdminKeyID string `json:"admin_key_id"`
	}
	r := rest{made.OrgID, made.Email, made.KeyID}
	return shownKey{what: "Admin key", id: made.KeyID, key: made.AdminKey, rest: r, all: struct {
		rest
		AdminKey string `json:"admin_key"`
	}{r, made.AdminKey}}
}

// firstPassword is the owner's, from the environment or asked for, and good
// enough.
func (a *app) firstPassword(ctx context.Context) (string, error) {
	var given struct {
		Password config.Secret `env:"KEYFOLD_PASSWORD"`
	}
	if err := config.Load(&given, "", a.getenv); err != nil {
		return "", cli.Usagef("%w", err)
	}
	text := string(given.Password)
	if text == "" {
		var err error
		if text, err = a.newPassword(ctx); err != nil {
			return "", err
		}
	}
	return text, password.Check(text)
}
