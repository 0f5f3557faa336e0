package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsclient"
)

type rotateFlags struct {
	all, detach bool
	backup      string
}

func (a *app) rotateCmd() *cobra.Command {
	var f rotateFlags
	cmd := &cobra.Command{
		Use: "rotate-kek (KEK|--all)", Short: "Make a new version of a KEK primary, and rewrap the threads' DEKs",
		Long: `Make a new version of a KEK primary, at once, and rewrap the DEKs of threads under it,
in a job that goes on when this command is interrupted: see keyfold-kms jobs.

The wrapped DEKs of secrets are with the server, whose own job rewraps them:
keyfold admin rotate-kek does both. Old versions stay until destroy-kek.

A rewrap changes what a backup needs to open: take one before, with --backup FILE.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.all == (len(args) == 1) {
				return cli.Usagef("name one KEK, such as %s, or say --all", kmsapi.ThreadsKEK)
			}
			r := kmsapi.Rotate{All: f.all}
			if !f.all {
				r.KEKID = args[0]
			}
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error { return a.rotate(ctx, c, r, f) })
		},
	}
	cmd.Flags().BoolVar(&f.all, "all", false, "rotate every KEK")
	cmd.Flags().BoolVar(&f.detach, "detach", false, "do not wait for the job")
	cmd.Flags().StringVar(&f.backup, "backup", "", "first write a backup of the key store to this file")
	return cmd
}

func (a *app) rotate(ctx context.Context, c *kmsclient.Client, r kmsapi.Rotate, f rotateFlags) error {
	if f.backup == "" {
		a.Note("no backup is taken before the rewrap; --backup FILE takes one")
	} else if err := a.backup(ctx, c, f.backup); err != nil {
		return err
	}
	rotated, err := c.RotateKEK(ctx, r)
	if err != nil {
		return onCode(err, fault.NotFound, "keyfold-kms keys lists the KEKs")
	}
	if rotated.KEKID != "" && !a.JSON {
		fmt.Fprintf(a.Out, "KEK %s: the primary is version %d\n", cli.Printable(rotated.KEKID), rotated.KEKVersion)
	}
	if rotated.Job.ID == "" || f.detach {
		if a.JSON {
			return a.PrintJSON(rotated)
		}
		if rotated.Job.ID != "" {
			fmt.Fprintf(a.Out, "job %s goes on; see: keyfold-kms jobs %s\n", rotated.Job.ID, rotated.Job.ID)
		}
		return nil
	}
	rotated.Job, err = a.follow(ctx, c, rotated.Job)
	if err != nil {
		return err
	}
	return a.Answer(rotated, "job %s is completed: %d done", rotated.Job.ID, rotated.Job.Processed)
}

// follow shows a job's progress until it ends, well or not. An interruption
// ends the showing, not the job.
func (a *app) follow(ctx context.Context, c *kmsclient.Client, j kmsapi.Job) (kmsapi.Job, error) {
	err := a.Follow(ctx, "rewrapping", func() (done, total int, ended bool, err error) {
		next, err := c.Job(ctx, j.ID)
		if err == nil {
			j = next
		}
		return j.Processed, j.Total, j.Status != "running", err
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return j, cli.Advise(fmt.Errorf("interrupted; job %s goes on in the key process", j.ID), "keyfold-kms jobs "+j.ID)
	case err != nil:
		return j, cli.Advise(fmt.Errorf("job %s: %w", j.ID, err), "the job goes on with the key process; see: keyfold-kms jobs "+j.ID)
	case j.Status != "completed" || j.Failed > 0:
		return j, jobFailure(j)
	}
	return j, nil
}

func jobFailure(j kmsapi.Job) error {
	return cli.Advise(fmt.Errorf("job %s is %s, %d of %d done, %d failed: %s", j.ID, j.Status, j.Processed, j.Total, j.Failed, j.Error),
		"what failed is as it was; see keyfold-kms jobs "+j.ID+", and rotate again when its cause is gone")
}

func (a *app) destroyCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "destroy-kek KEK VERSION", Short: "Destroy an old version of a KEK for ever",
		Long: `Destroy an old version of a KEK for ever: what is still wrapped under it, as in a backup
of the server, opens never again here. It is refused while the version is in use, as far as is
known. Backups of the key store from before keep the version: destroy them, too.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			version, err := strconv.ParseUint(args[1], 10, 32)
			if err != nil || version == 0 {
				return cli.Usagef("a version is a number from 1")
			}
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error {
				if err := a.confirm(yes, args[0], fmt.Sprintf("Version %d of KEK %s will be destroyed for ever. Backups of the key store from before keep it; backups of the server under it open with those alone.", version, args[0])); err != nil {
					return err
				}
				if err := c.DestroyKEKVersion(ctx, args[0], uint32(version)); err != nil {
					return onCode(err, fault.NotFound, "keyfold-kms keys lists the KEKs")
				}
				return a.Answer(map[string]any{"kek_id": args[0], "kek_version": version, "state": "destroyed"}, "KEK %s: version %d is destroyed", args[0], version)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) shredCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "shred-dek KEY-ID", Short: "Destroy the DEK of a thread for ever, and with it the thread's messages",
		Long: `Destroy the DEK of a thread for ever: the thread's messages are never read again. Backups
of the key store from before keep it, and so do an exported break-glass keyring with a copy of
the server's store: destroy them, too.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error {
				if err := a.confirm(yes, args[0], "What DEK "+args[0]+" encrypted will never be read again, but with a backup of the key store from before, which keeps it."); err != nil {
					return err
				}
				if err := c.ShredDEK(ctx, args[0]); err != nil {
					return onCode(err, fault.NotFound, "keyfold-kms keys --deks lists the DEKs")
				}
				return a.Answer(map[string]string{"key_id": args[0], "state": "destroyed"}, "DEK %s is destroyed", args[0])
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
