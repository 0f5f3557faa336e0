package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/kmsnode"
)

// keyLister is the KMS, running or of a stopped store.
type keyLister interface {
	Keys(ctx context.Context, q kmsapi.KeysQuery) (kmsapi.Keys, error)
}

type keysFlags struct{ usage, deks bool }

func (a *app) keysCmd() *cobra.Command {
	var f keysFlags
	cmd := &cobra.Command{
		Use: "keys", Short: "List KEKs with their versions and states, and count the DEKs; never material",
		Long: `List KEKs with their versions and states, and count the DEKs; never material.

Asks the process that listens at --endpoint, or at the socket beside --data-dir; when
none does, reads the store in --data-dir itself, under its root key, as the user whose
directory it is.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			show := func(ctx context.Context, keys keyLister) error { return a.showKeys(ctx, keys, f) }
			if a.set.hasStore() && !a.set.endpointAnswers() {
				return a.runsOnStore(cmd, func(ctx context.Context) error { return a.offline(ctx, show) })
			}
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error { return show(ctx, c) })
		},
	}
	cmd.Flags().BoolVar(&f.usage, "usage", false, "of each version, wraps made or reserved, DEKs under it, and whether the server released it")
	cmd.Flags().BoolVar(&f.deks, "deks", false, "list the DEKs of threads instead")
	return cmd
}

// endpointAnswers reports whether to ask a process: one on TCP was named, or one
// listens on the socket.
func (s settings) endpointAnswers() bool {
	if _, onTCP, _ := clientEndpoint(s.Endpoint); onTCP && s.Endpoint != "" {
		return true
	}
	path := strings.TrimPrefix(s.Endpoint, "unix://")
	if path == "" {
		path = kmsnode.Endpoint(s.DataDir)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// offline opens the stopped store for do.
func (a *app) offline(ctx context.Context, do func(context.Context, keyLister) error) error {
	if err := kmsnode.HasStore(ctx, a.on(nil)); err != nil {
		return err
	}
	root, _, err := a.openRoot(ctx)
	if err != nil {
		return err
	}
	defer root.Wipe()
	err = kmsnode.Offline(ctx, a.on(root), func(s *kms.Service) error { return do(ctx, s) })
	return onCode(err, fault.Conflict, "ask the process that has it: keyfold-kms keys --endpoint PATH or HOST:PORT")
}

func (a *app) showKeys(ctx context.Context, keys keyLister, f keysFlags) error {
	if f.deks {
		return a.showDEKs(ctx, keys)
	}
	out := struct {
		KEKs []kmsapi.KEK `json:"keks"`
		DEKs int          `json:"thread_deks"`
	}{}
	for page, err := range pages(ctx, keys, kmsapi.KeysQuery{Count: true}) {
		if err != nil {
			return err
		}
		out.KEKs = append(out.KEKs, page.KEKs...)
	}
	for _, k := range out.KEKs {
		for _, v := range k.Versions {
			if v.DEKs != nil {
				out.DEKs += *v.DEKs
			}
		}
	}
	if err := a.Table(out, kekRows(out.KEKs, f.usage)); err != nil || a.JSON {
		return err
	}
	_, err := fmt.Fprintf(a.Out, "\nDEKs of threads: %d\n", out.DEKs)
	return err
}

func kekRows(keks []kmsapi.KEK, usage bool) [][]string {
	rows := [][]string{{"KEK", "VERSION", "STATE", "CREATED"}}
	if usage {
		rows[0] = append(rows[0], "WRAPS", "DEKS", "RELEASED")
	}
	for _, k := range keks {
		for _, v := range k.Versions {
			state := v.State
			if v.Imported {
				state += ", imported"
			}
			if v.Lost {
				state += ", lost"
			}
			row := []string{k.ID, fmt.Sprint(v.Version), state, cli.When(v.Created)}
			if usage {
				deks := ""
				if v.DEKs != nil {
					deks = fmt.Sprint(*v.DEKs)
				}
				released := ""
				if v.Released {
					released = "yes"
				}
				row = append(row, fmt.Sprint(v.Wraps), deks, released)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// showDEKs lists them page by page: there may be millions.
func (a *app) showDEKs(ctx context.Context, keys keyLister) error {
	rows := [][]string{{"KEY ID", "THREAD", "KEK", "VERSION", "CREATED", "SEALS"}}
	for page, err := range pages(ctx, keys, kmsapi.KeysQuery{DEKs: true}) {
		if err != nil {
			return err
		}
		for _, d := range page.DEKs {
			if d.ThreadID == "" {
				rows = append(rows, []string{d.KeyID, "does not open", "", "", "", ""})
				continue
			}
			rows = append(rows, []string{d.KeyID, d.ThreadID, d.KEKID, fmt.Sprint(d.KEKVersion), cli.When(d.Created), fmt.Sprint(d.Seals)})
		}
		if err := a.Table(page, rows); err != nil {
			return err
		}
		rows = nil
	}
	return nil
}

// pages yields all pages of q.
func pages(ctx context.Context, keys keyLister, q kmsapi.KeysQuery) func(func(kmsapi.Keys, error) bool) {
	q.Limit = kmsapi.MaxBatch
	return func(yield func(kmsapi.Keys, error) bool) {
		for {
			page, err := keys.Keys(ctx, q)
			if !yield(page, err) || err != nil || page.Next == "" {
				return
			}
			q.After = page.Next
		}
	}
}
