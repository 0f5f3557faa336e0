package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

const (
	listRotations  = "see which there are: keyfold cmek rotations VAULT"
	cancelRotation = listRotations + "; cancel one: keyfold cmek rotation cancel VAULT ROTATION"
)

func (a *app) cmekRotationsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rotations [VAULT]", Short: "List the rotations of a vault's key that the server has run", Args: a.vaultArgs(0),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			jobs, err := c.CMEKRotations(ctx, a.vault(args))
			if err != nil {
				return onNotFound(err, listVaults)
			}
			rows := [][]string{{"ID", "STATUS", "DONE", "OLD KEY", "NEW KEY", "CREATED", "REMARK"}}
			for _, j := range jobs {
				rows = append(rows, []string{j.ID, j.Status, reencrypted(j), shortened(j.OldFingerprint), shortened(j.NewFingerprint), cli.When(j.CreatedAt), j.Error})
			}
			return a.Table(api.CMEKRotations{Rotations: append([]api.CMEKRotationJob{}, jobs...)}, rows)
		}),
	}
}

func (a *app) cmekRotationCmd() *cobra.Command {
	one := func(use, short string, call func(*client.Client, context.Context, string, string) (api.CMEKRotationJob, error)) *cobra.Command {
		return &cobra.Command{
			Use: use + " [VAULT] ROTATION", Short: short, Args: a.vaultArgs(1),
			RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
				vault, id := a.vaultAndPath(args)
				j, err := call(c, ctx, vault, id)
				if err != nil {
					return onNotFound(err, listRotations)
				}
				return a.printRotation(j)
			}),
		}
	}
	return cli.Group("rotation", "Show or cancel one rotation of a vault's key",
		one("get", "Show a rotation", (*client.Client).CMEKRotation),
		one("cancel", "Stop a rotation between two batches; what is re-encrypted stays so, and the vault's key is the old one", (*client.Client).CancelCMEKRotation))
}

func (a *app) printRotation(j api.CMEKRotationJob) error {
	return a.Table(j, [][]string{{"ID", j.ID}, {"Status", j.Status}, {"Done", reencrypted(j)}, {"Old key", j.OldFingerprint}, {"New key", j.NewFingerprint},
		{"Created", cli.When(j.CreatedAt)}, {"Started", when(j.StartedAt)}, {"Ended", when(j.CompletedAt)}, {"Remark", j.Error}})
}

func reencrypted(j api.CMEKRotationJob) string {
	return fmt.Sprintf("%d of %d", j.Processed, max(j.Processed, j.TotalSecrets))
}

// shortened is a fingerprint as far as people compare it.
func shortened(fingerprint string) string {
	return fingerprint[:min(12, len(fingerprint))]
}
