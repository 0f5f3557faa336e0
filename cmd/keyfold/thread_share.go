package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
)

func (a *app) threadUpdateCmd() *cobra.Command {
	var req api.UpdateThread
	cmd := &cobra.Command{
		Use: "update THREAD --title TITLE", Short: "Give a thread of yours another title", Args: cobra.ExactArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			t, err := c.UpdateThread(ctx, args[0], req)
			if err != nil {
				return onNotFound(err, listThreads)
			}
			return a.Answer(t, "%s", t.Slug)
		}),
	}
	cmd.Flags().StringVar(&req.Title, "title", "", "what it is about")
	_ = cmd.MarkFlagRequired("title")
	return cmd
}

func (a *app) threadShareCmd() *cobra.Command {
	p := api.Participant{}
	cmd := &cobra.Command{
		Use: "share THREAD WHO", Short: "Let a user or agent of your org take part in a thread of yours", Args: cobra.ExactArgs(2),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			p.ID = args[1]
			got, err := c.SetParticipant(ctx, args[0], p)
			if err != nil {
				return onNotFound(err, listThreads)
			}
			return a.Answer(got, "%s may %s", got.ID, got.Part)
		}),
	}
	cmd.Flags().StringVar(&p.Part, "part", "read", "read, or write: post, edit and react as well")
	cmd.Flags().BoolVar(&p.EndUser, "end-user", false, "WHO is the ID of an end user of your product")
	return cmd
}

func (a *app) threadUnshareCmd() *cobra.Command {
	var endUser bool
	cmd := &cobra.Command{
		Use: "unshare THREAD WHO", Short: "Take somebody's part in a thread of yours away, or leave another's", Args: cobra.ExactArgs(2),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.RemoveParticipant(ctx, args[0], args[1], endUser); err != nil {
				return onNotFound(err, "see who takes part: keyfold thread participants THREAD")
			}
			return a.Answer(deleted{ID: args[1], Deleted: true}, "%s takes no part", args[1])
		}),
	}
	cmd.Flags().BoolVar(&endUser, "end-user", false, "WHO is the ID of an end user of your product")
	return cmd
}

func (a *app) threadParticipantsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "participants THREAD", Short: "List who takes part in a thread beside its owner", Args: cobra.ExactArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			list, err := c.Participants(ctx, args[0])
			if err != nil {
				return onNotFound(err, listThreads)
			}
			rows := [][]string{{"ID", "PART"}}
			for _, p := range list {
				rows = append(rows, []string{p.ID, p.Part})
			}
			return a.Table(api.Participants{Participants: append([]api.Participant{}, list...)}, rows)
		}),
	}
}
