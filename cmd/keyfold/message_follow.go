package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) messageFollowCmd() *cobra.Command {
	var after string
	var count int
	cmd := &cobra.Command{
		Use: "follow THREAD", Short: "Show what changes in a thread as it comes about, until Ctrl-C",
		Long: `Show what changes in a thread as it comes about, until Ctrl-C: when, what, the message's
ID, its role and body. With --json a line is a JSON object; its "id" is what --after
takes, for 24 hours. When the connection fails or the server closes, it comes again.`,
		Args: cobra.ExactArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			ctx, stop := cli.UntilSignal(ctx)
			defer stop()
			return onNotFound(a.showEvents(ctx, c.Follow(ctx, args[0], after), count), listThreads)
		}),
	}
	cmd.Flags().StringVar(&after, "after", "", "ID of an event: begin with what came after it (what comes next)")
	cmd.Flags().IntVar(&count, "count", 0, "end after so many events (0: do not end)")
	a.keyFlag(cmd)
	return cmd
}

// showEvents shows count events, or all until ctx ends.
func (a *app) showEvents(ctx context.Context, events func(func(client.Event, error) bool), count int) error {
	n := 0
	for e, err := range events {
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		if err := a.showEvent(e); err != nil {
			return err
		}
		if n++; n == count {
			break
		}
	}
	return nil
}

func (a *app) showEvent(e client.Event) error {
	if !a.JSON {
		m := api.Message{}
		if e.Message != nil {
			m = *e.Message
		}
		_, err := fmt.Fprintln(a.Out, cli.Printable(fmt.Sprintf("%s  %-9s  %s  %s  %s", eventTime(e.ID), e.Kind, first(e.MessageID, "-"), first(m.Role, "-"), bodyText(m.Body))))
		return err
	}
	line, err := compactJSON(struct {
		ID   string `json:"id"`
		Kind string `json:"kind"`
		api.MessageEvent
	}{e.ID, e.Kind, e.MessageEvent})
	if err != nil {
		return err
	}
	_, err = a.Out.Write(append(line, '\n'))
	return err
}

// eventTime is the time in an event's ID, for people.
func eventTime(id string) string {
	var ts int64
	if _, err := fmt.Sscanf(id, "%d-", &ts); err != nil {
		return "-"
	}
	return nanos(ts)
}
