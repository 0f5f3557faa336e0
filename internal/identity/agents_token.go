package identity

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/token"
)

// keyTokenTTL is how long a token lives that a user's key was exchanged for.
const keyTokenTTL = 15 * time.Minute

// allPaths is the scope of a token that limits nothing: where an agent's
// policies name more patterns than a token holds, they alone decide.
const allPaths = "**"

// AgentToken exchanges an agent's key for a token, which ends with the agent or
// the key if these end before. Every key that is not a live one of a live
// agent, or not of the agent that req names, is one and the same
// Unauthenticated, and an event.
func (s *Service) AgentToken(ctx context.Context, from From, req api.GetAgentToken) (api.AgentToken, error) {
	now := s.now()
	org, a, err := s.agentOfKey(ctx, req.APIKey)
	if err == nil && (!a.lives(now) || passed(a.KeyExpires, now) || req.AgentID != "" && req.AgentID != a.ID) {
		err = errCredential
	}
	if err == nil {
		_, err = s.get(ctx, layout.Org(org), new(Org))
	}
	who := access.Event{OrgID: org, ActorType: typeAgent, ActorID: a.ID, ResourceType: typeAgent, ResourceID: a.ID}
	if err := s.recordAuth(ctx, from, who, err); err != nil {
		return api.AgentToken{}, err
	}
	scopes, err := s.tokenScopes(ctx, a)
	if err != nil {
		return api.AgentToken{}, err
	}
	t, err := s.issueFor(ctx, now, token.Claims{
		Kind: access.Agent, ID: a.ID, OrgID: org, Scopes: scopes, Vaults: a.Vaults, IssuedAt: since(now, a.NotBefore),
		Expires: now.Add(time.Duration(a.TokenTTL) * time.Second),
	}, a.Expires, a.KeyExpires)
	if err != nil {
		return api.AgentToken{}, err
	}
	return api.AgentToken{Token: t, AgentID: a.ID, VaultIDs: append([]string{}, a.Vaults...)}, nil
}

// agentOfKey finds the agent whose key this is, by its row too: the key may have
// been replaced since its own row was read. Errors: NotFound, Unauthenticated.
func (s *Service) agentOfKey(ctx context.Context, key string) (org string, a agent, err error) {
	if !isKey(key, agentPrefix) {
		return "", a, errCredential
	}
	rec, err := s.store.Get(ctx, layout.AgentKey(hash(key)))
	if err != nil {
		return "", a, storeFault(err)
	}
	org, id, _ := strings.Cut(string(rec.Value), ":")
	if a, _, err = s.agent(ctx, org, id); err == nil && a.Key != hash(key) {
		err = errCredential
	}
	return org, a, err
}

// tokenScopes are the scopes of a token of the agent's: its own or, when it has
// none, the patterns of its policies at this moment.
func (s *Service) tokenScopes(ctx context.Context, a agent) ([]string, error) {
	if len(a.Scopes) > 0 {
		return a.Scopes, nil
	}
	scopes, err := s.patterns.Patterns(ctx, access.Agent, a.ID)
	if err == nil && checkScopes(scopes) != nil {
		return []string{allPaths}, nil
	}
	return scopes, err
}

// APIKeyToken exchanges a user's API key for a token with the key's scopes,
// which ends with the key if that ends before. Every key that is not a live one
// of a user is one and the same Unauthenticated, and an event.
func (s *Service) APIKeyToken(ctx context.Context, from From, req api.GetAPIKeyToken) (api.Token, error) {
	now := s.now()
	var k keyRecord
	var p access.Principal
	var issued time.Time
	err := error(errCredential)
	if isKey(req.APIKey, keyPrefix) {
		if p, err = s.authenticate(ctx, req.APIKey); err == nil && p.Kind != access.User {
			err = errCredential
		}
	}
	if err == nil {
		issued, err = s.Proved(ctx, p)
	}
	if err == nil {
		k, _, err = s.liveKey(ctx, req.APIKey)
	}
	who := access.Event{OrgID: p.OrgID, ActorType: string(p.Kind), ActorID: p.ID, ResourceType: typeAPIKey, ResourceID: k.ID}
	if err := s.recordAuth(ctx, from, who, err); err != nil {
		return api.Token{}, err
	}
	return s.issueFor(ctx, now, token.Claims{
		Kind: access.User, ID: p.ID, OrgID: p.OrgID, Scopes: k.Scopes, IssuedAt: issued, Expires: now.Add(keyTokenTTL),
	}, k.Expires)
}

// recordAuth records how an exchange went, before it is answered, and returns
// the answer to one that failed.
func (s *Service) recordAuth(ctx context.Context, from From, e access.Event, err error) error {
	if isNotLive(err) {
		err = errCredential
	} else if err != nil {
		return err
	}
	e.Action, e.Outcome, e.Addr, e.RequestID = "auth.success", access.Allowed, from.Addr, from.RequestID
	if err != nil {
		e.Action, e.Outcome = "auth.failure", access.Failed
		if e.ActorID == "" {
			e.ActorType, e.OrgID = "anonymous", ""
		}
	}
	e.Details = map[string]string{}
	return cmp.Or(s.record(ctx, e), err)
}

// issueFor makes an access token. A token ends at a whole second: it lives the
// rest of its last one too, where it may.
func (s *Service) issueFor(ctx context.Context, now time.Time, c token.Claims, ends ...time.Time) (api.Token, error) {
	c.Expires = earliest(c.Expires.Add(time.Second-1), append(ends, now.Add(token.MaxTTL))...)
	text, expires, err := s.tokens.Issue(ctx, c)
	if err != nil {
		return api.Token{}, err
	}
	return api.Token{AccessToken: text, TokenType: "Bearer", ExpiresIn: int(expires.Sub(now) / time.Second)}, nil
}

// earliest returns the earliest of the times; those that are zero are never.
func earliest(t time.Time, others ...time.Time) time.Time {
	for _, o := range others {
		if !o.IsZero() && o.Before(t) {
			t = o
		}
	}
	return t
}
