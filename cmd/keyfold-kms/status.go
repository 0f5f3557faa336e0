package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/kmsclient"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show what a running key process says of itself",
		Long: `Show what a running key process says of itself. The last audit record, seq:hash, is
worth noting somewhere else: audit verify --expect proves later that it is still there.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.asks(cmd, a.status) },
	}
}

func (a *app) status(ctx context.Context, c *kmsclient.Client) error {
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	state := "unlocked"
	if s.Locked != "" {
		state = "locked: " + s.Locked
	}
	rows := [][]string{
		{"version", s.Version}, {"started", cli.When(s.Started)}, {"root key", s.Root + ", " + state},
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
	return a.Table(s, rows)
}
