package share

import (
	"cmp"
	"context"
	"errors"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Outbound lists the shares that p made, newest first, MaxShares at most. An
// agent has none.
func (s *Service) Outbound(ctx context.Context, p access.Principal) (api.Shares, error) {
	if p.Kind != access.User {
		return api.Shares{Shares: []api.Share{}}, checkKind(p)
	}
	return s.list(ctx, layout.ShareBy(p.OrgID, p.ID, ""))
}

// Inbound lists the newest MaxShares shares that are for p, newest first.
func (s *Service) Inbound(ctx context.Context, p access.Principal) (api.Shares, error) {
	if err := checkKind(p); err != nil {
		return api.Shares{}, err
	}
	return s.list(ctx, layout.ShareFor(p.OrgID, string(p.Kind), p.ID, ""))
}

// checkKind refuses who can neither make a share nor be given one.
func checkKind(p access.Principal) error {
	if p.Kind != access.User && p.Kind != access.Agent {
		return fault.New(fault.Forbidden, "shares are for users and agents; sign in as one")
	}
	return nil
}

func (s *Service) list(ctx context.Context, index string) (api.Shares, error) {
	recs, err := s.Store.Scan(ctx, store.Prefix(index), store.ScanOptions{Limit: MaxShares, Reverse: true})
	if err != nil {
		return api.Shares{}, store.Fault(err)
	}
	out := api.Shares{Shares: make([]api.Share, 0, len(recs))}
	for _, rec := range recs {
		r, _, err := s.get(ctx, rec.Key[len(index):])
		switch {
		case errors.Is(err, fault.NotFound): // it ended since the scan
		case err != nil:
			return api.Shares{}, err
		default:
			out.Shares = append(out.Shares, s.wire(r))
		}
	}
	return out, nil
}

func (s *Service) wire(r row) api.Share {
	return api.Share{
		ID: r.ID, VaultID: r.VaultID, SecretID: r.SecretID, SecretPath: r.Path, RecipientType: r.RecipientType, RecipientID: r.RecipientID, RecipientEmail: r.Email,
		CreatedBy: string(access.User) + ":" + r.Maker, AccessCount: r.Count, MaxAccessCount: r.maxCount(),
		ExpiresAt: r.ExpiresAt, CreatedAt: r.CreatedAt, IsExpired: r.over(s.Now()) != "", IsAccepted: r.Accepted,
	}
}

// Revoke ends a share that p made. To everybody else it is errNone.
func (s *Service) Revoke(ctx context.Context, p access.Principal, id string) error {
	return s.end(ctx, p, id, "share.revoke", row.madeBy)
}

// Decline ends a share that is for p. To everybody else it is errNone.
func (s *Service) Decline(ctx context.Context, p access.Principal, id string) error {
	return s.end(ctx, p, id, "share.decline", row.isFor)
}

// end removes a share; whose says whether it is p's to end.
func (s *Service) end(ctx context.Context, p access.Principal, id, action string, whose func(row, access.Principal) bool) error {
	recorded := false
	return s.retry(ctx, func() error {
		r, rev, err := s.get(ctx, id)
		if err != nil {
			return err
		}
		if !whose(r, p) {
			return s.refuse(ctx, p, action, r)
		}
		if !recorded {
			if err := s.record(ctx, p, action, r, access.Allowed, ""); err != nil {
				return err
			}
			recorded = true
		}
		return s.remove(ctx, r, rev)
	})
}

// refuse answers who has no part in a share, after it was recorded.
func (s *Service) refuse(ctx context.Context, p access.Principal, action string, r row) error {
	return cmp.Or(s.record(ctx, p, action, r, access.Refused, "not_the_recipient"), error(errNone))
}

// Accept notes that p has seen a share that is for p. It opens without it, too.
func (s *Service) Accept(ctx context.Context, p access.Principal, id string) error {
	r, _, err := s.get(ctx, id)
	if err != nil {
		return err
	}
	if !r.isFor(p) {
		return s.refuse(ctx, p, "share.accept", r)
	}
	if r.over(s.Now()) != "" {
		return errNone
	}
	if err := s.record(ctx, p, "share.accept", r, access.Allowed, ""); err != nil {
		return err
	}
	_, err = s.change(ctx, id, func(r *row) error { r.Accepted = true; return nil })
	return err
}
