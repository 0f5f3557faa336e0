package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

const listAgents = "see which there are: keyfold agent list"

func (a *app) agentCmd() *cobra.Command {
	return cli.Group("agent", "Programs that act for the org, each with a key of its own",
		a.agentCreateCmd(), a.agentListCmd(), a.agentGetCmd(), a.agentUpdateCmd(), a.agentRotateCmd(), a.agentDeleteCmd())
}

// agentFlags are those of create and update.
type agentFlags struct {
	description        string
	scopes, vaults     []string
	ttl                time.Duration
	expires, keyExpire string
}

func (g *agentFlags) define(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&g.description, "description", "", "what it is for")
	f.StringSliceVar(&g.scopes, "scope", nil, "glob of the secret paths that it can ever reach, such as 'prod/**' (what policies grant it)")
	f.StringSliceVar(&g.vaults, "vault", nil, "ID of a vault that it is bound to (any)")
	f.DurationVar(&g.ttl, "token-ttl", 0, "life of its tokens, such as 15m (1h)")
	f.StringVar(&g.expires, "expires", "", "when it ends: "+timeForms)
	f.StringVar(&g.keyExpire, "key-expires", "", "when its API key ends: "+timeForms)
}

func (a *app) agentCreateCmd() *cobra.Command {
	var g agentFlags
	var keyOut string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make an agent and show its API key, this once", Args: cobra.ExactArgs(1),
		Long: `Make an agent and show its API key, which cannot be had again; --key-out writes it
to a file instead. The agent may do nothing until a policy says so:

  keyfold policy create VAULT --agent ID --path 'prod/**' --permission read`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.CreateAgent{Name: args[0], Description: g.description, Scopes: g.scopes, VaultIDs: g.vaults, TokenTTLSeconds: g.seconds(cmd)}
			var err error
			if req.ExpiresAt, err = pointInTime("expires", g.expires); err != nil {
				return err
			}
			if req.APIKeyExpiresAt, err = pointInTime("key-expires", g.keyExpire); err != nil {
				return err
			}
			return a.showsKey(keyOut, func(c *client.Client) (shownKey, error) {
				made, err := c.CreateAgent(cmd.Context(), req)
				return shownKey{id: made.Agent.ID, key: made.APIKey, all: made, rest: made.Agent}, err
			})
		},
	}
	g.define(cmd)
	keyOutFlag(cmd, &keyOut)
	return cmd
}

func (a *app) agentListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List agents", Args: cobra.NoArgs,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			agents, err := c.Agents(ctx)
			if err != nil {
				return err
			}
			rows := [][]string{{"ID", "NAME", "STATE", "SCOPES", "VAULTS", "EXPIRES", "LAST ACTIVE"}}
			for _, g := range agents {
				rows = append(rows, []string{g.ID, g.Name, agentState(g), strings.Join(g.Scopes, " "), vaultCount(g), whenOrNever(g.ExpiresAt), whenOrNever(g.LastActiveAt)})
			}
			return a.Table(api.Agents{Agents: append([]api.Agent{}, agents...)}, rows)
		}),
	}
}

func agentState(g api.Agent) string {
	if g.IsActive {
		return "active"
	}
	return "inactive"
}

func vaultCount(g api.Agent) string {
	if len(g.VaultIDs) == 0 {
		return "any"
	}
	return fmt.Sprint(len(g.VaultIDs))
}

func (a *app) agentGetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "get AGENT", Short: "Show an agent", Args: cobra.ExactArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			g, err := c.Agent(ctx, args[0])
			if err != nil {
				return onNotFound(err, listAgents)
			}
			return a.printAgent(g)
		}),
	}
}

func (a *app) printAgent(g api.Agent) error {
	vaults := "any"
	if len(g.VaultIDs) > 0 {
		vaults = strings.Join(g.VaultIDs, " ")
	}
	return a.Table(g, [][]string{{"ID", g.ID}, {"Name", g.Name}, {"Description", g.Description}, {"State", agentState(g)},
		{"Scopes", first(strings.Join(g.Scopes, " "), "what policies grant")}, {"Vaults", vaults},
		{"Token TTL", (time.Duration(g.TokenTTLSeconds) * time.Second).String()},
		{"Created", cli.When(g.CreatedAt)}, {"Expires", whenOrNever(g.ExpiresAt)}, {"Last active", whenOrNever(g.LastActiveAt)}})
}

func (a *app) agentUpdateCmd() *cobra.Command {
	var g agentFlags
	var name string
	var active bool
	cmd := &cobra.Command{
		Use: "update AGENT", Short: "Change an agent; --active=false ends its tokens at once", Args: cobra.ExactArgs(1),
		Long: `Change what the flags name of an agent, and nothing else. An empty list, as in
--vault '', empties it. --active=false stops it at the next request.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := g.update(cmd)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("name") {
				req.Name = &name
			}
			if cmd.Flags().Changed("active") {
				req.IsActive = &active
			}
			if cmd.Flags().NFlag() == 0 {
				return cli.Usagef("nothing is to be changed")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			updated, err := c.UpdateAgent(cmd.Context(), args[0], req)
			if err != nil {
				return onNotFound(err, listAgents)
			}
			return a.printAgent(updated)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "another name")
	cmd.Flags().BoolVar(&active, "active", true, "whether it may do anything at all")
	g.define(cmd)
	return cmd
}

// update is what the flags that were given change.
func (g *agentFlags) update(cmd *cobra.Command) (req api.UpdateAgent, err error) {
	f := cmd.Flags()
	if f.Changed("description") {
		req.Description = &g.description
	}
	if f.Changed("scope") {
		req.Scopes = given(g.scopes)
	}
	if f.Changed("vault") {
		req.VaultIDs = given(g.vaults)
	}
	req.TokenTTLSeconds = g.seconds(cmd)
	if req.ExpiresAt, err = pointInTime("expires", g.expires); err != nil {
		return req, err
	}
	req.APIKeyExpiresAt, err = pointInTime("key-expires", g.keyExpire)
	return req, err
}

// seconds is --token-ttl; nil when it was not given.
func (g *agentFlags) seconds(cmd *cobra.Command) *int {
	if !cmd.Flags().Changed("token-ttl") {
		return nil
	}
	n := int(g.ttl / time.Second)
	return &n
}

// given is a list that was given, which empties what is there when it is empty.
func given(list []string) []string {
	kept := []string{}
	for _, s := range list {
		if s != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

func (a *app) agentRotateCmd() *cobra.Command {
	var keyOut string
	cmd := &cobra.Command{
		Use: "rotate-key AGENT", Short: "Give an agent another API key; the one before is dead at once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.showsKey(keyOut, func(c *client.Client) (shownKey, error) {
				key, err := c.RotateAgentKey(cmd.Context(), args[0])
				return shownKey{id: args[0], key: key, all: api.AgentKeyRotated{APIKey: key}, rest: rotated{args[0], true}}, onNotFound(err, listAgents)
			})
		},
	}
	keyOutFlag(cmd, &keyOut)
	return cmd
}

// rotated is what a rotation prints with --json and --key-out.
type rotated struct {
	ID      string `json:"id"`
	Rotated bool   `json:"rotated"`
}

func (a *app) agentDeleteCmd() *cobra.Command {
	return a.deleteCmd("AGENT", "Delete an agent; its key and its tokens are dead at once", listAgents, (*client.Client).DeleteAgent)
}

// deleteCmd is a command that deletes a thing by its ID.
func (a *app) deleteCmd(what, short, hint string, del func(*client.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{Use: "delete " + what, Short: short, Args: cobra.ExactArgs(1), RunE: a.calls(a.deletes(hint, del))}
}

// deletes deletes a thing by its ID.
func (a *app) deletes(hint string, del func(*client.Client, context.Context, string) error) func(context.Context, *client.Client, []string) error {
	return func(ctx context.Context, c *client.Client, args []string) error {
		if err := del(c, ctx, args[0]); err != nil {
			return onNotFound(err, hint)
		}
		return a.Answer(deleted{ID: args[0], Deleted: true}, "deleted %s", args[0])
	}
}
