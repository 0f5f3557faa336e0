package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

const listShares = "see which there are: keyfold share list"

func (a *app) shareCmd() *cobra.Command {
	return cli.Group("share", "One secret for somebody else, for a while",
		a.shareCreateCmd(), a.shareListCmd(), a.shareReadCmd(), a.shareRevokeCmd())
}

// shareFlags are those of create.
type shareFlags struct {
	user, agent, email, expires string
	link, passphrase, hasKey    bool
	maxReads                    int
	ips                         []string
}

func (a *app) shareCreateCmd() *cobra.Command {
	var s shareFlags
	cmd := &cobra.Command{
		Use:   "create [VAULT] PATH (--user ID | --agent ID | --email ADDRESS | --link) --expires T",
		Short: "Share a secret and print the link", Args: a.vaultArgs(1),
		Long: `Share the newest version of a secret, as it is when it is read, and print the link.

--user and --agent are of your org: they read it with their own credentials. --link
is for anybody who has the link, and so is --email, which notes who that is; nothing
is mailed. With --passphrase the reader needs one too, which is asked for, unseen,
or is a line of stdin.

A value that is sealed under a CMEK key is shared only with --recipient-has-key: the
share hands out the blob, which the reader opens with that key.`,
		Example: `  keyfold share create VAULT db/password --link --expires 24h --max-reads 1 --passphrase
  keyfold share create VAULT db/password --user USER --expires 720h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := s.request()
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if s.passphrase {
				if req.Passphrase, err = a.askSecret(cmd.Context(), "Passphrase of the share"); err != nil {
					return err
				}
			}
			vault, path := a.vaultAndPath(args)
			made, err := share(cmd.Context(), c, vault, path, req)
			if err != nil {
				return onProblem(onNotFound(err, listSecrets), api.ProblemShareSealed, "if the reader has that key: --recipient-has-key")
			}
			return a.Answer(made, "%s", made.ShareURL)
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.user, "user", "", "ID or email of a user of your org")
	f.StringVar(&s.agent, "agent", "", "ID of an agent of your org")
	f.StringVar(&s.email, "email", "", "somebody outside of it, who gets the link from you")
	f.BoolVar(&s.link, "link", false, "anybody who has the link")
	f.StringVar(&s.expires, "expires", "", "when it ends: "+timeForms)
	f.IntVar(&s.maxReads, "max-reads", 0, "how often it can be read (no limit)")
	f.BoolVar(&s.passphrase, "passphrase", false, "the reader needs a passphrase, which is asked for")
	f.StringSliceVar(&s.ips, "ip", nil, "address or range that it can be read from (any)")
	f.BoolVar(&s.hasKey, "recipient-has-key", false, "the reader has the vault's CMEK key")
	cmd.MarkFlagsOneRequired("user", "agent", "email", "link")
	cmd.MarkFlagsMutuallyExclusive("user", "agent", "email", "link")
	_ = cmd.MarkFlagRequired("expires")
	return cmd
}

func (s *shareFlags) request() (req api.CreateShare, err error) {
	req = api.CreateShare{IPAllowlist: s.ips, RecipientHasKey: s.hasKey}
	switch {
	case strings.Contains(s.user, "@"):
		req.RecipientType, req.Email = api.ShareUser, s.user
	case s.user != "":
		req.RecipientType, req.RecipientID = api.ShareUser, s.user
	case s.agent != "":
		req.RecipientType, req.RecipientID = api.ShareAgent, s.agent
	case s.email != "":
		req.RecipientType, req.Email = api.ShareEmail, s.email
	default:
		req.RecipientType = api.ShareLink
	}
	if s.maxReads != 0 {
		req.MaxAccessCount = &s.maxReads
	}
	req.ExpiresAt, err = pointInTime("expires", s.expires)
	return req, err
}

// share finds the secret's ID, and the fingerprint where the reader has the key.
func share(ctx context.Context, c *client.Client, vault, path string, req api.CreateShare) (made api.CreatedShare, err error) {
	if req.RecipientHasKey {
		v, err := c.GetVault(ctx, vault)
		if err != nil {
			return made, err
		}
		req.CMEKFingerprint = v.CMEKFingerprint
	}
	secrets, err := c.List(ctx, vault, path)
	if err != nil {
		return made, err
	}
	for _, s := range secrets {
		if s.Path == path {
			return c.CreateShare(ctx, s.ID, req)
		}
	}
	return made, cli.Advise(fmt.Errorf("there is no secret %s that you can see", path), listSecrets)
}

func (a *app) shareListCmd() *cobra.Command {
	var received bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the shares that you have made, or those made for you", Args: cobra.NoArgs,
		RunE: a.calls(func(ctx context.Context, c *client.Client, _ []string) error {
			list := (*client.Client).SentShares
			if received {
				list = (*client.Client).ReceivedShares
			}
			shares, err := list(c, ctx)
			if err != nil {
				return err
			}
			rows := [][]string{{"ID", "PATH", "FOR", "READ", "STATE", "EXPIRES"}}
			for _, s := range shares {
				rows = append(rows, []string{s.ID, s.SecretPath, first(s.RecipientEmail, s.RecipientID, s.RecipientType), reads(s), shareState(s), cli.When(s.ExpiresAt)})
			}
			return a.Table(api.Shares{Shares: append([]api.Share{}, shares...)}, rows)
		}),
	}
	cmd.Flags().BoolVar(&received, "received", false, "those made for you")
	return cmd
}

func reads(s api.Share) string {
	if s.MaxAccessCount == nil {
		return fmt.Sprint(s.AccessCount)
	}
	return fmt.Sprintf("%d of %d", s.AccessCount, *s.MaxAccessCount)
}

func shareState(s api.Share) string {
	switch {
	case s.IsExpired:
		return "over"
	case s.IsAccepted:
		return "accepted"
	}
	return "open"
}

func (a *app) shareRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "revoke SHARE", Short: "End a share", Args: cobra.ExactArgs(1),
		RunE: a.calls(a.deletes(listShares, (*client.Client).RevokeShare)),
	}
}

func (a *app) shareReadCmd() *cobra.Command {
	var out string
	var passphrase bool
	cmd := &cobra.Command{
		Use: "read (SHARE | LINK | -)", Short: "Write the exact bytes of a shared secret to stdout or --out", Args: cobra.ExactArgs(1),
		Long: `Write the exact bytes of a shared secret to stdout or --out. This counts as a read.
- takes the link as a line of stdin, since whoever sees a link can use it. A link
for anybody needs no sign-in; it is asked of the server that it names. A share for
you is read by its ID with your own credentials.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if a.JSON && out != "" {
				return cli.Usagef("--json prints the value and --out writes it to a file; give one")
			}
			link, err := args[0], error(nil)
			if link == "-" {
				if link, err = nextLine(a.In); err != nil {
					return err
				}
			}
			phrase := ""
			if passphrase {
				if phrase, err = a.askSecret(cmd.Context(), "Passphrase of the share"); err != nil {
					return err
				}
			}
			return a.readShare(cmd.Context(), link, phrase, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write to this file, mode 0600")
	cmd.Flags().BoolVar(&passphrase, "passphrase", false, "it needs a passphrase, which is asked for")
	a.keyFlag(cmd)
	return cmd
}

func (a *app) readShare(ctx context.Context, link, passphrase, out string) error {
	c, err := a.connectTo(link)
	if err != nil {
		return err
	}
	s, err := c.OpenShare(ctx, link, passphrase)
	if err != nil {
		return onProblem(err, api.ProblemSharePassphrase, "give the right one with --passphrase")
	}
	if a.JSON {
		s.SharedSecret.Value = string(s.Value)
		return a.PrintJSON(s.SharedSecret)
	}
	return a.writeOut(ctx, out, func(_ context.Context, w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(s.Value))
		return err
	})
}

// connectTo returns a client for a share: of the server that a link names, without
// a credential unless it is the caller's own server. The end of a link, its ID
// and its secret, needs no credential either.
func (a *app) connectTo(link string) (*client.Client, error) {
	who, err := a.caller(ownersKey)
	u, notURL := url.Parse(link)
	if notURL != nil || u.Host == "" {
		if base := a.serverURL(); err != nil && base != "" && strings.Contains(link, ".") {
			return a.client(caller{url: base})
		}
		return a.connect()
	}
	base, _, _ := strings.Cut(link, "/v1/share/")
	if base == link {
		base = u.Scheme + "://" + u.Host
	}
	if err == nil && who.url == base {
		return a.client(who)
	}
	return a.client(caller{url: base})
}
