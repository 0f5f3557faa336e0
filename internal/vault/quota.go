package vault

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// quotas make the steps "count, then add" of one org follow each other. They
// do so inside of one process: of servers that share a store each may exceed a
// quota by what the others add at that moment.
type quotas [64]sync.Mutex

var quotaSeed = maphash.MakeSeed()

// admit runs add, which makes one more of c in p's org, if the org's plan has
// room for it. Where the plan has no limit nothing is counted.
func (s *Service) admit(ctx context.Context, p access.Principal, c access.Counted, add func() error) error {
	limit, ok := p.Plan.Limit(c)
	if !ok {
		return add()
	}
	one := &s.quotas[maphash.String(quotaSeed, p.OrgID)%uint64(len(s.quotas))]
	one.Lock()
	defer one.Unlock()
	n, err := s.count(ctx, p.OrgID, c, limit)
	if err != nil {
		return err
	}
	if err := p.Plan.Admit(c, n); err != nil {
		return err
	}
	return add()
}

// Usage counts the org's vaults, or the secrets in them, up to most. It asks no gate and
// reads every head: for those who have asked one.
func (s *Service) Usage(ctx context.Context, orgID string, c access.Counted, most int) (int, error) {
	return s.count(ctx, orgID, c, most)
}

// count counts until it has found limit, which is 1 or more.
func (s *Service) count(ctx context.Context, orgID string, c access.Counted, limit int) (n int, err error) {
	index := layout.OrgVault(orgID, "")
	for rec, err := range store.All(ctx, s.store, store.Prefix(index)) {
		if err != nil {
			return 0, readFault(err)
		}
		found := 1
		if c == access.Secrets {
			if found, err = s.countSecrets(ctx, strings.TrimPrefix(rec.Key, index), limit-n); err != nil {
				return 0, err
			}
		}
		if n += found; n == limit {
			break
		}
	}
	return n, nil
}

// countSecrets counts the live secrets of a vault until it has found limit.
func (s *Service) countSecrets(ctx context.Context, vaultID string, limit int) (n int, err error) {
	for rec, err := range store.All(ctx, s.store, store.Prefix(layout.SecretHead(vaultID, ""))) {
		if err != nil {
			return 0, readFault(err)
		}
		h, err := decodeRow[secretHead](rec.Key, rec.Value)
		if err != nil || h.live() { // a damaged one stops nobody
			n++
		}
		if n == limit {
			break
		}
	}
	return n, nil
}
