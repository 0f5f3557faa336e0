package main

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) messageCmd() *cobra.Command {
	return cli.Group("message", "Messages of a thread",
		a.messagePostCmd(), a.messageListCmd(), a.messageEditCmd(), a.messageDeleteCmd(), a.messageVersionsCmd(), a.messageReactCmd(), a.messageFollowCmd(),
		a.messageImportCmd(), a.messageExportCmd())
}

func (a *app) messagePostCmd() *cobra.Command {
	var typed typedBody
	var req api.PostMessage
	cmd := &cobra.Command{
		Use: "post THREAD", Short: "Post a message; its body comes from stdin or --body",
		Long: `Post a message. A body that is a JSON object or array is sent as that; any other
is sent as text, without the line break at its end. --as json or --as text
decides it for you: use --as text for what other people wrote.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Body, err = typed.read(a, cmd); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			m, err := c.PostMessage(cmd.Context(), args[0], req)
			if err != nil {
				return onNotFound(err, listThreads)
			}
			return a.Answer(m, "%s", m.ID)
		},
	}
	f := cmd.Flags()
	typed.flags(cmd)
	f.StringVar(&req.Role, "role", "", "who speaks (user)")
	f.StringVar(&req.ReplyTo, "reply-to", "", "ID of the message that it answers")
	a.keyFlag(cmd)
	return cmd
}

// typedBody is a body as its flags say it.
type typedBody struct{ body, as string }

func (t *typedBody) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.body, "body", "", "the body (stdin)")
	f.StringVar(&t.as, "as", "auto", "json, text, or auto: JSON when it is an object or array")
}

// read returns the body's JSON; what --body does not say is read from stdin.
func (t *typedBody) read(a *app, cmd *cobra.Command) (json.RawMessage, error) {
	input := []byte(t.body)
	if !cmd.Flags().Changed("body") {
		var err error
		if input, err = a.readStdin("the message"); err != nil {
			return nil, err
		}
		if input = bytes.TrimSuffix(input, []byte("\n")); len(input) == 0 { // a command before the pipe failed, say
			return nil, errors.New(`stdin is empty; give the body there or with --body, and --body "" for an empty one`)
		}
	}
	return messageBody(input, t.as)
}

// messageBody makes the JSON of a body from what a person typed.
func messageBody(input []byte, as string) (json.RawMessage, error) {
	trimmed := bytes.TrimSpace(input)
	switch {
	case as != "auto" && as != "json" && as != "text":
		return nil, cli.Usagef("--as wants json, text or auto")
	case as == "json" && !json.Valid(trimmed):
		return nil, errors.New("the body is not JSON; --as text sends it as text")
	case as == "json", as == "auto" && len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') && json.Valid(trimmed):
		return json.RawMessage(trimmed), nil
	}
	return textBody(input)
}

func (a *app) messageListCmd() *cobra.Command {
	var q client.MessageQuery
	cmd := &cobra.Command{
		Use: "list THREAD", Short: "List messages, oldest first: the newest ones, or a page before or after one", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.Before != "" && q.After != "" {
				return cli.Usagef("--before and --after are two pages; give one")
			}
			if q.Limit < 1 || q.Limit > 1000 {
				return cli.Usagef("--limit wants a number from 1 to 1000")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			messages, err := c.ListMessages(cmd.Context(), args[0], q)
			if err != nil {
				return onNotFound(err, listThreads)
			}
			rows := [][]string{{"ID", "TIME", "ROLE", "BODY"}}
			for _, m := range messages {
				rows = append(rows, []string{m.ID, nanos(m.TS), m.Role, shownBody(m)})
			}
			return a.Table(api.Messages{Thread: args[0], Messages: append([]api.Message{}, messages...)}, rows)
		},
	}
	f := cmd.Flags()
	f.IntVar(&q.Limit, "limit", 50, "how many, 1 to 1000")
	f.StringVar(&q.Before, "before", "", "ID of a message: the page before it")
	f.StringVar(&q.After, "after", "", "ID of a message: the page after it")
	f.BoolVar(&q.IncludeDeleted, "include-deleted", false, "those that were deleted, too, without body")
	a.keyFlag(cmd)
	return cmd
}

// bodyText is a body for people: the text of a string, the JSON of anything else.
func bodyText(body json.RawMessage) string {
	var s string
	if json.Unmarshal(body, &s) == nil {
		return s
	}
	return string(body)
}
