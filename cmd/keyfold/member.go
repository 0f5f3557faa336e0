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

const listMembers = "see who is there: keyfold member list"

var memberRoles = []string{"member", "admin", "owner"}

func (a *app) memberCmd() *cobra.Command {
	return cli.Group("member", "People of the org, and invitations",
		a.memberListCmd(), a.memberInviteCmd(), a.memberRoleCmd(), a.memberRemoveCmd(),
		a.invitationsCmd(), a.uninviteCmd())
}

func (a *app) memberListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the people of the org", Args: cobra.NoArgs,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			members, err := c.Members(ctx)
			if err != nil {
				return err
			}
			rows := [][]string{{"ID", "EMAIL", "NAME", "ROLE", "SIGNS IN BY", "SINCE"}}
			for _, m := range members {
				rows = append(rows, []string{m.ID, m.Email, m.DisplayName, m.Role, m.AuthMethod, cli.When(m.CreatedAt)})
			}
			return a.Table(api.Members{Members: append([]api.Member{}, members...)}, rows)
		}),
	}
}

func (a *app) memberInviteCmd() *cobra.Command {
	var req api.CreateInvitation
	var expires string
	cmd := &cobra.Command{
		Use: "invite EMAIL", Short: "Make an invitation to the org and show its text, this once", Args: cobra.ExactArgs(1),
		Long: `Make an invitation to the org and show its text, which happens this once. No mail is
sent: pass it on yourself. Who signs up with it, and with this email, joins the org.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := roleOrUsage(req.Role); err != nil {
				return err
			}
			var err error
			if req.ExpiresAt, err = pointInTime("expires", expires); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			req.Email = args[0]
			made, err := c.Invite(cmd.Context(), req)
			if err != nil {
				return err
			}
			i := made.Invitation
			return a.Table(made, [][]string{{"ID", i.ID}, {"Email", i.Email}, {"Role", i.Role}, {"Expires", cli.When(i.ExpiresAt)}, {"Invitation", made.Text}})
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Role, "role", "member", "one of "+strings.Join(memberRoles, ", "))
	f.StringVar(&expires, "expires", "", "when it ends, within 30 days (7 days from now): "+timeForms)
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(memberRoles, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func roleOrUsage(role string) error {
	if !slices.Contains(memberRoles, role) {
		return cli.Usagef("a role is one of %s, not %q", strings.Join(memberRoles, ", "), role)
	}
	return nil
}

func (a *app) memberRoleCmd() *cobra.Command {
	return &cobra.Command{
		Use: "role USER ROLE", Short: "Make somebody " + strings.Join(memberRoles, ", "), Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := roleOrUsage(args[1]); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			m, err := c.SetRole(cmd.Context(), args[0], args[1])
			if err != nil {
				return onNotFound(err, listMembers)
			}
			return a.Answer(m, "%s is %s", first(m.Email, m.ID), m.Role)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return memberRoles, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func (a *app) memberRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use: "remove USER", Short: "Take somebody out of the org; what signs in as them is dead at once", Args: cobra.ExactArgs(1),
		RunE: a.calls(a.deletes(listMembers, (*client.Client).RemoveMember)),
	}
}

func (a *app) invitationsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "invitations", Short: "List the invitations that can still be used", Args: cobra.NoArgs,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			open, err := c.Invitations(ctx)
			if err != nil {
				return err
			}
			rows := [][]string{{"ID", "EMAIL", "ROLE", "INVITED BY", "EXPIRES"}}
			for _, i := range open {
				rows = append(rows, []string{i.ID, i.Email, i.Role, i.InvitedBy, cli.When(i.ExpiresAt)})
			}
			return a.Table(api.Invitations{Invitations: append([]api.Invitation{}, open...)}, rows)
		}),
	}
}

func (a *app) uninviteCmd() *cobra.Command {
	return &cobra.Command{
		Use: "uninvite INVITATION", Short: "Take an invitation back", Args: cobra.ExactArgs(1),
		RunE: a.calls(a.deletes("see which there are: keyfold member invitations", (*client.Client).RevokeInvitation)),
	}
}
