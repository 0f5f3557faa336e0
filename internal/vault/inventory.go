package vault

import (
	"cmp"
	"context"
	"slices"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/layout"
)

// inventory counts which keys the versions of a vault need, as they are met in
// the order of their rows: all of one path, the newest last.
type inventory struct {
	*Service
	ctx    context.Context
	vault  string
	keys   map[string]*api.CMEKKey
	path   string       // of the versions that are met
	newest *api.CMEKKey // of the newest of these so far; nil: it is not sealed
	out    *api.CMEKStatus
	err    error
}

// takeInventory adds to out which keys the stored versions need.
func (s *Service) takeInventory(ctx context.Context, vaultID string, out *api.CMEKStatus) error {
	i := inventory{Service: s, ctx: ctx, vault: vaultID, keys: map[string]*api.CMEKKey{}, out: out}
	if err := s.eachVersion(ctx, vaultID, i.see); err != nil {
		return err
	}
	i.settle()
	for _, k := range i.keys {
		out.Keys = append(out.Keys, *k)
	}
	slices.SortFunc(out.Keys, func(a, b api.CMEKKey) int {
		switch out.Fingerprint {
		case a.Fingerprint:
			return -1
		case b.Fingerprint:
			return 1
		}
		return cmp.Or(b.Latest.Compare(a.Latest), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	return i.err
}

func (i *inventory) see(path string, _ int, r versionRow, damaged bool) {
	if path != i.path {
		i.settle()
		i.path = path
	}
	i.newest = nil
	switch {
	case damaged:
		i.out.Damaged++
	case r.Fingerprint == "":
		i.out.Plain++
	default:
		i.newest = i.count(r.attributes)
	}
}

func (i *inventory) count(a attributes) *api.CMEKKey {
	k := i.keys[a.Fingerprint]
	if k == nil {
		k = &api.CMEKKey{Fingerprint: a.Fingerprint, Oldest: a.CreatedAt, Latest: a.CreatedAt}
		i.keys[a.Fingerprint] = k
	}
	k.Versions++
	if a.CreatedAt.Before(k.Oldest) {
		k.Oldest = a.CreatedAt
	}
	if a.CreatedAt.After(k.Latest) {
		k.Latest = a.CreatedAt
	}
	return k
}

// settle counts the newest version of the path, if its secret was not deleted.
func (i *inventory) settle() {
	if i.newest == nil || i.err != nil {
		return
	}
	h, _, err := load[secretHead](i.ctx, i.Service, layout.SecretHead(i.vault, i.path))
	if err == nil && h.live() {
		i.newest.Newest++
	}
	i.newest, i.err = nil, err
}
