package kms

import (
	"context"
	"crypto/ed25519"
	"errors"
	"time"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// auditKEK is the ID of the KEK over the audit's signing key, which it wraps alone.
const auditKEK = "audit"

// auditAAD is what the audit's signing key is bound to. Its row is an envelopeRow
// of its own kind: sealed is the seed of an Ed25519 key (32 bytes).
func auditAAD() []byte { return aead.AAD("keyfold/audit-key/v1") }

// AuditKey returns the key that signs the audit of the KMS in st; the caller
// wipes it with clear. On first use it makes one, with a KEK of its own. It
// fails with fault.Damaged when what is stored does not open, or is half there.
func AuditKey(ctx context.Context, st store.Store, root keyring.Root, now time.Time) (key ed25519.PrivateKey, err error) {
	s := &Service{store: st, root: root}
	err = store.Retry(ctx, func() error {
		key, err = s.auditKey(ctx, now)
		return err
	})
	return key, asFault(err)
}

func (s *Service) auditKey(ctx context.Context, now time.Time) (ed25519.PrivateKey, error) {
	// The row before the KEK: a KEK read after it has the version that the row is
	// under, unless row and KEK were rotated, or made, in between.
	row, rev, err := s.auditRow(ctx)
	missing := errors.Is(err, store.ErrNotFound)
	if err != nil && !missing {
		return nil, err
	}
	ring, _, err := s.readKEK(ctx, auditKEK)
	switch {
	case errors.Is(err, fault.NotFound) && missing:
		return s.makeAuditKey(ctx, now)
	case errors.Is(err, fault.NotFound):
		return nil, damagedAuditKey(aead.ErrOpen)
	case err != nil:
		return nil, err
	}
	defer ring.Wipe()
	seed, err := openEnvelope(ring, row, auditAAD())
	if err != nil {
		if _, now, again := s.auditRow(ctx); again == nil && now != rev {
			return nil, store.ErrConflict
		}
		return nil, damagedAuditKey(err)
	}
	defer clear(seed)
	if len(seed) != ed25519.SeedSize {
		return nil, damagedAuditKey(aead.ErrOpen)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func (s *Service) makeAuditKey(ctx context.Context, now time.Time) (ed25519.PrivateKey, error) {
	ring, err := keyring.New(ctx, s.root, auditKEK, now)
	if err != nil {
		return nil, err
	}
	defer ring.Wipe()
	seed := aead.GenerateRaw()
	defer clear(seed)
	e, err := sealEnvelope(ring, seed, auditAAD())
	if err != nil {
		return nil, err
	}
	var b store.Batch
	b.RequireAbsent(layout.KEK(auditKEK))
	b.Put(layout.KEK(auditKEK), ring.Marshal())
	if err := putAuditRow(&b, e, 0); err != nil {
		return nil, err
	}
	if _, err = s.store.Commit(ctx, &b); err != nil {
		if errors.Is(err, store.ErrConflict) {
			ring.DestroyIn(context.WithoutCancel(ctx), s.root, ring.Primary())
		}
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// putAuditRow writes the row in the place of revision rev; 0: there is none.
func putAuditRow(b *store.Batch, e kmsapi.Envelope, rev store.Revision) error {
	row, err := marshalEnvelope(e)
	b.RequireRevision(layout.AuditKey(), rev)
	b.Put(layout.AuditKey(), row)
	return err
}

// auditRow reads the row; store.ErrNotFound when there is none.
func (s *Service) auditRow(ctx context.Context) (kmsapi.Envelope, store.Revision, error) {
	rec, err := s.store.Get(ctx, layout.AuditKey())
	if err != nil {
		return kmsapi.Envelope{}, 0, err
	}
	row, err := parseEnvelope(auditKEK, rec.Value)
	if err != nil {
		return row, 0, damagedAuditKey(err)
	}
	return row, rec.Revision, nil
}

func damagedAuditKey(err error) error {
	if !errors.Is(err, aead.ErrOpen) {
		return asFault(err)
	}
	return fault.Wrap(fault.Damaged, err, "the stored key of the audit is missing or does not open; restore the key store from its backup")
}

// rewrapAuditKey puts the row of the audit's key under next's primary into b.
func (s *Service) rewrapAuditKey(ctx context.Context, next *keyring.Keyring, b *store.Batch) error {
	e, rev, err := s.auditRow(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return damagedAuditKey(aead.ErrOpen)
	} else if err != nil {
		return err
	}
	if e.WrappedDEK, e.KEKVersion, err = next.Rewrap(e.KEKVersion, e.WrappedDEK, auditAAD()); err != nil {
		return damagedAuditKey(err)
	}
	return putAuditRow(b, e, rev)
}
