package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) statsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "stats", Short: "Count threads and messages", Args: cobra.NoArgs,
		RunE: a.operates(func(ctx context.Context, c *client.Client, _ []string) error {
			s, err := c.Stats(ctx)
			if err != nil {
				return err
			}
			return a.Table(s, [][]string{{"Threads", strconv.Itoa(s.Threads)}, {"Messages", strconv.Itoa(s.Messages)}})
		}),
	}
}

func (a *app) rotateThreadCmd() *cobra.Command {
	var req api.RotateThreadDEK
	var detach bool
	cmd := &cobra.Command{
		Use: "rotate-thread-dek (THREAD | --all)", Short: "Give a thread, or each, a fresh DEK and re-encrypt its messages under it", Args: cobra.MaximumNArgs(1),
		Long: `Give a thread, or each, a fresh DEK and re-encrypt its messages under it.
New messages are under the fresh DEK at once; the old one is destroyed when nothing
is under it any more. Posting and reading go on. The work is the server's:
interrupting this command does not stop it.`,
		RunE: a.operates(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 1 == req.All {
				return cli.Advise(errors.New("name a thread, or say --all"), "see which there are: keyfold thread list")
			}
			if len(args) == 1 {
				req.ThreadID = args[0]
			}
			out, err := c.RotateThreadDEK(ctx, req)
			if err != nil {
				return err
			}
			j, err := c.Job(ctx, out.JobID)
			switch {
			case err != nil:
				return err
			case detach:
				return a.printJobs([]api.Job{j})
			}
			return a.follow(ctx, c, []api.Job{j})
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&req.All, "all", false, "every thread, one after the other")
	f.IntVar(&req.Rate, "rate", 0, "with --all: messages per second at most (0: as fast as it goes)")
	f.BoolVar(&detach, "detach", false, "do not wait for the end")
	return cmd
}
