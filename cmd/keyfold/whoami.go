package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// whom is who a credential belongs to.
type whom struct {
	URL        string `json:"url"`
	Kind       string `json:"kind"` // user, agent, or key: of an org or an operator, and nobody's own
	ID         string `json:"id,omitempty"`
	Email      string `json:"email,omitempty"` // of a user
	Name       string `json:"name,omitempty"`
	OrgID      string `json:"org_id,omitempty"`
	Role       string `json:"role,omitempty"`       // of a user in the org
	Credential string `json:"credential,omitempty"` // where it is from
}

// name is how a person says it.
func (i whom) name() string {
	switch i.Kind {
	case "user":
		return fmt.Sprintf("%s, %s of org %s", first(i.Email, i.ID), i.Role, i.OrgID)
	case "agent":
		return fmt.Sprintf("the agent %s of org %s", first(i.Name, i.ID), i.OrgID)
	}
	return "an org's or operator's key"
}

// whoIs asks the server whom c calls for.
func whoIs(ctx context.Context, c *client.Client, agent bool) (whom, error) {
	if agent {
		self, err := c.AgentMe(ctx)
		return whom{Kind: "agent", ID: self.ID, Name: self.Name, OrgID: self.OrgID}, err
	}
	me, err := c.Me(ctx)
	if client.IsForbidden(err) {
		return whom{Kind: "key"}, nil
	}
	return whom{Kind: "user", ID: me.ID, Email: me.Email, Name: me.DisplayName, OrgID: me.OrgID, Role: me.Role}, err
}

// whoHas asks whose credential this is.
func (a *app) whoHas(ctx context.Context, saved credential) (whom, error) {
	key, options := saved.APIKey, []client.Option{client.WithUserAgent(userAgent)}
	if saved.Access != "" {
		fixed := saved.token()
		fixed.Refresh = "" // which is the next command's
		key, options = "", append(options, client.WithToken(fixed))
	}
	c, err := client.New(saved.URL, key, options...)
	if err != nil {
		return whom{}, err
	}
	defer c.Close()
	who, err := whoIs(ctx, c, saved.APIKey != "" && saved.Access != "")
	who.URL = saved.URL
	return who, refusedSignIn(err)
}

func (a *app) whoamiCmd() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show the server, and whom the commands act for there", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			who, err := a.caller(ownersKey)
			if err != nil {
				return err
			}
			c, err := a.client(who)
			if err != nil {
				return err
			}
			i, err := whoIs(cmd.Context(), c, who.agent)
			if err != nil {
				return err
			}
			i.URL, i.Credential = who.url, who.from
			rows := [][]string{{"Server", i.URL}, {"Kind", i.Kind}, {"ID", i.ID}, {"Email", i.Email}, {"Name", i.Name},
				{"Org", i.OrgID}, {"Role", i.Role}, {"Credential", i.Credential}}
			return a.Table(i, rows)
		},
	}
}

// loggedOut is what logout prints with --json.
type loggedOut struct {
	URL     string `json:"url,omitempty"` // of the server; absent: nothing was saved
	Revoked bool   `json:"revoked"`       // tokens are dead; an API key that was saved is not
}

func (a *app) logoutCmd() *cobra.Command {
	var everywhere bool
	cmd := &cobra.Command{
		Use: "logout", Short: "End the sign-in of keyfold login, here and at the server", Args: cobra.NoArgs,
		Long: `End the sign-in of keyfold login: its tokens are dead at once, and config.json is
removed. --everywhere ends your sign-ins on all other machines too. An API key that
was saved is removed here, but lives on: keyfold key delete, or keyfold agent
rotate-key, ends it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			end := (*client.Client).Logout
			if everywhere {
				end = (*client.Client).LogoutEverywhere
			}
			return a.logout(cmd.Context(), everywhere, end)
		},
	}
	cmd.Flags().BoolVar(&everywhere, "everywhere", false, "end all sessions of the user")
	return cmd
}

// logout has end end the saved sign-in if it is a session, or anyhow with always,
// and removes it.
func (a *app) logout(ctx context.Context, always bool, end func(*client.Client, context.Context) error) error {
	saved, err := a.savedCredential()
	if errors.Is(err, fs.ErrNotExist) {
		return a.Answer(loggedOut{}, "you were not signed in")
	}
	dir, dirErr := a.configDir()
	if dirErr != nil {
		return dirErr
	}
	var told error
	ends := err == nil && (always || saved.Access != "") // not a file that others may have written
	if ends {
		told = a.endSession(ctx, saved, end)
	}
	if err := changeCredential(dir, func(credential) (credential, error) { return credential{}, nil }); err != nil {
		return err
	}
	if told != nil {
		return cli.Advise(fmt.Errorf("the sign-in was removed here, but %s could not be told: %w", saved.URL, told),
			"to end it there too, sign in and run: keyfold logout --everywhere")
	}
	return a.Answer(loggedOut{saved.URL, ends}, "signed out of %s", first(saved.URL, "the server"))
}

// endSession makes the saved tokens dead. Those that are so already are as good.
func (a *app) endSession(ctx context.Context, saved credential, end func(*client.Client, context.Context) error) error {
	who, err := a.withSaved(saved)
	if err != nil {
		return err
	}
	c, err := a.client(who)
	if err != nil {
		return err
	}
	if err := end(c, ctx); !client.IsUnauthenticated(err) {
		return err
	}
	return nil
}
