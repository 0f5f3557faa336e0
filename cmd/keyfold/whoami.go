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
func (a *app) whoHas(ctx context.Context, url string, saved credential) (whom, error) {
	key, options := saved.APIKey, []client.Option{client.WithUserAgent("keyfold-cli/1")}
	if saved.Access != "" {
		fixed := saved.token()
		fixed.Refresh = "" // which is the next command's
		key, options = "", append(options, client.WithToken(fixed))
	}
	c, err := client.New(url, key, options...)
	if err != nil {
		return whom{}, err
	}
	defer c.Close()
	who, err := whoIs(ctx, c, saved.APIKey != "" && saved.Access != "")
	who.URL = url
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
	Revoked bool   `json:"revoked"`       // the token that was saved is dead
}

func (a *app) logoutCmd() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "End the sign-in of keyfold login, here and at the server", Args: cobra.NoArgs,
		Long: `End the sign-in of keyfold login: its token is dead at once, and config.json is
removed. An API key that was saved is removed too, but lives on: keyfold key delete,
or keyfold agent rotate-key, ends it.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.logout(cmd.Context()) },
	}
}

func (a *app) logout(ctx context.Context) error {
	saved, err := a.savedCredential()
	if errors.Is(err, fs.ErrNotExist) {
		return a.Answer(loggedOut{}, "you were not signed in")
	}
	dir, dirErr := a.configDir()
	if dirErr != nil {
		return dirErr
	}
	var told error
	if err == nil && saved.Access != "" { // not a file that others may have written
		told = a.endToken(ctx, saved)
	}
	if err := changeCredential(dir, func(credential) (credential, error) { return credential{}, nil }); err != nil {
		return err
	}
	if told != nil {
		return cli.Advise(fmt.Errorf("the sign-in was removed here, but %s could not be told: %w", saved.URL, told),
			"the token ends by itself soon; change your password to end it now")
	}
	return a.Answer(loggedOut{saved.URL, saved.Access != ""}, "signed out of %s", first(saved.URL, "the server"))
}

// endToken makes the saved token dead. One that is so already is as good.
func (a *app) endToken(ctx context.Context, saved credential) error {
	who, err := a.withSaved(saved)
	if err != nil {
		return err
	}
	c, err := a.client(who)
	if err != nil {
		return err
	}
	if err := c.Logout(ctx); !client.IsUnauthenticated(err) {
		return err
	}
	return nil
}
