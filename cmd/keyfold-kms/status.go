package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsclient"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show what a running key process says of itself",
		Long: `Show what a running key process says of itself. The last audit record, seq:hash, is
worth noting somewhere else: audit verify --expect proves later that it is still there.
Of several endpoints, separated by commas, each is asked, since each has an audit of its
own; the exit code is 0 when all answer.`,
		Args: cobra.NoArgs,
		RunE: a.status,
	}
}

// said is what one of several key processes says of itself, or why it says nothing.
type said struct {
	Endpoint string `json:"endpoint"`
	Error    string `json:"error,omitzero"`
	*kmsapi.Status
}

func (a *app) status(cmd *cobra.Command, _ []string) error {
	if err := a.needEndpoint(); err != nil {
		return err
	}
	endpoints := kmsclient.Endpoints(a.set.Endpoint)
	if len(endpoints) == 1 {
		s, err := a.askStatus(cmd)
		if err != nil {
			return err
		}
		return a.Table(s, statusRows(s))
	}
	var all []said
	var rows [][]string
	var failed error
	for i, endpoint := range endpoints {
		if i > 0 {
			rows = append(rows, nil)
		}
		rows = append(rows, []string{"endpoint", endpoint})
		a.set.Endpoint = endpoint
		if s, err := a.askStatus(cmd); err != nil {
			failed = err
			all = append(all, said{Endpoint: endpoint, Error: err.Error()})
			rows = append(rows, []string{"error", err.Error()})
		} else {
			all = append(all, said{Endpoint: endpoint, Status: s})
			rows = append(rows, statusRows(s)...)
		}
	}
	if err := a.Table(all, rows); err != nil {
		return err
	}
	return failed
}

func (a *app) askStatus(cmd *cobra.Command) (s *kmsapi.Status, err error) {
	err = a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error {
		answer, err := c.Status(ctx)
		s = &answer
		return err
	})
	return s, err
}

func statusRows(s *kmsapi.Status) [][]string {
	state := "unlocked"
	if s.Locked != "" {
		state = "locked: " + s.Locked
	}
	store := "answers"
	if s.Store != "" {
		store = "does not answer: " + s.Store
	}
	rows := [][]string{
		{"version", s.Version}, {"started", cli.When(s.Started)}, {"root key", s.Root + ", " + state}, {"store", store},
		{"audit", fmt.Sprintf("%d:%s", s.AuditSeq, s.AuditHash)}, {"audit key", s.AuditKey},
	}
	if s.AuditError != "" {
		rows = append(rows, []string{"keys", "cannot be changed: " + s.AuditError})
	}
	for _, sentence := range s.Memory {
		rows = append(rows, []string{"memory", sentence})
	}
	if len(s.Memory) == 0 {
		rows = append(rows, []string{"memory", "no core dumps, no tracing, no swapping"})
	}
	return rows
}
