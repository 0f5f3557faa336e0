package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

const listPolicies = "see which there are: keyfold policy list VAULT"

func (a *app) policyCmd() *cobra.Command {
	return cli.Group("policy", "What users and agents may do in a vault",
		a.policyCreateCmd(), a.policyListCmd(), a.policyDeleteCmd())
}

// policyFlags are those of create.
type policyFlags struct {
	req             api.CreatePolicy
	user, agent     string
	deny            bool
	expires         string
	ips, days       []string
	hours, timezone string
}

func (a *app) policyCreateCmd() *cobra.Command {
	var p policyFlags
	cmd := &cobra.Command{
		Use:   "create [VAULT] --path GLOB (--user ID | --agent ID) --permission P",
		Short: "Say what a user or an agent may do with secrets of a vault, or may not", Args: a.vaultArgs(0),
		Long: `Say what a user or an agent may do with the secrets of a vault whose paths match a
glob, or may not (--deny). It counts from the next request on.

In a glob * is one segment of a path and ** any number of them. Of the policies
that match, the one of the highest --priority decides; of equal ones a denial does.
A policy whose conditions (--ip, --hours, --weekday) do not hold does not count.
Who created the vault is bound by none.

write includes delete and rotate; rotate is a value that the server makes.`,
		Example: `  keyfold policy create VAULT --agent AGENT --path 'prod/**' --permission read
  keyfold policy create VAULT --user USER --path '**' --permission read,write \
      --hours 08:00-18:00 --timezone Europe/Berlin --ip 10.0.0.0/8 --expires 720h
  keyfold policy create VAULT --agent AGENT --path prod/root --permission read --deny --priority 10`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := p.request()
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			made, err := c.CreatePolicy(cmd.Context(), a.vault(args), req)
			if err != nil {
				return onNotFound(err, listVaults)
			}
			return a.Answer(made, "%s", made.ID)
		},
	}
	p.define(cmd)
	return cmd
}

func (p *policyFlags) define(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.req.SecretPathPattern, "path", "", "glob of secret paths, such as 'prod/**'")
	f.StringVar(&p.user, "user", "", "ID of the user that it is for")
	f.StringVar(&p.agent, "agent", "", "ID of the agent that it is for")
	f.StringSliceVar(&p.req.Permissions, "permission", nil, "one or more of "+strings.Join(api.PolicyPermissions, ", "))
	f.BoolVar(&p.deny, "deny", false, "these are not allowed")
	f.IntVar(&p.req.Priority, "priority", 0, "the greater goes before the less")
	f.StringVar(&p.expires, "expires", "", "when it stops to count: "+timeForms)
	f.StringSliceVar(&p.ips, "ip", nil, "address or range that it counts from, such as 10.0.0.0/8 (any)")
	f.StringVar(&p.hours, "hours", "", "when it counts, such as 08:00-18:00, or 22:00-06:00 over midnight (always)")
	f.StringSliceVar(&p.days, "weekday", nil, "on which days, such as mon,tue (all)")
	f.StringVar(&p.timezone, "timezone", "", "of --hours and --weekday, such as Europe/Berlin (UTC)")
	cmd.MarkFlagsOneRequired("user", "agent")
	cmd.MarkFlagsMutuallyExclusive("user", "agent")
	_ = cmd.MarkFlagRequired("path")
	_ = cmd.MarkFlagRequired("permission")
	_ = cmd.RegisterFlagCompletionFunc("permission", cobra.FixedCompletions(api.PolicyPermissions, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("weekday", cobra.FixedCompletions([]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}, cobra.ShellCompDirectiveNoFileComp))
}

func (p *policyFlags) request() (req api.CreatePolicy, err error) {
	req = p.req
	req.PrincipalType, req.PrincipalID = "user", p.user
	if p.agent != "" {
		req.PrincipalType, req.PrincipalID = "agent", p.agent
	}
	if p.deny {
		req.Effect = "deny"
	}
	if req.ExpiresAt, err = pointInTime("expires", p.expires); err != nil {
		return req, err
	}
	req.Conditions, err = p.conditions()
	return req, err
}

// conditions is what the flags say as a policy's conditions; nil: none.
func (p *policyFlags) conditions() (json.RawMessage, error) {
	cond := api.PolicyConditions{IPAllowlist: p.ips}
	if p.hours != "" || len(p.days) > 0 {
		w := api.TimeWindow{Timezone: p.timezone, Weekdays: p.days}
		if p.hours != "" {
			var ok bool
			if w.After, w.Before, ok = strings.Cut(p.hours, "-"); !ok || !clock(w.After) || !clock(w.Before) {
				return nil, cli.Usagef("--hours wants two times of the day like 08:00-18:00")
			}
		}
		cond.TimeWindow = &w
	} else if p.timezone != "" {
		return nil, cli.Usagef("--timezone is that of --hours and --weekday; give one of these too")
	}
	if cond.TimeWindow == nil && len(cond.IPAllowlist) == 0 {
		return nil, nil
	}
	return json.Marshal(cond)
}

func clock(s string) bool { _, err := time.Parse("15:04", s); return err == nil && len(s) == 5 }

func (a *app) policyListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list [VAULT]", Short: "List the policies of a vault", Args: a.vaultArgs(0),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			policies, err := c.Policies(ctx, a.vault(args))
			if err != nil {
				return onNotFound(err, listVaults)
			}
			rows := [][]string{{"ID", "PRINCIPAL", "PATH", "EFFECT", "PERMISSIONS", "PRIORITY", "CONDITIONS", "EXPIRES"}}
			for _, p := range policies {
				rows = append(rows, []string{p.ID, p.PrincipalType + ":" + p.PrincipalID, p.SecretPathPattern, first(p.Effect, "allow"),
					strings.Join(p.Permissions, ","), strconv.Itoa(p.Priority), conditionsText(p.Conditions), whenOrNever(p.ExpiresAt)})
			}
			return a.Table(api.Policies{Policies: append([]api.Policy{}, policies...)}, rows)
		}),
	}
}

// conditionsText is a policy's conditions for people; what is not known here is
// shown as it is.
func conditionsText(raw json.RawMessage) string {
	var c api.PolicyConditions
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if len(raw) == 0 || dec.Decode(&c) != nil || len(c.EnvironmentIn) > 0 {
		return string(raw)
	}
	var parts []string
	if len(c.IPAllowlist) > 0 {
		parts = append(parts, "from "+strings.Join(c.IPAllowlist, ","))
	}
	if w := c.TimeWindow; w != nil {
		hours := ""
		if w.After != "" || w.Before != "" {
			hours = w.After + "-" + w.Before
		}
		parts = append(parts, strings.Join(strings.Fields(hours+" "+strings.Join(w.Weekdays, ",")+" "+first(w.Timezone, "UTC")), " "))
	}
	return strings.Join(parts, "; ")
}

func (a *app) policyDeleteCmd() *cobra.Command {
	return &cobra.Command{
		Use: "delete [VAULT] POLICY", Short: "Take a policy away, from the next request on", Args: a.vaultArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			vault, id := a.vaultAndPath(args)
			if err := c.DeletePolicy(ctx, vault, id); err != nil {
				return onNotFound(err, listPolicies)
			}
			return a.Answer(deleted{ID: id, Deleted: true}, "deleted %s", id)
		}),
	}
}
