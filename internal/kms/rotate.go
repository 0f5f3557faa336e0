package kms

import (
	"context"
	"errors"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// RotateKEK gives a KEK a new primary, at once: it is committed when RotateKEK
// returns, and nothing more is wrapped by the old one here. For the threads'
// KEK a job then rewraps the DEKs in the store; for All, the job rotates each
// KEK whose primary is older than the job, or of a time to come, and then
// rewraps. A call for another KEK has no job: its envelopes are with the caller.
//
// With IfVersion it may be repeated: when that is no longer the primary, it
// answers what is. It fails with fault.NotFound, fault.Invalid or, when
// IfVersion is not reached yet, fault.Conflict. After fault.Unavailable it may
// have been done or be done later; repeat it with IfVersion.
func (s *Service) RotateKEK(ctx context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error) {
	switch {
	case r.All == (r.KEKID != ""), r.All && r.IfVersion != 0:
		return kmsapi.Rotated{}, fault.New(fault.Invalid, "name one KEK, perhaps with the version that is to be its primary until now, or say all")
	case r.All:
		j, err := s.startRotation(ctx, rotation{All: true, Actor: actor(ctx)})
		return kmsapi.Rotated{Job: wireJob(j)}, asFault(err)
	}
	rotated, err := s.rotateOne(ctx, r.KEKID, r.IfVersion)
	return rotated, asFault(err)
}

func (s *Service) rotateOne(ctx context.Context, id string, ifVersion uint32) (kmsapi.Rotated, error) {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	k, err := s.freshKEK(ctx, id)
	if err != nil {
		return kmsapi.Rotated{}, err
	}
	primary := k.key.Primary()
	s.keks.release(k)
	from := ifVersion
	if from == 0 {
		from = primary
	}
	if from > primary {
		return kmsapi.Rotated{}, fault.New(fault.Conflict, "the primary of this KEK is version %d", primary)
	}
	var j job.Job
	if id == kmsapi.ThreadsKEK {
		// The job first: it rotates if a crash keeps us from it, so that no
		// rotation is left without the job that follows it.
		if j, err = s.startRotation(ctx, rotation{KEKID: id, From: from, Actor: actor(ctx)}); err != nil {
			return kmsapi.Rotated{}, err
		}
	}
	primary, err = s.rotateFrom(ctx, id, from)
	return kmsapi.Rotated{KEKID: id, KEKVersion: primary, Job: wireJob(j)}, err
}

// rotateFrom makes a new primary of a KEK while version from is it, and returns
// the primary. s.rotating is held.
func (s *Service) rotateFrom(ctx context.Context, id string, from uint32) (uint32, error) {
	return s.rotate(ctx, id, s.now(), func(primary keyring.VersionInfo) bool { return primary.Version == from })
}

// rotate makes a new primary of a KEK if the one that there is is due, and
// returns the primary. s.rotating is held.
func (s *Service) rotate(ctx context.Context, id string, now time.Time, due func(primary keyring.VersionInfo) bool) (primary uint32, err error) {
	err = store.Retry(ctx, func() error {
		ring, rev, err := s.readKEK(ctx, id)
		if err != nil {
			return err
		}
		defer ring.Wipe()
		primary = ring.Primary()
		if !due(ring.Versions()[primary-1]) {
			return nil
		}
		return s.Audited(ctx, "kek.rotate", id, map[string]any{"kek_version": primary + 1}, func() error {
			err := s.commitRotation(ctx, ring, rev, now)
			if err == nil {
				primary++
			}
			return err
		})
	})
	if err == nil && id == cmekKEK { // also where a call before this one was cut off
		err = s.rewrapCMEK(ctx)
	}
	return primary, err
}

func (s *Service) commitRotation(ctx context.Context, ring *keyring.Keyring, rev store.Revision, now time.Time) error {
	next, err := ring.Rotate(ctx, s.root, now)
	if err != nil {
		return err
	}
	defer next.Wipe()
	var b store.Batch
	b.RequireRevision(layout.KEK(ring.ID()), rev)
	b.Put(layout.KEK(ring.ID()), next.Marshal())
	if ring.ID() == auditKEK {
		if err := s.rewrapAuditKey(ctx, next, &b); err != nil {
			s.discard(ctx, next)
			return err
		}
	}
	_, err = s.store.Commit(ctx, &b)
	if errors.Is(err, store.ErrConflict) {
		s.discard(ctx, next)
	}
	s.keks.drop(ring.ID()) // whatever the error: the row may have been written
	return err
}
