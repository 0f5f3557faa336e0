package allinone

import (
	"context"
	"net/url"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/device"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/passkey"
	"github.com/keyfold/keyfold/internal/password"
	"github.com/keyfold/keyfold/internal/policy"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/server"
	"github.com/keyfold/keyfold/internal/share"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/token"
)

// people puts into s who may come in, how, and who lets them.
func (n *Node) people(s *server.Config, rows store.Store, box *sealed.Box, recorder access.Recorder, cfg Config) (err error) {
	passwords := cfg.Passwords
	if passwords == nil {
		passwords = password.New(password.Params{})
	}
	s.Tokens = token.New(token.Config{Store: rows, Box: box, Now: cfg.Now, Log: cfg.Log})
	n.Identity = identity.New(identity.Config{
		Store: rows, Gate: s.Gate, Recorder: recorder, Box: box, Tokens: s.Tokens, Sessions: s.Tokens, Patterns: policy.NewTable(n.Store),
		Backoff: n.backoff(cfg), Passwords: passwords,
		SignUp: cfg.SignUp, DefaultPlan: cfg.DefaultPlan, Now: cfg.Now,
	})
	s.Identity = n.Identity
	s.Policies = policy.New(policy.Config{Store: rows, Gate: s.Gate, Vaults: s.Vaults, Now: cfg.Now, Known: n.known})
	s.Shares = share.New(share.Config{
		Store: rows, Gate: s.Gate, Recorder: recorder, Vault: s.Vaults, People: n.Identity, Passwords: passwords,
		PublicURL: cfg.PublicURL, Now: cfg.Now, Log: cfg.Log,
	})
	s.Devices = device.New(device.Config{
		Challenges: s.Tokens, People: n.Identity, Gate: s.Gate, Recorder: recorder,
		Guesses: n.backoff(cfg), PublicURL: cfg.PublicURL, Now: cfg.Now,
	})
	if cfg.PublicURL == "" {
		return nil
	}
	site, err := url.Parse(cfg.PublicURL)
	if err != nil {
		return err
	}
	s.Passkeys, err = passkey.New(passkey.Config{
		Store: rows, Gate: s.Gate, Recorder: recorder, Challenges: s.Tokens, People: n.Identity,
		RPID: site.Hostname(), Origins: []string{site.Scheme + "://" + site.Host}, Now: cfg.Now,
	})
	return err
}

// known reports who is no principal of the org.
func (n *Node) known(ctx context.Context, orgID string, kind access.Kind, id string) error {
	_, _, err := n.Identity.Recipient(ctx, orgID, kind, id)
	return err
}
