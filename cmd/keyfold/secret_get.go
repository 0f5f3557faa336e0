package main

import (
	"context"
	"encoding/base64"
	"io"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) secretGetCmd() *cobra.Command {
	var out string
	var version int
	cmd := &cobra.Command{
		Use: "get [VAULT] PATH", Short: "Write the exact bytes of a secret to stdout or --out", Args: a.vaultArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if version < 0 {
				return cli.Usagef("--version wants a number from 1")
			}
			if a.JSON && out != "" { // before the read, which may count
				return cli.Usagef("--json prints the value and --out writes it to a file; give one")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			vault, path := a.vaultAndPath(args)
			s, err := getSecret(cmd.Context(), c, vault, path, version)
			if err != nil {
				return onNotFound(err, listSecrets)
			}
			return a.writeSecret(cmd.Context(), s, out)
		},
	}
	cmd.Flags().IntVar(&version, "version", 0, "which version (the newest)")
	cmd.Flags().StringVar(&out, "out", "", "write to this file, mode 0600")
	a.keyFlag(cmd)
	return cmd
}

func getSecret(ctx context.Context, c *client.Client, vault, path string, version int) (*client.Secret, error) {
	if version == 0 {
		return c.Get(ctx, vault, path)
	}
	return c.GetVersion(ctx, vault, path, version)
}

// secretJSON is what get prints with --json: a value that is not text is in
// base64, and says so.
type secretJSON struct {
	api.SecretMetadata
	Value           string `json:"value"`
	Encoding        string `json:"encoding,omitempty"` // "base64", or absent for text
	CMEKEncrypted   bool   `json:"cmek_encrypted"`
	CMEKFingerprint string `json:"cmek_fingerprint,omitempty"`
}

func (a *app) writeSecret(ctx context.Context, s *client.Secret, out string) error {
	if a.JSON {
		v := secretJSON{SecretMetadata: s.SecretMetadata, Value: string(s.Value), CMEKEncrypted: s.CMEKEncrypted, CMEKFingerprint: s.CMEKFingerprint}
		if !utf8.Valid(s.Value) {
			v.Value, v.Encoding = base64.StdEncoding.EncodeToString(s.Value), "base64"
		}
		return a.PrintJSON(v)
	}
	return a.writeOut(ctx, out, func(_ context.Context, w io.Writer) error {
		_, err := w.Write(s.Value)
		return err
	})
}
