package identity

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Patterns tells the path patterns that the policies of a principal name, on
// whichever vault: the scopes of a token of an agent that has none of its own.
type Patterns interface {
	Patterns(ctx context.Context, kind access.Kind, principalID string) ([]string, error)
}

// Limits of an agent.
const (
	maxAgentName   = 200  // characters
	maxDescription = 2000 // characters
	maxScopes      = 100
	maxScopesSize  = 6 << 10 // bytes of all scopes as JSON: they travel in every token
	maxAgentVaults = 100
	minTokenTTL    = 60 // seconds
	maxTokenTTL    = 86400
	tokenTTL       = 3600
	agentPage      = 1000
	agentPageBytes = 8 << 20
)

// agent is what is kept of an agent, as JSON under layout.Agent.
type agent struct {
	ID          string    `json:"id"` // UUID
	Name        string    `json:"name"`
	Description string    `json:"description,omitzero"`
	CreatedBy   string    `json:"created_by"` // ID of a user
	Created     time.Time `json:"created"`

	Active  bool      `json:"active"`
	Expires time.Time `json:"expires,omitzero"` // zero: never

	Key        string    `json:"key"` // hex SHA-256 of its key
	KeyCreated time.Time `json:"key_created"`
	KeyExpires time.Time `json:"key_expires,omitzero"` // zero: never

	Scopes   []string `json:"scopes,omitempty"` // path globs and labels
	Vaults   []string `json:"vaults,omitempty"` // IDs; empty: any
	TokenTTL int      `json:"token_ttl"`        // seconds
	Intents  bool     `json:"intents,omitzero"`

	NotBefore time.Time `json:"not_before,omitzero"` // tokens that are not younger are dead
	Ending    bool      `json:"ending,omitzero"`     // NotBefore is to move once more: see endTokensAgain
	Used      time.Time `json:"used,omitzero"`       // see Service.touch
}

// lives reports whether the agent may act at all.
func (a agent) lives(now time.Time) bool { return a.Active && !passed(a.Expires, now) }

// admits reports whether a token of that time still counts. One of the same
// moment does not.
func (a agent) admits(issued time.Time) bool {
	return a.NotBefore.IsZero() || issued.After(a.NotBefore)
}

func (a agent) wire() api.Agent {
	return api.Agent{
		ID: a.ID, Name: a.Name, Description: a.Description, AuthMethod: authMethod, IsActive: a.Active, IntentsAPIEnabled: a.Intents,
		Scopes: append([]string{}, a.Scopes...), VaultIDs: append([]string{}, a.Vaults...), TokenTTLSeconds: a.TokenTTL,
		CreatedAt: a.Created, ExpiresAt: timeOrNil(a.Expires), LastActiveAt: timeOrNil(a.Used),
	}
}

const (
	typeAgent  = "agent"
	authMethod = "api_key" // the one way in
)

// agent reads an agent of the org. Errors: NotFound.
func (s *Service) agent(ctx context.Context, org, id string) (a agent, rev store.Revision, err error) {
	if !isID(id) {
		return a, 0, errNoAgent
	}
	rev, err = s.get(ctx, layout.Agent(org, id), &a)
	if errors.Is(err, fault.NotFound) {
		err = errNoAgent
	}
	return a, rev, err
}

var errNoAgent = fault.New(fault.NotFound, "there is no such agent here; check the ID")

// gateAgent reads an agent of p's org once p may do a to it, which the record
// calls as. One that is not there is decided on like one of no org.
func (s *Service) gateAgent(ctx context.Context, p access.Principal, a access.Action, id, as string) (agent, store.Revision, error) {
	r := access.Resource{Type: typeAgent, As: as}
	if isID(id) { // else it may be a key that was sent by mistake
		r.ID = id
	}
	ag, rev, err := s.agent(ctx, p.OrgID, id)
	if err == nil {
		r.OrgID, r.OwnerID = p.OrgID, ag.CreatedBy
	} else if !errors.Is(err, fault.NotFound) {
		return ag, 0, err
	}
	if err := s.gate.Check(ctx, p, a, r); err != nil {
		return agent{}, 0, err
	}
	return ag, rev, err
}

// CreateAgent makes an agent and its key, which cannot be had again. Errors:
// Invalid; Forbidden, of type resource_limit_exceeded when the plan admits no
// more.
func (s *Service) CreateAgent(ctx context.Context, p access.Principal, req api.CreateAgent) (api.AgentCreated, error) {
	id, err := newID()
	if err != nil {
		return api.AgentCreated{}, err
	}
	r := access.Resource{OrgID: p.OrgID, Type: typeAgent, ID: id, As: "agent.register"}
	if err := s.gate.Check(ctx, p, access.AgentWrite, r); err != nil {
		return api.AgentCreated{}, err
	}
	now := s.now().UTC()
	a := agent{ID: id, CreatedBy: p.ID, Created: now, KeyCreated: now, Active: true, TokenTTL: tokenTTL}
	err = s.change(&a, api.UpdateAgent{
		Name: &req.Name, Description: &req.Description, AuthMethod: req.AuthMethod, Scopes: req.Scopes, VaultIDs: req.VaultIDs,
		ExpiresAt: req.ExpiresAt, APIKeyExpiresAt: req.APIKeyExpiresAt, TokenTTLSeconds: req.TokenTTLSeconds, IntentsAPIEnabled: &req.IntentsAPIEnabled,
	})
	if err != nil {
		return api.AgentCreated{}, err
	}
	key := newKey(agentPrefix)
	a.Key = hash(key)
	made := api.AgentCreated{Agent: a.wire(), APIKey: key}
	err = store.Retry(ctx, func() error { return s.insertAgent(ctx, p, a, made) })
	if err != nil {
		return api.AgentCreated{}, storeFault(err)
	}
	return made, nil
}

// insertAgent commits a new agent, if the plan admits one more. Where agents
// are counted, two creations at once meet at the org's turn: one of them counts
// again.
func (s *Service) insertAgent(ctx context.Context, p access.Principal, a agent, made api.AgentCreated) error {
	var b store.Batch
	if limit, limited := p.Plan.Limit(access.Agents); limited {
		turn := layout.AgentTurn(p.OrgID)
		last, err := s.store.Get(ctx, turn)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return storeFault(err)
		}
		there, err := s.CountAgents(ctx, p.OrgID, limit)
		if err != nil {
			return err
		}
		if err := p.Plan.Admit(access.Agents, there); err != nil {
			return err
		}
		b.RequireRevision(turn, last.Revision)
		b.Put(turn, nil)
	}
	idem.Secret(ctx, made)
	b.Put(layout.AgentOf(p.OrgID, a.CreatedBy, a.ID), nil)
	putKey(&b, p.OrgID, a)
	return s.insert(ctx, layout.Agent(p.OrgID, a.ID), a, &b)
}

// decode reads a row.
func decode[T any](value []byte) (v T, err error) {
	if err := json.Unmarshal(value, &v); err != nil {
		return v, fault.New(fault.Damaged, "a record of an agent or signing secret is damaged; restore the store from a backup")
	}
	return v, nil
}

// CountAgents returns how many agents the org has, or most when it has more.
func (s *Service) CountAgents(ctx context.Context, org string, most int) (int, error) {
	recs, err := s.store.Scan(ctx, store.Prefix(layout.Agent(org, "")), store.ScanOptions{Limit: most})
	return len(recs), storeFault(err)
}

// GetAgent returns an agent. Errors: Forbidden, NotFound.
func (s *Service) GetAgent(ctx context.Context, p access.Principal, id string) (api.Agent, error) {
	a, _, err := s.gateAgent(ctx, p, access.AgentRead, id, "")
	if err != nil {
		return api.Agent{}, err
	}
	return a.wire(), nil
}

// ListAgents returns at most limit agents (0: agentPage, which is also the
// most) after the cursor of the page before, oldest first: all of the org for
// those who run it, else those that p made.
func (s *Service) ListAgents(ctx context.Context, p access.Principal, cursor string, limit int) (api.Agents, error) {
	if err := s.gate.Check(ctx, p, access.AgentRead, access.Resource{OrgID: p.OrgID, Type: typeAgent}); err != nil {
		return api.Agents{}, err
	}
	if cursor != "" && !isID(cursor) || limit < 0 {
		return api.Agents{}, fault.New(fault.Invalid, "cursor must be the next_cursor of the page before, and limit 1 to %d", agentPage)
	}
	if limit == 0 || limit > agentPage {
		limit = agentPage
	}
	prefix, mine := layout.Agent(p.OrgID, ""), !runsOrg(p)
	if mine {
		prefix = layout.AgentOf(p.OrgID, p.ID, "")
	}
	r := store.Prefix(prefix)
	if cursor != "" {
		r.Start = prefix + cursor + "\x00"
	}
	opt := store.ScanOptions{Limit: limit, MaxBytes: agentPageBytes}
	recs, err := s.store.Scan(ctx, r, opt)
	if err != nil {
		return api.Agents{}, storeFault(err)
	}
	out := api.Agents{Agents: []api.Agent{}}
	size := 0
	for _, rec := range recs {
		id := strings.TrimPrefix(rec.Key, prefix)
		size += len(rec.Value)
		if mine {
			rec, err = s.store.Get(ctx, layout.Agent(p.OrgID, id))
			if errors.Is(err, store.ErrNotFound) { // deleted since
				continue
			} else if err != nil {
				return api.Agents{}, storeFault(err)
			}
		}
		a, err := decode[agent](rec.Value)
		if err != nil {
			return api.Agents{}, err
		}
		out.Agents = append(out.Agents, a.wire())
		if a.KeyExpires.IsZero() {
			continue
		}
		if out.APIKeysExpire == nil {
			out.APIKeysExpire = map[string]time.Time{}
		}
		out.APIKeysExpire[a.ID] = a.KeyExpires
	}
	if len(recs) > 0 && opt.Full(len(recs), size) {
		out.NextCursor = strings.TrimPrefix(recs[len(recs)-1].Key, prefix)
	}
	return out, nil
}

// Me returns the agent that p is. Errors: Forbidden (p is none).
func (s *Service) Me(ctx context.Context, p access.Principal) (api.AgentSelf, error) {
	r := access.Resource{OrgID: p.OrgID, Type: typeAgent, ID: p.ID}
	if err := s.gate.Check(ctx, p, access.AgentRead, r); err != nil {
		return api.AgentSelf{}, err
	}
	if p.Kind != access.Agent {
		return api.AgentSelf{}, fault.New(fault.Forbidden, "this is for agents; who a user is says GET /v1/auth/me")
	}
	a, _, err := s.agent(ctx, p.OrgID, p.ID)
	if err != nil {
		return api.AgentSelf{}, err
	}
	w := a.wire()
	return api.AgentSelf{
		ID: a.ID, Name: a.Name, Description: a.Description, OrgID: p.OrgID, Scopes: w.Scopes, VaultIDs: w.VaultIDs, IsActive: w.IsActive,
		IntentsAPIEnabled: a.Intents, CreatedBy: a.CreatedBy, CreatedAt: a.Created, ExpiresAt: w.ExpiresAt, LastActiveAt: w.LastActiveAt,
	}, nil
}

// Enroll answers a program that asks to become an agent, and says the same to
// everybody: a person makes agents. It leaves nothing but an event. Errors:
// Invalid.
func (s *Service) Enroll(ctx context.Context, from From, req api.EnrollAgent) (api.AgentEnrolled, error) {
	if !isText(req.Name, maxAgentName) {
		return api.AgentEnrolled{}, errAgentName
	}
	if err := s.record(ctx, from.event(User{}, "agent.enroll", access.Refused)); err != nil {
		return api.AgentEnrolled{}, err
	}
	return api.AgentEnrolled{
		AgentID: uuid.Nil.String(),
		Message: "Agents are made by people: ask a person of your org to run \"keyfold agent create\" and to hand you the key.",
	}, nil
}
