package main

import (
	"bufio"
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
)

func (a *app) messageExportCmd() *cobra.Command {
	var out string
	var newest bool
	cmd := &cobra.Command{
		Use: "export THREAD", Short: "Write all messages of a thread as JSON Lines, oldest first",
		Long: `Write all messages of a thread, oldest first, one JSON object per line: each version
of each message, also of those that were deleted, and a last line that counts the
messages. Bodies are in the clear, also those of a thread under a CMEK key. --newest
writes the newest versions of the messages that are there, and nothing else.
"message import" reads both forms.`,
		Args: cobra.ExactArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			one := func() {} // message was written
			if out != "" {
				bar := a.Bar(-1, "exporting")
				defer bar.End()
				one = bar.Add
			}
			err := a.writeOut(ctx, out, func(ctx context.Context, w io.Writer) error {
				if newest {
					return export(ctx, c, args[0], w, one)
				}
				return exportAll(ctx, c, args[0], w, one)
			})
			return onNotFound(err, listThreads)
		}),
	}
	cmd.Flags().StringVar(&out, "out", "", "write to this file, mode 0600 (stdout)")
	cmd.Flags().BoolVar(&newest, "newest", false, "only newest versions, of messages that are there")
	a.keyFlag(cmd)
	return cmd
}

// exportAll writes the form that readExport reads: that of GET /v1/threads/{thread}/export.
func exportAll(ctx context.Context, c *client.Client, threadID string, w io.Writer, one func()) error {
	b := bufio.NewWriterSize(w, 64<<10)
	end, last := api.ThreadExportLine{End: true}, ""
	write := func(l api.ThreadExportLine) error {
		line, err := compactJSON(l)
		if err == nil {
			_, err = b.Write(append(line, '\n'))
		}
		return err
	}
	for m, err := range c.ExportThread(ctx, threadID) {
		if err != nil {
			return err
		}
		if m.ID != last {
			end.Messages, last = end.Messages+1, m.ID
			one()
		}
		if err := write(exportLine(m)); err != nil {
			return err
		}
	}
	if err := write(end); err != nil {
		return err
	}
	return b.Flush()
}

func exportLine(m api.Message) api.ThreadExportLine {
	return api.ThreadExportLine{
		ID: m.ID, Thread: m.Thread, Author: m.Author, EndUser: m.EndUser, Role: m.Role, TS: m.TS, Body: m.Body,
		ReplyTo: m.ReplyTo, Version: m.Version, UpdatedTS: m.UpdatedTS, Deleted: m.Deleted, Reactions: m.Reactions,
	}
}

// export writes the thread's messages in the form that readLines reads.
func export(ctx context.Context, c *client.Client, threadID string, w io.Writer, one func()) error {
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
		one()
	}
	return b.Flush()
}
