package main

import (
	"bufio"
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
)

func (a *app) messageExportCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "export THREAD", Short: "Write all messages of a thread as JSON Lines, oldest first",
		Long: `Write all messages of a thread, oldest first, one JSON object per line. Bodies
are in the clear. "message import" reads this form.`,
		Args: cobra.ExactArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			err := a.writeOut(ctx, out, func(ctx context.Context, w io.Writer) error { return export(ctx, c, args[0], w) })
			return onNotFound(err, listThreads)
		}),
	}
	cmd.Flags().StringVar(&out, "out", "", "write to this file, mode 0600 (stdout)")
	return cmd
}

// export writes the thread's messages in the form that readLines reads.
func export(ctx context.Context, c *client.Client, threadID string, w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	for m, err := range c.Messages(ctx, threadID, "") {
		if err != nil {
			return err
		}
		line, err := compactJSON(msgObject{
			ID: m.ID, Thread: m.Thread, Author: m.Author, Role: m.Role, TS: m.TS, ReplyTo: m.ReplyTo, Body: m.Body,
		})
		if err != nil {
			return err
		}
		if _, err := b.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return b.Flush()
}
