package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsclient"
)

// readyTime is how long the answer to a probe may take.
const readyTime = 6 * time.Second

func (a *app) readyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ready", Short: "Ask a running key process whether it can do its work",
		Long: `Ask a running key process whether it can do its work: its root key can be used, its store
answers, and it is not about to end. The exit code is 0 when it is so, and else 1; for
probes of containers and for scripts. Whoever is in the list of callers may ask.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.asks(cmd, a.ready) },
	}
}

func (a *app) ready(ctx context.Context, c *kmsclient.Client) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	switch err := c.Ready(ctx); {
	case errors.Is(err, fault.Unavailable):
		return cli.Advise(fmt.Errorf("not ready: %v", err), "see its log, or: keyfold-kms status")
	case err != nil:
		return err
	}
	if a.JSON {
		return a.PrintJSON(struct {
			Ready bool `json:"ready"`
		}{true})
	}
	_, err := fmt.Fprintln(a.Out, "ready")
	return err
}
