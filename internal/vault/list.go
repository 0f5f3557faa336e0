package vault

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// ListSecrets returns the newest version of every secret whose path begins
// with prefix, as plain text, and that p may read, in the order of paths.
// Deleted secrets are left out; expired, disabled and read out ones are not. A
// listing counts as no read. It comes from the heads alone; so do the details, of which
// nothing is known where an older program wrote the head.
func (s *Service) ListSecrets(ctx context.Context, p access.Principal, vaultID, prefix string, details bool) (api.Secrets, error) {
	v, err := s.gate(ctx, target{p: p, action: access.SecretList, vault: vaultID})
	if err != nil {
		return api.Secrets{}, err
	}
	mayRead, err := s.authority.Filter(ctx, p, access.SecretRead, v.resource("", ""))
	if err != nil {
		return api.Secrets{}, err
	}
	out := api.Secrets{Secrets: []api.ListedSecret{}}
	heads := layout.SecretHead(v.id, "")
	for rec, err := range store.All(ctx, s.store, store.Prefix(heads+prefix)) {
		if err != nil {
			return api.Secrets{}, readFault(err)
		}
		h, err := decodeRow[secretHead](rec.Key, rec.Value)
		if err != nil {
			return api.Secrets{}, damaged(err)
		}
		path := strings.TrimPrefix(rec.Key, heads)
		if h.live() && mayRead(path) {
			listed := api.ListedSecret{SecretMetadata: h.wire(path)}
			if details && h.CreatedBy != "" {
				listed.CreatedBy, listed.CMEKEncrypted = h.CreatedBy, &h.Sealed
			}
			out.Secrets = append(out.Secrets, listed)
		}
	}
	return out, nil
}

// Versions returns the versions of a secret that were not deleted, newest
// first. fault.NotFound when there are none. The details are what their rows say,
// which nothing proves but a read of the value: see secretAAD.
func (s *Service) Versions(ctx context.Context, p access.Principal, vaultID, path string, details bool) (api.Versions, error) {
	v, err := s.gate(ctx, target{p: p, action: access.SecretRead, vault: vaultID, path: path, as: "secret.versions"})
	if err != nil {
		return api.Versions{}, err
	}
	h, _, err := load[secretHead](ctx, s, layout.SecretHead(v.id, path))
	if err != nil {
		return api.Versions{}, err
	}
	if !h.live() {
		return api.Versions{}, errNoSecret
	}
	disabled, err := s.disabledVersions(ctx, v.id, path)
	if err != nil {
		return api.Versions{}, err
	}
	var out api.Versions
	for n := h.Version; n > h.DeletedThrough; n-- {
		r, err := s.loadVersion(ctx, v.id, path, n)
		if err != nil {
			return api.Versions{}, err
		}
		listed := api.ListedSecret{SecretMetadata: r.metadata(path, n)}
		if details {
			sealed := r.Fingerprint != ""
			listed.CreatedBy, listed.CMEKEncrypted = r.CreatedBy, &sealed
		}
		out.Versions = append(out.Versions, api.VersionMetadata{ListedSecret: listed, IsDisabled: disabled[n]})
	}
	return out, nil
}

// disabledVersions returns which versions of a secret are disabled.
func (s *Service) disabledVersions(ctx context.Context, vaultID, path string) (map[int]bool, error) {
	states := layout.SecretStates(vaultID, path)
	out := map[int]bool{}
	for rec, err := range store.All(ctx, s.store, store.Prefix(states)) {
		if err != nil {
			return nil, readFault(err)
		}
		state, err := decodeRow[versionState](rec.Key, rec.Value)
		if err != nil {
			return nil, damaged(err)
		}
		n, err := strconv.Atoi(strings.TrimPrefix(rec.Key, states))
		if err != nil {
			return nil, damaged(err)
		}
		out[n] = state.Disabled
	}
	return out, nil
}

// wire is what a listing shows of a head.
func (h secretHead) wire(path string) api.SecretMetadata {
	return api.SecretMetadata{
		ID: h.ID, Path: path, Type: h.Type, Version: h.Version, CreatedAt: h.CreatedAt,
		Metadata: rawJSON(h.Metadata), ExpiresAt: h.ExpiresAt,
	}
}

// metadata is what a listing shows of a version.
func (a attributes) metadata(path string, n int) api.SecretMetadata {
	return api.SecretMetadata{
		ID: a.SecretID, Path: path, Type: a.Type, Version: n, CreatedAt: a.CreatedAt,
		Metadata: rawJSON(a.Metadata), ExpiresAt: a.ExpiresAt,
	}
}

// secret is what a read shows of a version.
func (a attributes) secret(path string, n int, value string) api.Secret {
	return api.Secret{
		ID: a.SecretID, Path: path, Type: a.Type, Value: value, Version: n, CreatedAt: a.CreatedAt,
		Metadata: rawJSON(a.Metadata), CreatedBy: a.CreatedBy, ExpiresAt: a.ExpiresAt, CMEKEncrypted: a.Fingerprint != "",
	}
}

// rawJSON is text as a JSON value, nil when there is none.
func rawJSON(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}
