package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) messageImportCmd() *cobra.Command {
	var file string
	var plain, again bool
	cmd := &cobra.Command{
		Use: "import THREAD --file F.jsonl", Short: "Post every line of a file as a message; safe to run again",
		Long: `Post every line of a file as a message, in the order of the file. The whole file
is checked before the first message is posted; whether the thread has a message
that reply_to names, and no line of the file is, the server tells when it comes to
that line. A line is a JSON object in UTF-8:

  {"body": any JSON value but null, "role": "user", "ts": 1790000000000000000, "reply_to": "ID", "id": "ID"}

Only body is needed. ts is nanoseconds since 1970 and decides the order. id is
what other lines call this message in reply_to; the server gives it a new one.
"message export --newest" writes this form. With --plain each line is the text of one
message.

What "message export" writes, all versions and a last line that counts the messages,
comes back with its versions and deletions, under your name, edited now; reactions
of others are left out. The versions of one message, up to 1,000, fit into 8 MB.

A message that the thread has already, with the same time, role and body, is not
posted again. Lines without ts get times of their own, which begin at a time that
is kept in F.keyfold-import: with it, an import that was interrupted is finished
by the same command. Keep it beside the file.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return cli.Usagef("--file is missing")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			ctx, stop := cli.UntilSignal(cmd.Context())
			defer stop()
			if whole, err := isExport(file); err == nil && whole && !plain {
				return onNotFound(a.importExport(ctx, c, args[0], file), listThreads)
			}
			plan, err := planImport(file, plain)
			if err != nil {
				return err
			}
			p := &poster{c: c, thread: args[0], plan: plan}
			if err := p.lookUp(ctx, again); err != nil {
				return onNotFound(err, listThreads)
			}
			return a.runPosts(ctx, p)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "file", "", "the file to import")
	f.BoolVar(&plain, "plain", false, "each line is the text of a message, blank lines included")
	a.keyFlag(cmd)
	f.BoolVar(&again, "again", false, "import the lines without ts once more, as new messages")
	return cmd
}

// lookUp settles the times of the import and finds what the thread has of it.
func (p *poster) lookUp(ctx context.Context, again bool) error {
	newest, err := p.c.ListMessages(ctx, p.thread, client.MessageQuery{Limit: 1})
	if err != nil {
		return err
	}
	var newestTS int64
	if len(newest) > 0 {
		newestTS = newest[0].TS
	}
	if err := p.plan.chooseBase(p.thread, newestTS, time.Now(), again); err != nil {
		return err
	}
	from, to := p.plan.window()
	if from > newestTS {
		return nil // all of the thread is older
	}
	p.present, err = findPresent(ctx, p.c, p.thread, from, to)
	return err
}

// postSummary is what the import prints with --json.
type postSummary struct {
	Written int `json:"written"`
	Already int `json:"already_there"`
	Left    int `json:"left"` // not reached, after an interrupt or an error
}

func (a *app) runPosts(ctx context.Context, p *poster) error {
	p.bar = a.Bar(p.plan.lines, "importing")
	stopped := p.run(ctx)
	p.bar.End()
	s := postSummary{Written: p.written, Already: p.already, Left: p.plan.lines - p.written - p.already}
	if err := a.Answer(s, "%d written, %d already there", s.Written, s.Already); err != nil {
		return err
	}
	const goOn = "run the same command again to go on; no message is posted twice"
	switch {
	case errors.Is(stopped, context.Canceled):
		return cli.Advise(fmt.Errorf("interrupted with %d left", s.Left), goOn)
	case stopped != nil:
		hint := goOn
		if isRefusal(stopped) {
			hint = "the server will not take that line as it is: correct it, and import the file into a new thread"
		}
		return cli.Advise(fmt.Errorf("stopped with %d left: %s: %w", s.Left, p.plan.file, stopped), hint)
	}
	return nil
}

// isRefusal reports an answer that the same message will get again.
func isRefusal(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && (e.Status == http.StatusBadRequest || e.Status == http.StatusRequestEntityTooLarge)
}
