package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

const listKeys = "see which there are: keyfold key list"

// keyRoles are what --role takes; user is a key of the caller's own.
var keyRoles = []string{"user", api.RoleBackend, api.RoleFrontend, api.RoleAdmin}

func (a *app) keyCmd() *cobra.Command {
	return cli.Group("key", "API keys: your own, the org's and the operator's",
		a.keyCreateCmd(), a.keyListCmd(), a.keyDeleteCmd())
}

func (a *app) keyCreateCmd() *cobra.Command {
	var req api.CreateAPIKey
	var role, expires, keyOut string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make an API key and show it, this once", Args: cobra.ExactArgs(1),
		Long: `Make an API key and show it, which happens this once; --key-out writes it to a
file instead. What it may do follows from its role:

  user      what you may, within --scope; for your own scripts
  backend   threads and messages of the users that your product's server names
  frontend  threads and messages of the user whose signed ID a browser sends
  admin     running this server, and nobody's data; needs an admin key to make`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(keyRoles, role) {
				return cli.Usagef("--role is one of %s, not %q", strings.Join(keyRoles, ", "), role)
			}
			var err error
			if req.ExpiresAt, err = pointInTime("expires", expires); err != nil {
				return err
			}
			if req.Name = args[0]; role == api.RoleBackend || role == api.RoleFrontend {
				req.Role = role
			}
			connect, create := a.connect, (*client.Client).CreateAPIKey
			if role == api.RoleAdmin {
				connect, create = a.connectOperator, (*client.Client).CreateAdminKey
			}
			c, err := connect()
			if err != nil {
				return err
			}
			return a.showsKeyOf(c, keyOut, func(c *client.Client) (shownKey, error) {
				made, err := create(c, cmd.Context(), req)
				return shownKey{id: made.Key.ID, key: made.APIKey, all: made, rest: made.Key}, err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "user", "one of "+strings.Join(keyRoles, ", "))
	f.StringSliceVar(&req.Scopes, "scope", nil, "glob of the secret paths that a user's key can reach (all that you may)")
	f.StringVar(&expires, "expires", "", "when it ends: "+timeForms)
	keyOutFlag(cmd, &keyOut)
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(keyRoles, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) keyListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List API keys: your own, and the org's where you may make them", Args: cobra.NoArgs,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			keys, err := c.APIKeys(ctx)
			if err != nil {
				return err
			}
			return a.printKeys(keys)
		}),
	}
}

func (a *app) printKeys(keys []api.APIKey) error {
	rows := [][]string{{"ID", "NAME", "ROLE", "BEGINS", "SCOPES", "STATE", "EXPIRES", "LAST USED"}}
	for _, k := range keys {
		state := "active"
		if !k.IsActive {
			state = "expired"
		}
		rows = append(rows, []string{k.ID, k.Name, first(k.Role, "user"), k.KeyPrefix, strings.Join(k.Scopes, " "), state, whenOrNever(k.ExpiresAt), whenOrNever(k.LastUsedAt)})
	}
	return a.Table(api.APIKeys{Keys: append([]api.APIKey{}, keys...)}, rows)
}

func (a *app) keyDeleteCmd() *cobra.Command {
	return a.deleteCmd("KEY", "End an API key at once", listKeys, (*client.Client).DeleteAPIKey)
}
