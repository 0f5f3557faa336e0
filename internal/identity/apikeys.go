package identity

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// maxKeys is how many API keys a user or an org may have at once, or one or two
// more when they are made at the same moment.
const maxKeys = 100

const typeAPIKey = "api_key"

// AddAPIKey makes a key of p's own or, with a role, one of the org's. Errors:
// Invalid, Forbidden, Conflict (too many keys).
func (s *Service) AddAPIKey(ctx context.Context, p access.Principal, req api.CreateAPIKey) (api.APIKeyCreated, error) {
	k := keyRecord{Role: req.Role}
	switch req.Role {
	case "":
		k.User = p.ID
		return s.addKey(ctx, p, access.APIKeyWrite, access.Resource{OrgID: p.OrgID, OwnerID: p.ID}, k, req)
	case api.RoleFrontend, api.RoleBackend:
		k.Org = p.OrgID
		return s.addKey(ctx, p, access.OrgKeyWrite, access.Resource{OrgID: p.OrgID}, k, req)
	}
	return api.APIKeyCreated{}, fault.New(fault.Invalid, "role must be frontend or backend, or absent for a key of your own; admin keys are made at POST /admin/keys")
}

// AddAdminKey makes an admin key in p's org; p is an operator. Errors: Invalid,
// Forbidden.
func (s *Service) AddAdminKey(ctx context.Context, p access.Principal, req api.CreateAPIKey) (api.APIKeyCreated, error) {
	if req.Role != "" && req.Role != api.RoleAdmin {
		return api.APIKeyCreated{}, fault.New(fault.Invalid, "this makes admin keys alone; leave out the role")
	}
	return s.addKey(ctx, p, access.Operate, access.Resource{}, keyRecord{Role: api.RoleAdmin, Org: p.OrgID}, req)
}

func (s *Service) addKey(ctx context.Context, p access.Principal, a access.Action, r access.Resource, k keyRecord, req api.CreateAPIKey) (out api.APIKeyCreated, err error) {
	if k.ID, err = newID(); err != nil {
		return out, err
	}
	r.Type, r.ID, r.As = typeAPIKey, k.ID, "api_key.create"
	if err := s.gate.Check(ctx, p, a, r); err != nil {
		return out, err
	}
	if err := s.fillKey(ctx, &k, req); err != nil {
		return out, err
	}
	key := newKey(keyPrefix)
	made := func() any { return api.APIKeyCreated{APIKey: key, Key: k.wire(s.now())} }
	idem.Secret(ctx, made) // once the rest of k is there
	if err := s.ensureKey(ctx, key, &k); err != nil {
		return out, err
	}
	return made().(api.APIKeyCreated), nil
}

// fillKey checks what req says of a key, and that there is room for one more.
func (s *Service) fillKey(ctx context.Context, k *keyRecord, req api.CreateAPIKey) (err error) {
	switch {
	case !isText(req.Name, 200):
		return fault.New(fault.Invalid, "the key needs a name of 1 to 200 characters, without control characters")
	case k.User == "" && len(req.Scopes) > 0:
		return fault.New(fault.Invalid, "scopes limit a key of your own; leave them out with a role")
	}
	if err := checkScopes(req.Scopes); err != nil {
		return err
	}
	k.Name, k.Scopes = req.Name, req.Scopes
	if k.Expires, err = s.future("expires_at", req.ExpiresAt); err != nil {
		return err
	}
	there, err := s.store.Scan(ctx, store.Prefix(layout.APIKeyOf(k.owner(), "")), store.ScanOptions{Limit: maxKeys})
	if err == nil && len(there) == maxKeys {
		return fault.New(fault.Conflict, "there are %d keys already; delete those that are not used", maxKeys)
	}
	return storeFault(err)
}

// future returns the time that a member of a request names, UTC; zero for none.
func (s *Service) future(member string, t *time.Time) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	at := t.UTC()
	if !at.After(s.now()) || at.Year() > 9999 { // which RFC 3339 cannot write
		return time.Time{}, fault.New(fault.Invalid, "%s must be in the future, and in UTC within the year 9999; leave it out for never", member)
	}
	return at, nil
}

// APIKeys lists p's keys and, for those who run the org, the org's; each oldest
// first. A key from before there was this list is in it from its next use on.
func (s *Service) APIKeys(ctx context.Context, p access.Principal) (api.APIKeys, error) {
	out := api.APIKeys{Keys: []api.APIKey{}}
	own := access.Resource{OrgID: p.OrgID, OwnerID: p.ID, Type: typeAPIKey}
	if err := s.gate.Check(ctx, p, access.APIKeyRead, own); err != nil {
		return out, err
	}
	if err := s.listKeys(ctx, p.ID, &out); err != nil || !runsOrg(p) {
		return out, err
	}
	if err := s.gate.Check(ctx, p, access.OrgKeyRead, access.Resource{OrgID: p.OrgID, Type: typeAPIKey}); err != nil {
		return api.APIKeys{}, err
	}
	return out, s.listKeys(ctx, p.OrgID, &out)
}

// runsOrg reports whether it is worth asking the gate for what is the whole
// org's. It decides nothing.
func runsOrg(p access.Principal) bool {
	return p.Kind == access.User && (p.Role == access.Owner || p.Role == access.Admin)
}

func (s *Service) listKeys(ctx context.Context, owner string, out *api.APIKeys) error {
	for entry, err := range store.All(ctx, s.store, store.Prefix(layout.APIKeyOf(owner, ""))) {
		if err != nil {
			return storeFault(err)
		}
		var k keyRecord
		switch _, err := s.get(ctx, layout.APIKey(string(entry.Value)), &k); {
		case errors.Is(err, fault.NotFound): // deleted since
		case err != nil:
			return err
		default:
			out.Keys = append(out.Keys, k.wire(s.now()))
		}
	}
	return nil
}

// DeleteAPIKey ends a key of p's own or, for those who run the org, of the
// org's. It is dead when this returns; tokens that were had for it live to
// their end. Errors: NotFound.
func (s *Service) DeleteAPIKey(ctx context.Context, p access.Principal, id string) error {
	if !isID(id) {
		id = "" // it may be a key that was sent by mistake
	}
	own := access.Resource{OrgID: p.OrgID, OwnerID: p.ID, Type: typeAPIKey, ID: id, As: "api_key.delete"}
	if err := s.gate.Check(ctx, p, access.APIKeyWrite, own); err != nil {
		return err
	}
	err := s.deleteKey(ctx, p.ID, id)
	if !errors.Is(err, fault.NotFound) || !runsOrg(p) {
		return err
	}
	if err := s.gate.Check(ctx, p, access.OrgKeyWrite, access.Resource{OrgID: p.OrgID, Type: typeAPIKey, ID: id, As: own.As}); err != nil {
		return err
	}
	return s.deleteKey(ctx, p.OrgID, id)
}

func (s *Service) deleteKey(ctx context.Context, owner, id string) error {
	entry := layout.APIKeyOf(owner, id)
	rec, err := s.store.Get(ctx, entry)
	if id == "" || errors.Is(err, store.ErrNotFound) {
		return fault.New(fault.NotFound, "there is no such API key here; look at the list of them")
	}
	if err != nil {
		return storeFault(err)
	}
	var b store.Batch
	b.Delete(entry)
	b.Delete(layout.APIKey(string(rec.Value)))
	_, err = s.store.Commit(ctx, &b)
	return storeFault(err)
}

// isID reports whether id is in the form of a UUID, so that it is one part of a key.
func isID(id string) bool {
	return len(id) == 36 && strings.Trim(id, "0123456789abcdef-") == ""
}
