package vault

import (
	"context"
	"strings"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// purgeBatch is how many rows one commit of a purge removes. A scan holds as
// many in memory, values of 8 MiB included.
const purgeBatch = 16

// Delete removes a vault and all secrets in it. Once its one commit is done,
// the vault is not found any more, and a rotation of its CMEK key has ended; its rows are then removed in batches. What
// a crash or a failing store leaves of them, Recover removes.
func (s *Service) Delete(ctx context.Context, p access.Principal, vaultID string) error {
	err := s.change(ctx, target{p: p, action: access.VaultDelete, vault: vaultID}, func(v vault) error {
		b := new(store.Batch)
		b.RequireRevision(layout.VaultMeta(v.id), v.rev)
		b.Delete(layout.VaultMeta(v.id))
		b.Delete(layout.OrgVault(v.OrgID, v.id))
		b.Put(layout.VaultPurge(v.id), nil)
		if v.Rotation != nil {
			job.Forget(b, v.Rotation.Job)
		}
		return s.commit(ctx, b)
	})
	if err != nil {
		return err
	}
	// The vault is gone, whatever comes of the purge and of the caller's patience.
	if err := s.purge(context.WithoutCancel(ctx), vaultID); err != nil {
		s.log.Warn("rows of a deleted vault remain until the next start", "vault", vaultID, "error", err)
	}
	return nil
}

// Recover finishes the purges that a crash left undone. Call it before the
// Service takes requests; several servers may do so at once.
func (s *Service) Recover(ctx context.Context) error {
	marks := layout.VaultPurge("")
	for rec, err := range store.All(ctx, s.store, store.Prefix(marks)) {
		if err != nil {
			return readFault(err)
		}
		if err := s.purge(ctx, strings.TrimPrefix(rec.Key, marks)); err != nil {
			return err
		}
	}
	return nil
}

// purge removes the rows of a deleted vault and then the mark. No row can
// appear behind it: every commit into a vault requires its meta row.
func (s *Service) purge(ctx context.Context, vaultID string) error {
	rows := store.Prefix(layout.VaultRows(vaultID))
	for {
		recs, err := s.store.Scan(ctx, rows, store.ScanOptions{Limit: purgeBatch})
		if err != nil {
			return readFault(err)
		}
		b := new(store.Batch)
		for _, rec := range recs {
			b.Delete(rec.Key)
			if grantee, ok := layout.GranteeOf(vaultID, rec.Key); ok {
				b.Delete(grantee)
			}
			rows.Start = rec.Key + "\x00" // not again over what was just deleted
		}
		done := len(recs) < purgeBatch
		if done {
			b.Delete(layout.VaultPurge(vaultID))
		}
		if err := s.commit(ctx, b); err != nil || done {
			return err
		}
	}
}
