package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) auditCmd() *cobra.Command {
	t := orgTrail
	return cli.Group("audit", "Who did what: the org's trail, and the proof that it is whole",
		a.auditListCmd(t), a.auditExportCmd(t), a.auditVerifyCmd(t), a.auditKeysCmd())
}

// adminAuditCmd is auditCmd for the server's own trail.
func (a *app) adminAuditCmd() *cobra.Command {
	t := operatorTrail
	return cli.Group("audit", "What operators did: the server's own trail, and the proof that it is whole",
		a.auditListCmd(t), a.auditExportCmd(t), a.auditVerifyCmd(t))
}

// trailOf says whose trail a command is about.
type trailOf struct {
	operator bool
	seen     string // by whom
}

var (
	orgTrail      = trailOf{seen: "Owners and admins of the org see all, everybody else what they did themselves."}
	operatorTrail = trailOf{operator: true, seen: "It is what was done with admin keys, on this server, by whoever."}
)

func (a *app) connectFor(t trailOf) (*client.Client, error) {
	if t.operator {
		return a.connectOperator()
	}
	return a.connect()
}

// windowFlags are --from and --to.
type windowFlags struct {
	of       trailOf
	from, to string
}

func (w *windowFlags) define(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.from, "from", "", "events from then on: a time like 2027-01-31T12:00:00Z, or how long ago, like 24h")
	cmd.Flags().StringVar(&w.to, "to", "", "events before then, likewise")
}

func (w *windowFlags) query() (q client.AuditQuery, err error) {
	q.Operator = w.of.operator
	if q.From, err = pastTime("from", w.from); err == nil {
		q.To, err = pastTime("to", w.to)
	}
	return q, err
}

func (a *app) auditListCmd(t trailOf) *cobra.Command {
	w := windowFlags{of: t}
	var resource, actor, action string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List events, newest first", Args: cobra.NoArgs,
		Long: "List events, newest first. " + t.seen,
		Example: `  keyfold audit list --resource VAULT --action secret.read --from 24h
  keyfold audit list --actor AGENT --limit 1000 --json
  keyfold admin audit list --action kek.rotate`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := w.query()
			if err != nil {
				return err
			}
			if limit < 1 {
				return cli.Usagef("--limit wants a number from 1")
			}
			q.ResourceID, q.ActorID, q.Action = resource, actor, action
			c, err := a.connectFor(t)
			if err != nil {
				return err
			}
			events, err := c.AuditEvents(cmd.Context(), q, limit)
			if err != nil {
				return err
			}
			return a.printEvents(events)
		},
	}
	f := cmd.Flags()
	f.StringVar(&resource, "resource", "", "about this: the ID of a vault, secret, agent, ...")
	f.StringVar(&actor, "actor", "", "by this user or agent")
	f.StringVar(&action, "action", "", "of this kind, such as secret.read or auth.failure")
	f.IntVar(&limit, "limit", 100, "at most so many")
	w.define(cmd)
	return cmd
}

func (a *app) printEvents(events []api.AuditEvent) error {
	rows := [][]string{{"TIME", "ACTOR", "ACTION", "OUTCOME", "RESOURCE", "PATH", "ADDRESS"}}
	for _, e := range events {
		rows = append(rows, []string{cli.When(e.CreatedAt), joined(e.ActorType, e.ActorID), e.Action, e.Outcome, joined(e.ResourceType, e.ResourceID), e.Details["path"], e.IPAddress})
	}
	return a.Table(api.AuditEvents{Events: append([]api.AuditEvent{}, events...), Count: len(events)}, rows)
}

func joined(kind, id string) string {
	if id == "" {
		return kind
	}
	return kind + ":" + id
}

func (a *app) auditExportCmd(t trailOf) *cobra.Command {
	w := windowFlags{of: t}
	var out string
	cmd := &cobra.Command{
		Use: "export [--out F]", Short: "Write the trail, with its checkpoints, for keyfold audit verify --file", Args: cobra.NoArgs,
		Long: `Write the trail, with its checkpoints, to --out or stdout: JSON, a line each. Keep it
to the byte as it is. The org's needs an owner or admin, the server's an admin key.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := w.query()
			if err != nil {
				return err
			}
			c, err := a.connectFor(t)
			if err != nil {
				return err
			}
			err = a.writeOut(cmd.Context(), out, func(ctx context.Context, to io.Writer) error { return exportTo(ctx, c, q, to) })
			if err != nil || out == "" {
				return err
			}
			return a.Answer(exportedTo{out}, "wrote %s", out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write to this file, mode 0600")
	w.define(cmd)
	return cmd
}

// exportedTo is what export prints with --json.
type exportedTo struct {
	File string `json:"file"`
}

// exportTo copies an export, and fails when it is cut off.
func exportTo(ctx context.Context, c *client.Client, q client.AuditQuery, to io.Writer) error {
	from, err := c.ExportAudit(ctx, q)
	if err != nil {
		return err
	}
	defer from.Close()
	var last lastLine
	if _, err := io.Copy(io.MultiWriter(to, &last), from); err != nil {
		return err
	}
	var end api.AuditExportLine
	if json.Unmarshal(last.text, &end) != nil || end.End == nil {
		return cli.Advise(errors.New("the export was cut off"), "run the command again; of a long trail take a part: --from, --to")
	}
	return nil
}

// lastLine is a writer that keeps the last line, or the end of it.
type lastLine struct{ text []byte }

func (l *lastLine) Write(b []byte) (int, error) {
	n := len(b)
	if body := bytes.TrimRight(b, "\n"); bytes.IndexByte(body, '\n') >= 0 {
		l.text, b = nil, b[bytes.LastIndexByte(body, '\n')+1:]
	}
	if bytes.HasSuffix(l.text, []byte("\n")) && len(b) > 0 {
		l.text = nil
	}
	l.text = append(l.text, b...)
	if over := len(l.text) - maxTyped; over > 0 { // no line that ends an export is so long
		l.text = l.text[over:]
	}
	return n, nil
}

func (a *app) auditKeysCmd() *cobra.Command {
	return &cobra.Command{
		Use: "keys", Short: "Show the keys that sign the trail's checkpoints", Args: cobra.NoArgs,
		Long: `Show the public keys that sign the trail's checkpoints. Write them down while you
have no reason for doubt, and give them to: keyfold audit verify --public-key`,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			keys, err := c.AuditKeys(ctx)
			if err != nil {
				return err
			}
			rows := [][]string{{"ID", "PUBLIC KEY", "CREATED"}}
			for _, k := range keys {
				rows = append(rows, []string{k.ID, base64Key(k), cli.When(k.CreatedAt)})
			}
			return a.Table(api.AuditKeys{Keys: append([]api.AuditKey{}, keys...)}, rows)
		}),
	}
}
