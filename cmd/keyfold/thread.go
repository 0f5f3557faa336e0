package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

const listThreads = "see which there are: keyfold thread list"

func (a *app) threadCmd() *cobra.Command {
	return cli.Group("thread", "Conversations", a.threadCreateCmd(), a.threadListCmd(), a.threadGetCmd(), a.threadUpdateCmd(), a.threadDeleteCmd(),
		a.threadShareCmd(), a.threadUnshareCmd(), a.threadParticipantsCmd(),
		a.threadHoldCmd(), a.threadRetentionCmd())
}

func (a *app) threadCreateCmd() *cobra.Command {
	var req api.CreateThread
	var cmek bool
	cmd := &cobra.Command{
		Use: "create", Short: "Make a thread and print its ID", Args: cobra.NoArgs,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			if cmek {
				k, err := a.cmekKey(ctx, "")
				if err != nil {
					return err
				}
				if k == nil {
					return cli.Advise(errors.New("--cmek needs a CMEK key"), "export KEYFOLD_CMEK_KEY_FILE=FILE; make a new key with: keyfold cmek keygen --out FILE")
				}
				req.CMEKFingerprint = k.Fingerprint()
			}
			t, err := c.CreateThread(ctx, req)
			if err != nil {
				return err
			}
			return a.Answer(t, "%s", t.ID)
		}),
	}
	cmd.Flags().StringVar(&req.Title, "title", "", "what it is about")
	cmd.Flags().BoolVar(&cmek, "cmek", false, "seal its messages with your CMEK key, here, before they are sent")
	a.keyFlag(cmd)
	return cmd
}

func (a *app) threadListCmd() *cobra.Command {
	var title string
	cmd := &cobra.Command{
		Use: "list", Short: "List your threads, newest first", Args: cobra.NoArgs,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			threads := []api.Thread{}
			for t, err := range c.Threads(ctx, client.ThreadQuery{Title: title}) {
				if err != nil {
					return err
				}
				threads = append(threads, t)
			}
			rows := [][]string{{"ID", "TITLE", "CREATED"}}
			for _, t := range threads {
				rows = append(rows, []string{t.ID, t.Title, nanos(t.CreatedTS)})
			}
			return a.Table(api.Threads{Threads: threads}, rows)
		}),
	}
	cmd.Flags().StringVar(&title, "title", "", "only those with this in their title")
	return cmd
}

func (a *app) threadGetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "get THREAD", Short: "Show a thread", Args: cobra.ExactArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			t, err := c.GetThread(ctx, args[0])
			if err != nil {
				return onNotFound(err, listThreads)
			}
			return a.Table(t, [][]string{
				{"ID", t.ID}, {"Title", t.Title}, {"Author", t.Author}, {"Slug", t.Slug},
				{"Created", nanos(t.CreatedTS)}, {"Updated", nanos(t.UpdatedTS)},
			})
		}),
	}
}

func (a *app) threadDeleteCmd() *cobra.Command {
	return &cobra.Command{
		Use: "delete THREAD", Short: "Delete a thread and its messages", Args: cobra.ExactArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.DeleteThread(ctx, args[0]); err != nil {
				return onNotFound(err, listThreads)
			}
			return a.Answer(deleted{ID: args[0], Deleted: true}, "deleted %s", args[0])
		}),
	}
}

// nanos prints a time of the thread API: nanoseconds since 1970.
func nanos(ts int64) string { return cli.When(time.Unix(0, ts)) }
