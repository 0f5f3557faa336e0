package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/kmsnode"
)

func (a *app) auditCmd() *cobra.Command {
	return cli.Group("audit", "Prove what was done with keys", a.auditVerifyCmd(), a.auditKeyCmd())
}

type verifyFlags struct {
	dir, publicKey string
	expect         []string
}

func (a *app) auditVerifyCmd() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use: "verify", Short: "Read an audit, offline, and say whether it is whole",
		Long: `Read an audit and say whether it is whole: no record changed, moved, taken out, put in
or cut off. It needs no key but the public one, and no running process; the audit may
be of one that runs.

Take the public key (keyfold-kms audit key) and SEQ:HASH of a record (keyfold-kms status)
from notes that whoever writes to the directory cannot change: an older copy of the whole
directory is otherwise as good as the true one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.verify(f) },
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "directory of the audit; that of --data-dir when empty")
	cmd.Flags().StringVar(&f.publicKey, "public-key", "", "base64 of the audit's public key")
	cmd.Flags().StringArrayVar(&f.expect, "expect", nil, "SEQ:HASH of a record that must be in it; may be repeated")
	return cmd
}

func (a *app) verify(f verifyFlags) error {
	if f.dir == "" {
		if f.dir = a.set.AuditDir; f.dir == "" && a.set.DataDir != "" {
			f.dir = kmsnode.AuditDir(a.set.DataDir)
		}
	}
	if f.dir == "" {
		return cli.Usagef("name the audit: --dir DIR")
	}
	if f.publicKey == "" {
		return cli.Advise(cli.Usagef("--public-key is missing: without it anyone could have signed the audit"), "keyfold-kms audit key")
	}
	key, err := audit.ParsePublicKey(f.publicKey)
	if err != nil {
		return cli.Usagef("--public-key: %w", err)
	}
	var opt audit.VerifyOptions
	for _, text := range f.expect {
		anchor, err := audit.ParseAnchor(text)
		if err != nil {
			return cli.Usagef("--expect: %w", err)
		}
		opt.Anchors = append(opt.Anchors, anchor)
	}
	report, err := audit.Verify(f.dir, key, opt)
	if err != nil {
		return err
	}
	return a.verified(f.dir, report)
}

// verified prints what Verify found; problems are a failure.
func (a *app) verified(dir string, r audit.Report) error {
	if a.JSON {
		if err := a.PrintJSON(r); err != nil {
			return err
		}
	} else if r.Wrong == 0 {
		fmt.Fprintf(a.Out, "the audit in %s is whole: %d records, the last one %s\n", cli.Printable(dir), r.Records, r.Head)
		if r.Unanswered > 0 || r.TailBytes > 0 {
			fmt.Fprintf(a.Out, "after it: %d records and %d bytes that nobody was answered for, as a running or killed process leaves them\n", r.Unanswered, r.TailBytes)
		}
	}
	if r.Wrong == 0 {
		return nil
	}
	if !a.JSON {
		for _, p := range r.Problems {
			fmt.Fprintln(a.Out, cli.Printable(p.String()))
		}
	}
	return cli.Advise(fmt.Errorf("the audit in %s is not whole: %d problems, %d of them shown", dir, r.Wrong, len(r.Problems)),
		"keep a copy of the directory as it is; look at who could write to it since the last time it was whole")
}

func (a *app) auditKeyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "key", Short: "Print the public key of the audit, of a running process or a stopped store",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.set.hasStore() && !a.set.endpointAnswers() {
				return a.runsOnStore(cmd, a.auditKeyOffline)
			}
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error {
				s, err := c.Status(ctx)
				if err != nil {
					return err
				}
				return a.printAuditKey(s.AuditKey)
			})
		},
	}
}

func (a *app) auditKeyOffline(ctx context.Context) error {
	if err := kmsnode.HasStore(ctx, a.on(nil)); err != nil {
		return err
	}
	root, _, err := a.openRoot(ctx)
	if err != nil {
		return err
	}
	defer root.Wipe()
	key, err := kmsnode.AuditKey(ctx, a.on(root))
	if err != nil {
		return err
	}
	return a.printAuditKey(key)
}

func (a *app) printAuditKey(key string) error {
	return a.Answer(map[string]string{"audit_key": key}, "%s", key)
}
