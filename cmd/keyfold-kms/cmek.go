package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsclient"
)

func (a *app) cmekCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cmek", Short: "Keep CMEK keys for a customer: agents seal and open with them and never get them",
		Long: `Keep CMEK keys for a customer. Who is granted a key seals and opens with it by calling this
process, under the role cmek in the list of callers, and never gets it. Each use is in the
audit. Nobody is granted a key by being listed, by making it, or by being an admin.

KEY is a fingerprint, its first 8 digits or more, or the key's name.
CALLER is as in the list of callers: cert:NAME or uid:NUMBER.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return cli.Usagef("a command is missing") },
	}
	cmd.AddCommand(a.cmekCreateCmd(), a.cmekImportCmd(), a.cmekListCmd(), a.cmekUsesCmd(), a.cmekGrantCmd(), a.cmekRevokeCmd(), a.cmekDeleteCmd())
	return cmd
}

func (a *app) cmekCreateCmd() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "create", Short: "Make a CMEK key, which stays in the key process", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error {
				k, err := c.CreateCMEKKey(ctx, name)
				if err != nil {
					return err
				}
				a.Note("warning: this key is in this key store alone, and nobody gets it out: take a backup, and keep the root key")
				return a.cmekAdded(k)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "a name for people, beside the fingerprint")
	return cmd
}

func (a *app) cmekImportCmd() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Take up the CMEK key of a key file, such as a vault's present one; - is stdin", Args: cobra.ExactArgs(1),
		Long: `Take up the CMEK key of a key file, such as a vault's present one; - is stdin. The vault
goes on with it: its fingerprint is the same. Whoever has the file can still use the key
without this process: destroy the copies, or rotate to a key that was made here.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := a.readCMEK(args[0])
			if err != nil {
				return err
			}
			defer key.Wipe()
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error {
				raw := key.Bytes()
				defer clear(raw)
				k, err := c.ImportCMEKKey(ctx, name, raw)
				if err != nil {
					return err
				}
				return a.cmekAdded(k)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "a name for people, beside the fingerprint")
	return cmd
}

// readCMEK reads a key file; "-" is stdin.
func (a *app) readCMEK(path string) (*cmek.Key, error) {
	if path != "-" {
		return cmek.ReadKeyFile(path)
	}
	if f, ok := a.In.(*os.File); ok && cli.IsTerminal(f) {
		return nil, cli.Usagef("stdin is a terminal: a key that is typed is seen; name the key file")
	}
	text, err := io.ReadAll(io.LimitReader(a.In, 64<<10))
	if err != nil {
		return nil, err
	}
	defer clear(text)
	return cmek.ParseKeyFile(text)
}

func (a *app) cmekAdded(k kmsapi.CMEKKey) error {
	a.Note("it is granted to nobody; next: keyfold-kms cmek grant %s --caller cert:NAME", k.Fingerprint[:12])
	return a.Answer(k, "%s", k.Fingerprint)
}

func (a *app) cmekListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List CMEK keys and who may use them; never material", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error {
				keys, err := allCMEK(ctx, c)
				if err != nil {
					return err
				}
				return a.Table(kmsapi.CMEKKeys{Keys: keys}, cmekRows(keys))
			})
		},
	}
}

// cmekRows has a row for each grant, and one for a key without.
func cmekRows(keys []kmsapi.CMEKKey) [][]string {
	rows := [][]string{{"FINGERPRINT", "NAME", "MADE", "CREATED", "CALLER", "SINCE", "GRANTED BY"}}
	for _, k := range keys {
		made := "here"
		if k.Imported {
			made = "elsewhere"
		}
		row := []string{k.Fingerprint, k.Name, made, cli.When(k.Created)}
		if k.Damaged {
			row = []string{k.Fingerprint, "does not open", "", ""}
		}
		if len(k.Grants) == 0 {
			rows = append(rows, append(row, "nobody", "", ""))
		}
		for _, g := range k.Grants {
			rows = append(rows, append(row[:4:4], g.Caller, cli.When(g.Since), g.By))
		}
	}
	return rows
}

// allCMEK asks for all pages.
func allCMEK(ctx context.Context, c *kmsclient.Client) (keys []kmsapi.CMEKKey, err error) {
	for after := ""; ; {
		page, err := c.CMEKKeys(ctx, after)
		if err != nil {
			return nil, err
		}
		keys = append(keys, page.Keys...)
		if after = page.Next; after == "" {
			return keys, nil
		}
	}
}

// leastDigits is how much of a fingerprint names a key.
const leastDigits = 8

// findCMEK returns the fingerprint of the one key that who names.
func findCMEK(ctx context.Context, c *kmsclient.Client, who string) (string, error) {
	if cmek.ValidFingerprint(who) {
		return who, nil
	}
	keys, err := allCMEK(ctx, c)
	if err != nil {
		return "", err
	}
	found := ""
	for _, k := range keys {
		if k.Name == who || len(who) >= leastDigits && strings.HasPrefix(k.Fingerprint, who) {
			if found != "" {
				return "", cli.Usagef("more than one key is named so; write more of its fingerprint")
			}
			found = k.Fingerprint
		}
	}
	if found == "" {
		return "", cli.Advise(fmt.Errorf("no key is named %q", who), "keyfold-kms cmek list lists the keys; write 8 digits of a fingerprint or more")
	}
	return found, nil
}

const needCaller = "name the caller: --caller cert:NAME or --caller uid:NUMBER"

func (a *app) cmekGrantCmd() *cobra.Command {
	var caller string
	cmd := &cobra.Command{
		Use: "grant KEY --caller CALLER", Short: "Let a caller seal and open with a CMEK key", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if caller == "" {
				return cli.Usagef(needCaller)
			}
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error {
				fingerprint, err := findCMEK(ctx, c, args[0])
				if err != nil {
					return err
				}
				if err := c.GrantCMEKKey(ctx, fingerprint, caller); err != nil {
					return onCode(err, fault.NotFound, "keyfold-kms cmek list lists the keys")
				}
				return a.Answer(grantShown{fingerprint, caller}, "%s may seal and open with %s", caller, fingerprint)
			})
		},
	}
	cmd.Flags().StringVar(&caller, "caller", "", "who")
	return cmd
}

// grantShown is what grant prints with --json.
type grantShown struct {
	Fingerprint string `json:"fingerprint"`
	Caller      string `json:"caller"`
}

func (a *app) cmekRevokeCmd() *cobra.Command {
	var caller string
	var all bool
	cmd := &cobra.Command{
		Use: "revoke (KEY|--all) --caller CALLER", Short: "Take a grant back, from the caller's next call on", Args: cobra.MaximumNArgs(1),
		Long: `Take a grant back: the caller's next call is refused, on connections that are open, too.
With --all of every key. What the caller has opened so far, it has seen.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if caller == "" {
				return cli.Usagef(needCaller)
			}
			if all == (len(args) == 1) {
				return cli.Usagef("name one key, or say --all")
			}
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error {
				if all {
					return a.revokeAll(ctx, c, caller)
				}
				fingerprint, err := findCMEK(ctx, c, args[0])
				if err != nil {
					return err
				}
				return a.revoke(ctx, c, caller, fingerprint)
			})
		},
	}
	cmd.Flags().StringVar(&caller, "caller", "", "who")
	cmd.Flags().BoolVar(&all, "all", false, "of every key")
	return cmd
}

func (a *app) revokeAll(ctx context.Context, c *kmsclient.Client, caller string) error {
	keys, err := allCMEK(ctx, c)
	if err != nil {
		return err
	}
	var of []string
	for _, k := range keys {
		for _, g := range k.Grants {
			if g.Caller == caller {
				of = append(of, k.Fingerprint)
			}
		}
	}
	return a.revoke(ctx, c, caller, of...)
}

func (a *app) revoke(ctx context.Context, c *kmsclient.Client, caller string, fingerprints ...string) error {
	for _, f := range fingerprints {
		if err := c.RevokeCMEKKey(ctx, f, caller); err != nil {
			return onCode(err, fault.NotFound, "keyfold-kms cmek list lists the keys")
		}
	}
	keys := "keys"
	if len(fingerprints) == 1 {
		keys = "key"
	}
	return a.Answer(map[string]any{"caller": caller, "fingerprints": append([]string{}, fingerprints...)}, "%s: revoked for %d %s", caller, len(fingerprints), keys)
}

func (a *app) cmekDeleteCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete KEY", Short: "Delete a CMEK key for ever, and with it what it sealed", Args: cobra.ExactArgs(1),
		Long: `Delete a CMEK key for ever: what it sealed is never opened again by this process. It is
refused while anybody is granted the key. Backups of the key store from before keep it:
destroy them, too. First look, with keyfold cmek status, that no version needs it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.asks(cmd, func(ctx context.Context, c *kmsclient.Client) error {
				fingerprint, err := findCMEK(ctx, c, args[0])
				if err != nil {
					return err
				}
				if err := a.confirm(yes, fingerprint[:12], "What the CMEK key "+fingerprint+" sealed will never be opened again, but with a copy of the key or a backup of the key store from before."); err != nil {
					return err
				}
				if err := c.DeleteCMEKKey(ctx, fingerprint); err != nil {
					err = onCode(err, fault.NotFound, "keyfold-kms cmek list lists the keys")
					return onCode(err, fault.Conflict, "keyfold-kms cmek revoke "+fingerprint[:12]+" --caller CALLER")
				}
				return a.Answer(map[string]string{"fingerprint": fingerprint, "state": "destroyed"}, "CMEK key %s is deleted", fingerprint)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
