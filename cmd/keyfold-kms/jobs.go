package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsclient"
)

func (a *app) jobsCmd() *cobra.Command {
	var cancel, wait bool
	cmd := &cobra.Command{
		Use: "jobs [JOB]", Short: "Show the jobs of the key process, or one",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && (cancel || wait) {
				return cli.Usagef("name the job")
			}
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error {
				if len(args) == 0 {
					return a.listJobs(ctx, c)
				}
				return onCode(a.oneJob(ctx, c, args[0], cancel, wait), fault.NotFound, "keyfold-kms jobs lists the jobs")
			})
		},
	}
	cmd.Flags().BoolVar(&cancel, "cancel", false, "stop the job between two batches; what it did stays")
	cmd.Flags().BoolVar(&wait, "wait", false, "show its progress until it ends")
	cmd.MarkFlagsMutuallyExclusive("cancel", "wait")
	return cmd
}

func (a *app) listJobs(ctx context.Context, c *kmsclient.Client) error {
	jobs, err := c.Jobs(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"JOB", "KIND", "STATUS", "DONE", "FAILED", "UPDATED"}}
	for _, j := range jobs {
		rows = append(rows, []string{j.ID, j.Kind, j.Status, fmt.Sprintf("%d/%d", j.Processed, max(j.Total, j.Processed)), fmt.Sprint(j.Failed), cli.When(j.Updated)})
	}
	return a.Table(map[string][]kmsapi.Job{"jobs": jobs}, rows)
}

func (a *app) oneJob(ctx context.Context, c *kmsclient.Client, id string, cancel, wait bool) error {
	if cancel {
		if err := c.CancelJob(ctx, id); err != nil {
			return err
		}
	}
	j, err := c.Job(ctx, id)
	if err == nil && wait {
		j, err = a.follow(ctx, c, j)
	}
	if err != nil {
		return err
	}
	rows := [][]string{
		{"job", j.ID}, {"kind", j.Kind}, {"status", j.Status}, {"done", fmt.Sprintf("%d of %d", j.Processed, max(j.Total, j.Processed))},
		{"failed", fmt.Sprint(j.Failed)}, {"error", j.Error}, {"created", cli.When(j.Created)}, {"updated", cli.When(j.Updated)},
	}
	for _, name := range j.FailedOf {
		rows = append(rows, []string{"failed of", name})
	}
	return a.Table(j, rows)
}
