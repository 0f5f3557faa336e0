package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) threadHoldCmd() *cobra.Command {
	var req api.PutHold
	var show, release bool
	cmd := &cobra.Command{
		Use: "hold THREAD [--reason TEXT | --show | --release]", Short: "Put a thread under a legal hold, show its hold, or release it", Args: cobra.ExactArgs(1),
		Long: `Put a thread under a legal hold, or release it: while the hold lasts, nothing of the
thread is purged, whatever the org's retention policy says. The thread may be deleted,
and goes on as before. --show says who set the hold, when and why, and changes nothing.
It is for owners and admins of the org.`,
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			if release {
				if err := c.ReleaseThread(ctx, args[0]); err != nil {
					return onNotFound(err, listThreads)
				}
				return a.Answer(released{ID: args[0], Released: true}, "released %s", args[0])
			}
			set := c.HoldThread
			if show {
				set = func(ctx context.Context, id string, _ api.PutHold) (api.Hold, error) { return c.GetHold(ctx, id) }
			}
			h, err := set(ctx, args[0], req)
			if err != nil {
				return onNotFound(err, listThreads)
			}
			return a.Table(h, [][]string{{"Thread", args[0]}, {"Held since", nanos(h.Since)}, {"By", h.By}, {"Reason", h.Reason}})
		}),
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, at most 500 characters")
	cmd.Flags().BoolVar(&release, "release", false, "end the hold")
	cmd.Flags().BoolVar(&show, "show", false, "show the hold that there is")
	cmd.MarkFlagsMutuallyExclusive("reason", "show", "release")
	return cmd
}

// released is the answer to a release.
type released struct {
	ID       string `json:"id"`
	Released bool   `json:"released"`
}

func (a *app) threadRetentionCmd() *cobra.Command {
	var want api.Retention
	var preview bool
	cmd := &cobra.Command{
		Use: "retention [--deleted-days N] [--message-days N] [--preview]", Short: "Show or set how long the org keeps threads and messages", Args: cobra.NoArgs,
		Long: `Show how long the org keeps threads and messages, or set it: a number that is not
named is kept, and 0 is for ever. What is too old is purged in the next run, and cannot
be had back: --preview says what that would be, and changes nothing. It is for owners
and admins of the org.`,
	}
	cmd.RunE = a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
		have, err := c.Retention(ctx)
		if err != nil {
			return err
		}
		changed := false
		for name, days := range map[string][2]*int{"deleted-days": {&have.DeletedDays, &want.DeletedDays}, "message-days": {&have.MessageDays, &want.MessageDays}} {
			if cmd.Flags().Changed(name) {
				*days[0], changed = *days[1], true
			}
		}
		if preview {
			return a.previewRetention(ctx, c, have)
		}
		if changed {
			if have, err = c.SetRetention(ctx, have); err != nil {
				return cli.Advise(err, "see what a policy would purge: keyfold thread retention --deleted-days N --message-days N --preview")
			}
		}
		return a.Table(have, [][]string{{"Deleted threads and messages", keptFor(have.DeletedDays)}, {"Messages", keptFor(have.MessageDays)}})
	})
	cmd.Flags().IntVar(&want.DeletedDays, "deleted-days", 0, "days that threads and messages are kept after their deletion")
	cmd.Flags().IntVar(&want.MessageDays, "message-days", 0, "days that messages are kept after their time")
	cmd.Flags().BoolVar(&preview, "preview", false, "say what would be purged now, and change nothing")
	return cmd
}

func (a *app) previewRetention(ctx context.Context, c *client.Client, try api.Retention) error {
	p, err := c.PreviewRetention(ctx, &try)
	if err != nil {
		return err
	}
	rows := [][]string{{"Threads", strconv.Itoa(p.Threads)}, {"Messages of others", strconv.Itoa(p.Messages)}, {"Held", strconv.Itoa(p.Held)}}
	if p.Partial {
		rows = append(rows, []string{"Remark", "there is more; these were found among the first million"})
	}
	return a.Table(p, rows)
}

// keptFor says for how many days something is kept.
func keptFor(days int) string {
	if days == 0 {
		return "for ever"
	}
	return strconv.Itoa(days) + " days"
}

func (a *app) purgeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "purge", Short: "Purge now what the orgs' retention policies say", Args: cobra.NoArgs,
		Long: `Start a job that purges what the orgs' retention policies say, unless one runs: the
server does so by itself every hour. Wait for its end with keyfold admin jobs JOB --wait.`,
		RunE: a.operates(func(ctx context.Context, c *client.Client, _ []string) error {
			started, err := c.Purge(ctx)
			if err != nil {
				return err
			}
			return a.Answer(started, "%s", started.JobID)
		}),
	}
}
