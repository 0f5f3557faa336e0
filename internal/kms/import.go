package kms

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// ImportKEK makes raw, 32 bytes that were made elsewhere and stay the caller's to
// wipe, the primary of the threads' KEK: as RotateKEK makes a fresh one, with a
// job that rewraps the DEKs. Version and job are one commit.
//
// It may be repeated: while raw is the primary it answers what is there. It
// fails with fault.Invalid when Config.ImportKEK says no, the root makes its KEKs
// itself, or raw is of another size, can be guessed, or is a key already: an
// older version, even a destroyed one, the root key or a customer's. After any
// other error it may have been done; repeat it.
func (s *Service) ImportKEK(ctx context.Context, raw []byte) (out kmsapi.Rotated, err error) {
	switch {
	case !s.imports:
		return out, fault.New(fault.Invalid, "this KMS takes no key material from elsewhere; rotate the KEK instead, or have its operator set allow_kek_import and start it again")
	case len(raw) != aead.KeySize:
		return out, fault.New(fault.Invalid, "the material of a KEK is %d bytes; send so many", aead.KeySize)
	}
	s.rotating.Lock()
	defer s.rotating.Unlock()
	err = store.Retry(ctx, func() (err error) {
		out, err = s.tryImport(ctx, raw)
		return err
	})
	if err != nil {
		return kmsapi.Rotated{}, asFault(err)
	}
	return out, nil
}

// tryImport is one try: store.ErrConflict means that the KEK was changed
// meanwhile. s.rotating is held.
func (s *Service) tryImport(ctx context.Context, raw []byte) (out kmsapi.Rotated, err error) {
	ring, rev, err := s.readKEK(ctx, kmsapi.ThreadsKEK)
	if err != nil {
		return out, err
	}
	defer ring.Wipe()
	r := rotation{KEKID: ring.ID(), Imported: ring.Primary(), Actor: actor(ctx)}
	var j job.Job
	switch has, err := ring.VersionOf(raw); {
	case err != nil:
		return out, err
	case has == ring.Primary(): // the job, too, may have been cancelled since
		j, err = s.startRotation(ctx, r)
		return kmsapi.Rotated{KEKID: r.KEKID, KEKVersion: r.Imported, Job: wireJob(j)}, err
	}
	if err := s.checkNoCustomers(ctx, raw); err != nil {
		return out, err
	}
	next, err := ring.Import(ctx, s.root, raw, s.now())
	if err != nil {
		return out, err
	}
	defer next.Wipe()
	r.Imported = next.Primary()
	err = s.audited(ctx, []audit.Event{
		{Action: "kek.import", Target: r.KEKID, Detail: map[string]any{"kek_version": r.Imported}},
		{Action: "kek.rewrap", Target: r.KEKID, Detail: map[string]any{"job": "start"}},
	}, func() (err error) {
		j, err = s.jobs.StartWith(ctx, rotateKindName, r, func(string) (b store.Batch, _ error) {
			b.RequireRevision(layout.KEK(r.KEKID), rev)
			b.Put(layout.KEK(r.KEKID), next.Marshal())
			return b, nil
		})
		s.keks.drop(r.KEKID) // whatever the error: the row may have been written
		return err
	})
	return kmsapi.Rotated{KEKID: r.KEKID, KEKVersion: r.Imported, Job: wireJob(j)}, err
}

// checkNoCustomers fails when raw is a customer's key that is kept here: who has
// that could unwrap the DEKs of every thread.
func (s *Service) checkNoCustomers(ctx context.Context, raw []byte) error {
	key, err := cmek.NewKey(raw)
	if err != nil {
		return err
	}
	defer key.Wipe()
	switch _, err = s.store.Get(ctx, layout.CMEKKey(key.Fingerprint())); {
	case err == nil:
		return fault.New(fault.Invalid, "this key material is a customer's key that is kept here; send other material")
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	return nil
}
