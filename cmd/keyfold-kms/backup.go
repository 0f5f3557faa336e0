package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/kmsbackup"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/kmsnode"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

func (a *app) exportCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "export-breakglass --out FILE", Short: "Write the keyring with which a server reads messages when the key process is away",
		Long: `Write the keyring of the threads' KEK, wrapped by the root key: with this file and the
root key file a server can read messages while the key process is away. Export it again
after each rotation. A root key in a token has none.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.writesTo(cmd, out, func(ctx context.Context, c *kmsclient.Client) error {
				text, err := c.ExportBreakGlass(ctx)
				if err != nil {
					return err
				}
				if err := cli.CreateFile(out, cli.Bytes(text)); err != nil {
					return err
				}
				return a.Answer(map[string]string{"file": out}, "%s: keep it where the root key file is, readable by the server alone", out)
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write, which must not be there")
	return cmd
}

func (a *app) backupCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "backup --out FILE", Short: "Write the key store of a running process, as it is at one moment, to a file",
		Long: `Write the key store of a running process, as it is at one moment, to a file. Every key
in it is wrapped: it opens under the root key alone, which is not in it. Keep the root
key somewhere else.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.writesTo(cmd, out, func(ctx context.Context, c *kmsclient.Client) error { return a.backup(ctx, c, out) })
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write, which must not be there")
	return cmd
}

// writesTo is asks for a command that writes the file of --out.
func (a *app) writesTo(cmd *cobra.Command, out string, do func(context.Context, *kmsclient.Client) error) error {
	if out == "" {
		return cli.Usagef("name the file: --out FILE")
	}
	return a.asks(cmd, do)
}

// backup writes a backup to the file out, and reads it again before it is there.
func (a *app) backup(ctx context.Context, c *kmsclient.Client, out string) error {
	var info kmsbackup.Info
	err := cli.CreateFile(out, func(f io.ReadWriteSeeker) error {
		if err := c.Backup(ctx, f); err != nil {
			return err
		}
		_, err := f.Seek(0, io.SeekStart)
		if err == nil {
			info, err = kmsbackup.Check(f)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("no backup was written: %w", err)
	}
	return a.Answer(info, "%s: %d KEKs and %d DEKs of threads%s, as of %s", out, info.KEKs, info.DEKs, cmekCount(info, ""), cli.When(info.Created))
}

// cmekCount is how many customers' keys a backup has, if any.
func cmekCount(info kmsbackup.Info, more string) string {
	if info.CMEKs == 0 {
		return ""
	}
	if info.CMEKs == 1 {
		return ", 1 customer's key" + more
	}
	return fmt.Sprintf(", %d customers' keys%s", info.CMEKs, more)
}

type restoreFlags struct {
	in        string
	sample    int
	verifyAll bool
}

func (a *app) restoreCmd() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use: "restore --in FILE --data-dir DIR", Short: "Make a key store of a backup, and prove that its keys open",
		Long: `Make a key store of a backup. It is done when the backup has proved whole, and every KEK
and a sample of the DEKs have been opened under the root key. The data directory must be
empty or not there. The audit of the lost store is not in a backup: keep its directory.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.in == "" {
				return cli.Usagef("name the backup: --in FILE")
			}
			return a.runsOnStore(cmd, func(ctx context.Context) error { return a.restore(ctx, f) })
		},
	}
	cmd.Flags().StringVar(&f.in, "in", "", "backup to read")
	cmd.Flags().IntVar(&f.sample, "sample", 1000, "open so many DEKs of threads, chosen at random")
	cmd.Flags().BoolVar(&f.verifyAll, "verify-all", false, "open all of them")
	return cmd
}

func (a *app) restore(ctx context.Context, f restoreFlags) error {
	in, err := os.Open(f.in)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := kmsnode.OursToWrite(a.on(nil)); err != nil {
		return err
	}
	root, _, err := a.openRoot(ctx)
	if err != nil {
		return err
	}
	defer root.Wipe()
	info, err := kmsbackup.Restore(ctx, in, a.store.Or(storespec.InDir(a.set.DataDir)), root, kmsbackup.Options{Sample: f.sample, VerifyAll: f.verifyAll})
	if err != nil {
		return fmt.Errorf("nothing was restored: %w", err)
	}
	lost := ""
	if len(info.Lost) > 0 {
		lost = "; the root key has not any more, and nothing under them opens: " + strings.Join(info.Lost, ", ")
	}
	return a.Answer(info, "%s: %d KEKs, all opened, and %d DEKs of threads, %d opened%s, as of %s%s",
		a.storePlace(), info.KEKs, info.DEKs, info.Opened, cmekCount(info, ", all opened"), cli.When(info.Created), lost)
}
