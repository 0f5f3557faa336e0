package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
)

const listMessages = "see which there are: keyfold message list THREAD"

func (a *app) messageEditCmd() *cobra.Command {
	var typed typedBody
	var req api.EditMessage
	cmd := &cobra.Command{
		Use: "edit THREAD MESSAGE", Short: "Make a new version of a message of yours; its body comes from stdin or --body", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Body, err = typed.read(a, cmd); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			m, err := c.EditMessage(cmd.Context(), args[0], args[1], req)
			if err != nil {
				return onNotFound(err, listMessages)
			}
			return a.Answer(m, "version %d", m.Version)
		},
	}
	f := cmd.Flags()
	typed.flags(cmd)
	f.StringVar(&req.Role, "role", "", "who speaks (as before)")
	a.keyFlag(cmd)
	return cmd
}

func (a *app) messageDeleteCmd() *cobra.Command {
	return &cobra.Command{
		Use: "delete THREAD MESSAGE", Short: "Delete a message of yours, or in your thread", Args: cobra.ExactArgs(2),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.DeleteMessage(ctx, args[0], args[1]); err != nil {
				return onNotFound(err, listMessages)
			}
			return a.Answer(deleted{ID: args[1], Deleted: true}, "deleted %s", args[1])
		}),
	}
}

func (a *app) messageVersionsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "versions THREAD MESSAGE", Short: "List the versions of a message, oldest first, a deleted one's too", Args: cobra.ExactArgs(2),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			out := api.MessageVersions{ID: args[1], Versions: []api.Message{}}
			rows := [][]string{{"VERSION", "TIME", "ROLE", "BODY"}}
			for m, err := range c.MessageVersions(ctx, args[0], args[1]) {
				if err != nil {
					return onNotFound(err, listMessages)
				}
				out.Versions = append(out.Versions, m)
				rows = append(rows, []string{fmt.Sprint(max(m.Version, 1)), nanos(max(m.TS, m.UpdatedTS)), m.Role, shownBody(m)})
			}
			return a.Table(out, rows)
		}),
	}
	a.keyFlag(cmd)
	return cmd
}

// shownBody is a message's body for people.
func shownBody(m api.Message) string {
	if m.Deleted {
		return "(deleted)"
	}
	return bodyText(m.Body)
}

func (a *app) messageReactCmd() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use: "react THREAD MESSAGE REACTION", Short: "React to a message, or with --remove take the reaction of an identity back", Args: cobra.ExactArgs(3),
		Long: `React to a message, in up to 64 characters, in place of your reaction before. With
--remove the third argument is the ID of who reacted, you or, in your own thread,
anybody.`,
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			if remove {
				if err := c.Unreact(ctx, args[0], args[1], args[2]); err != nil {
					return onNotFound(err, listMessages)
				}
				return a.Answer(deleted{ID: args[2], Deleted: true}, "taken back")
			}
			m, err := c.React(ctx, args[0], args[1], args[2])
			if err != nil {
				return onNotFound(err, listMessages)
			}
			return a.Answer(m, "%d reactions", len(m.Reactions))
		}),
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "take it back")
	a.keyFlag(cmd)
	return cmd
}
