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

var plans = []string{"free", "pro", "business", "enterprise"}

func (a *app) planCmd() *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use: "plan ORG PLAN", Short: "Give an org a plan: " + strings.Join(plans, ", "), Args: cobra.ExactArgs(2),
		Long: `Give an org a plan. Its plan says how many vaults, secrets and agents it can make
and whether it can use customer-managed keys (business and enterprise). What it has
made already stays. The ID of your own org: keyfold whoami.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.SetBillingTier{Tier: args[1]}
			if !slices.Contains(plans, req.Tier) {
				return cli.Usagef("a plan is one of %s, not %q", strings.Join(plans, ", "), req.Tier)
			}
			if cmd.Flags().Changed("days") {
				req.DurationDays = &days
			}
			return a.operates(func(ctx context.Context, c *client.Client, args []string) error {
				t, err := c.SetPlan(ctx, args[0], req)
				if err != nil {
					return onNotFound(err, "the ID of your own org is shown by: keyfold whoami")
				}
				return a.Table(t, [][]string{{"Org", t.OrgID}, {"Plan", t.Tier}, {"Ends", whenOrNever(t.ExpiresAt)}})
			})(cmd, args)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return plans, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().IntVar(&days, "days", 0, "for so many days (for good)")
	return cmd
}
