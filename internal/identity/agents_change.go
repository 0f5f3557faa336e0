package identity

import (
	"context"
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// maxDeletedAgents is the most agents that one call deletes.
const maxDeletedAgents = 500

var errAgentName = fault.New(fault.Invalid, "the agent needs a name of 1 to %d characters, without control characters", maxAgentName)

// UpdateAgent changes what req names. Its tokens are dead when this returns, if
// it takes something away: the agent's activity, scopes or vaults. Errors:
// Invalid, Forbidden, NotFound.
func (s *Service) UpdateAgent(ctx context.Context, p access.Principal, id string, req api.UpdateAgent) (api.Agent, error) {
	as := "agent.update"
	if req.IsActive != nil && !*req.IsActive {
		as = "agent.deactivate"
	}
	a, err := s.editAgent(ctx, p, id, as, func(a *agent, _ *store.Batch) error {
		before := *a
		if err := s.change(a, req); err != nil {
			return err
		}
		if a.hasLessThan(before) {
			s.endTokens(a)
		}
		idem.Answer(ctx, a.wire())
		return nil
	})
	if err != nil {
		return api.Agent{}, err
	}
	return a.wire(), nil
}

// RotateAgentKey gives the agent another key and returns it. The old one and
// all tokens are dead when this returns. A key with an end is followed by one
// that lives as long. Errors: Forbidden, NotFound.
func (s *Service) RotateAgentKey(ctx context.Context, p access.Principal, id string) (api.AgentKeyRotated, error) {
	key := newKey(agentPrefix)
	_, err := s.editAgent(ctx, p, id, "agent.rotate_key", func(a *agent, b *store.Batch) error {
		b.Delete(layout.AgentKey(a.Key))
		life := a.KeyExpires.Sub(a.KeyCreated)
		a.Key, a.KeyCreated = hash(key), s.now().UTC()
		if !a.KeyExpires.IsZero() {
			a.KeyExpires = a.KeyCreated.Add(life)
		}
		s.endTokens(a)
		putKey(b, p.OrgID, *a)
		idem.Secret(ctx, api.AgentKeyRotated{APIKey: key})
		return nil
	})
	if err != nil {
		return api.AgentKeyRotated{}, err
	}
	return api.AgentKeyRotated{APIKey: key}, nil
}

// DeleteAgent removes an agent. Its key and tokens are dead when this returns.
// Errors: Forbidden, NotFound.
func (s *Service) DeleteAgent(ctx context.Context, p access.Principal, id string) error {
	return storeFault(store.Retry(ctx, func() error {
		a, rev, err := s.gateAgent(ctx, p, access.AgentWrite, id, "agent.delete")
		if err != nil {
			return err
		}
		row := layout.Agent(p.OrgID, a.ID)
		var b store.Batch
		b.RequireRevision(row, rev)
		b.Delete(row)
		b.Delete(layout.AgentKey(a.Key))
		b.Delete(layout.AgentOf(p.OrgID, a.CreatedBy, a.ID))
		_, err = s.store.Commit(ctx, &b)
		return err
	}))
}

// DeleteAgents is DeleteAgent of 1 to maxDeletedAgents agents, each for itself:
// the answer says which are still there. Errors: Invalid, Forbidden, Unavailable.
func (s *Service) DeleteAgents(ctx context.Context, p access.Principal, ids []string) (api.AgentsDeleted, error) {
	out := api.AgentsDeleted{Errors: []api.AgentNotDeleted{}}
	if len(ids) == 0 || len(ids) > maxDeletedAgents {
		return out, fault.New(fault.Invalid, "agent_ids must be 1 to %d IDs", maxDeletedAgents)
	}
	if err := s.gate.Check(ctx, p, access.AgentWrite, access.Resource{OrgID: p.OrgID, Type: typeAgent, As: "agent.delete_many"}); err != nil {
		return out, err // of who may delete none at all
	}
	if err := idem.Repeatable(ctx); err != nil {
		return out, err
	}
	for _, id := range ids {
		switch err := s.DeleteAgent(ctx, p, id); {
		case err == nil:
			out.Deleted++
		case errors.Is(err, fault.NotFound), errors.Is(err, fault.Forbidden):
			out.Failed++
			out.Errors = append(out.Errors, api.AgentNotDeleted{ID: id, Reason: fault.Of(err).Message})
		default:
			return api.AgentsDeleted{}, err
		}
	}
	return out, nil
}

// editAgent lets edit change an agent and the batch that stores it, which is
// done again when somebody else was faster. Where it was cut off after it, the next
// edit ends the tokens again, and so does the same request when it is sent again.
func (s *Service) editAgent(ctx context.Context, p access.Principal, id, as string, edit func(*agent, *store.Batch) error) (a agent, err error) {
	idem.Rest(ctx, func(ctx context.Context) error { return s.endTokensAgain(ctx, p.OrgID, id) })
	err = store.Retry(ctx, func() error {
		var rev store.Revision
		if a, rev, err = s.gateAgent(ctx, p, access.AgentWrite, id, as); err != nil {
			return err
		}
		before := a.NotBefore
		var b store.Batch
		if err := edit(&a, &b); err != nil {
			return err
		}
		a.Ending = a.Ending || !a.NotBefore.Equal(before)
		return s.putAgent(ctx, &b, p.OrgID, a, rev)
	})
	if err == nil && a.Ending {
		err = s.endTokensAgain(ctx, p.OrgID, a.ID)
	}
	return a, storeFault(err)
}

// putAgent commits b with the row of a, as long as it is at rev.
func (s *Service) putAgent(ctx context.Context, b *store.Batch, org string, a agent, rev store.Revision) error {
	row := layout.Agent(org, a.ID)
	b.RequireRevision(row, rev)
	if err := put(b, row, a); err != nil {
		return err
	}
	_, err := s.store.Commit(ctx, b)
	return err
}

// change writes to a what req names, and checks it.
func (s *Service) change(a *agent, req api.UpdateAgent) (err error) {
	set(&a.Name, req.Name)
	set(&a.Description, req.Description)
	set(&a.Active, req.IsActive)
	set(&a.Intents, req.IntentsAPIEnabled)
	set(&a.TokenTTL, req.TokenTTLSeconds)
	if req.Scopes != nil {
		a.Scopes = req.Scopes
	}
	if req.VaultIDs != nil {
		a.Vaults = req.VaultIDs
	}
	if err := s.end(&a.Expires, "expires_at", req.ExpiresAt); err != nil {
		return err
	}
	if err := s.end(&a.KeyExpires, "api_key_expires_at", req.APIKeyExpiresAt); err != nil {
		return err
	}
	if req.AuthMethod != "" && req.AuthMethod != authMethod {
		return fault.New(fault.Invalid, "auth_method must be %s", authMethod)
	}
	return a.check()
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// end sets *to when a request has that member.
func (s *Service) end(to *time.Time, member string, t *time.Time) error {
	at, err := s.future(member, t)
	if t != nil && err == nil {
		*to = at
	}
	return err
}

// check reports what is wrong with an agent.
func (a agent) check() error {
	switch {
	case !isText(a.Name, maxAgentName):
		return errAgentName
	case !utf8.ValidString(a.Description) || utf8.RuneCountInString(a.Description) > maxDescription:
		return fault.New(fault.Invalid, "the description must be UTF-8 of at most %d characters", maxDescription)
	case a.TokenTTL < minTokenTTL || a.TokenTTL > maxTokenTTL:
		return fault.New(fault.Invalid, "token_ttl_seconds must be %d to %d", minTokenTTL, maxTokenTTL)
	case len(a.Vaults) > maxAgentVaults || slices.ContainsFunc(a.Vaults, func(id string) bool { return !isID(id) }):
		return fault.New(fault.Invalid, "vault_ids must be at most %d IDs of vaults", maxAgentVaults)
	}
	return checkScopes(a.Scopes)
}

// checkScopes reports what is wrong with the scopes of an agent or a key.
func checkScopes(scopes []string) error {
	for _, scope := range scopes {
		if access.IsLabel(scope) && len(scope) <= access.MaxPattern {
			continue
		}
		if err := access.CheckPattern(scope); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(scopes)
	if err != nil || len(scopes) > maxScopes || len(raw) > maxScopesSize {
		return fault.New(fault.Invalid, "scopes must be at most %d, of %d bytes together; one glob may stand for many paths", maxScopes, maxScopesSize)
	}
	return nil
}

// hasLessThan reports whether a token of the agent as it was before could do
// more than one of now. Scopes are compared as texts: what is not the same may
// be less. No scopes are those of the policies, and no vaults are any.
func (a agent) hasLessThan(before agent) bool {
	return before.Active && !a.Active ||
		len(a.Scopes) == 0 && len(before.Scopes) > 0 || !contains(a.Scopes, before.Scopes) ||
		len(a.Scopes) > 0 && len(before.Scopes) == 0 ||
		len(a.Vaults) > 0 && (len(before.Vaults) == 0 || !contains(a.Vaults, before.Vaults))
}

func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(one string) bool { return !slices.Contains(all, one) })
}

// endTokens makes all tokens of the agent dead that are there.
func (s *Service) endTokens(a *agent) { a.NotBefore = endNow(s.now(), a.NotBefore) }

// endTokensAgain moves NotBefore once more: an exchange that read the row before
// the first time was stored began before this one, and so its token is dead, too. Once
// that is done there is nothing to do.
func (s *Service) endTokensAgain(ctx context.Context, org, id string) error {
	return store.Retry(ctx, func() error {
		a, rev, err := s.agent(ctx, org, id)
		if errors.Is(err, fault.NotFound) {
			return nil // deleted meanwhile
		} else if err != nil {
			return err
		}
		if !a.Ending {
			return nil
		}
		a.Ending = false
		s.endTokens(&a)
		return s.putAgent(ctx, new(store.Batch), org, a, rev)
	})
}

// putKey adds the row of the agent's key to b.
func putKey(b *store.Batch, org string, a agent) {
	b.Put(layout.AgentKey(a.Key), []byte(org+":"+a.ID))
}
