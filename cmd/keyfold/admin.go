package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

const listJobs = "see which there are: keyfold admin jobs"

func (a *app) adminCmd() *cobra.Command {
	return cli.Group("admin", "Run the server: keys and jobs (needs an admin key)",
		a.rotateCmd("rotate-kek", "Give KEKs a new primary and rewrap what is under older versions", (*client.Client).RotateKEK),
		a.rotateCmd("rewrap", "Rewrap what is under older versions of KEKs that were rotated in the key process", (*client.Client).Rewrap),
		a.rotateThreadCmd(), a.statsCmd(), a.tokenKeyCmd(), a.jobsCmd(), a.purgeCmd(), a.planCmd(), a.adminAuditCmd())
}

func (a *app) tokenKeyCmd() *cobra.Command {
	var req api.RotateTokenKey
	cmd := &cobra.Command{
		Use: "rotate-token-key", Short: "Make a new key that signs access tokens", Args: cobra.NoArgs,
		Long: `Make a new key that signs access tokens; the server does so by itself every 30 days.
It signs after ten minutes, and what was signed before is taken until it ends.
--replace is for a key that may be in wrong hands: the new one signs at once, and
every token that was signed before is dead. Whoever is signed in is so again by
itself, with his refresh token or API key.`,
		RunE: a.operates(func(ctx context.Context, c *client.Client, _ []string) error {
			if err := c.RotateTokenKey(ctx, req); err != nil {
				return err
			}
			return a.Answer(req, "there is a new key; /.well-known/jwks.json shows it")
		}),
	}
	cmd.Flags().BoolVar(&req.Replace, "replace", false, "end all tokens that were signed before")
	return cmd
}

// rotateCmd starts jobs by start and follows them to their end.
func (a *app) rotateCmd(use, short string, start func(*client.Client, context.Context, api.RotateKEK) ([]api.Job, error)) *cobra.Command {
	var req api.RotateKEK
	var detach bool
	cmd := &cobra.Command{
		Use: use + " (--vault VAULT | --threads | --all)", Short: short, Args: cobra.NoArgs,
		Long: short + `.
Data stays as it is and readable. The work is the server's: interrupting this
command does not stop it, and a server that is killed goes on after its start.
Back the key store up first: keyfold-kms backup.`,
		RunE: a.operates(func(ctx context.Context, c *client.Client, _ []string) error {
			jobs, err := start(c, ctx, req)
			if err != nil {
				return err
			}
			if detach {
				return a.printJobs(jobs)
			}
			return a.follow(ctx, c, jobs)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&req.VaultID, "vault", "", "the KEK of this vault")
	f.BoolVar(&req.Threads, "threads", false, "the KEK of the threads")
	f.BoolVar(&req.All, "all", false, "every KEK")
	f.BoolVar(&detach, "detach", false, "do not wait for the end")
	cmd.MarkFlagsOneRequired("vault", "threads", "all")
	cmd.MarkFlagsMutuallyExclusive("vault", "threads", "all")
	return cmd
}

func (a *app) jobsCmd() *cobra.Command {
	var wait, cancel bool
	cmd := &cobra.Command{
		Use: "jobs [JOB]", Short: "List the server's jobs, or show, await or cancel one", Args: cobra.MaximumNArgs(1),
		RunE: a.operates(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 0 {
				jobs, err := c.Jobs(ctx)
				if err != nil {
					return err
				}
				return a.printJobs(jobs)
			}
			call := (*client.Client).Job
			if cancel {
				call = (*client.Client).CancelJob
			}
			j, err := call(c, ctx, args[0])
			if err != nil {
				return onNotFound(err, listJobs)
			}
			if wait {
				return a.follow(ctx, c, []api.Job{j})
			}
			return a.printJob(j)
		}),
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "show progress until the job has ended")
	cmd.Flags().BoolVar(&cancel, "cancel", false, "stop the job between two batches; what is done stays done")
	return cmd
}

// follow shows the progress of jobs until all of them have ended, and fails if
// one did not do all of its work.
func (a *app) follow(ctx context.Context, c *client.Client, jobs []api.Job) error {
	err := a.Follow(ctx, "rewrapping", func() (done, total int, ended bool, err error) {
		ended = true
		for i, j := range jobs {
			if !j.Ended() {
				if jobs[i], err = c.Job(ctx, j.ID); err != nil {
					return 0, 0, false, cli.Advise(err, "the job goes on by itself; look at it with: keyfold admin jobs "+j.ID)
				}
			}
			done, total, ended = done+jobs[i].Processed, total+jobs[i].Total, ended && jobs[i].Ended()
		}
		return done, total, ended, nil
	})
	if err != nil {
		return err
	}
	return a.printEnded(jobs)
}

// printEnded is printJobs, and an error if anything is not done.
func (a *app) printEnded(jobs []api.Job) error {
	if err := a.printJobs(jobs); err != nil {
		return err
	}
	for _, j := range jobs {
		switch {
		case j.Status != "completed":
			return cli.Advise(fmt.Errorf("the job %s was not completed but %s: %s", j.ID, j.Status, first(j.Error, "nothing more is done")), "mend its cause and run the same command again; what is done is not done twice")
		case j.Failed > 0:
			return cli.Advise(fmt.Errorf("%d of %d were left as they are, the first: %s", j.Failed, j.Processed, strings.Join(j.FailedItems[:min(3, len(j.FailedItems))], ", ")),
				"keyfold admin jobs "+j.ID)
		}
	}
	return nil
}

func (a *app) printJobs(jobs []api.Job) error {
	rows := [][]string{{"ID", "KIND", "STATUS", "DONE", "FAILED", "UPDATED", "REMARK"}}
	for _, j := range jobs {
		rows = append(rows, []string{j.ID, j.Kind, j.Status, ratio(j), strconv.Itoa(j.Failed), cli.When(j.UpdatedAt), j.Error})
	}
	return a.Table(api.Jobs{Jobs: append([]api.Job{}, jobs...)}, rows)
}

func (a *app) printJob(j api.Job) error {
	rows := [][]string{{"ID", j.ID}, {"Kind", j.Kind}, {"Status", j.Status}, {"Done", ratio(j)}, {"Failed", strconv.Itoa(j.Failed)},
		{"Created", cli.When(j.CreatedAt)}, {"Updated", cli.When(j.UpdatedAt)}, {"Remark", j.Error}}
	for _, item := range j.FailedItems {
		rows = append(rows, []string{"Failed item", item})
	}
	return a.Table(j, rows)
}

func ratio(j api.Job) string { return fmt.Sprintf("%d of %d", j.Processed, max(j.Processed, j.Total)) }
