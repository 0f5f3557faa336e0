package kms

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// How many sessions there are at most, in all and of one owner. Whoever is an
// owner is the caller's word; one without a name has no share of its own.
const (
	maxRotations   = 100
	ownerRotations = 10
	rotationIdle   = 10 * time.Minute
)

// cmekRotations is the CMEK rotations that are open, and the one-time keys for those
// to come. They are in memory alone: their keys are gone with the process. Shares
// are counted by what is here, so a restart of the caller leaves them as they are.
type cmekRotations struct {
	mu     sync.Mutex // guards open, keys, closed, and the timers in them
	open   map[string]*cmekRotation
	keys   map[string]rotationKey
	closed bool
	ending sync.WaitGroup // those who took a rotation out of open; grows with mu held
}

// cmekRotation is a session: the two customer keys of one CMEK rotation.
type cmekRotation struct {
	id, vault  string
	owner      string
	mu         sync.RWMutex // held while the keys are used; locked to wipe them
	old, fresh *cmek.Key
	gone       bool // they are wiped
	begun      time.Time
	used       atomic.Int64 // when, in nanoseconds since begun
	done       atomic.Int64 // so many values were opened with the old key
	timer      *time.Timer
}

// OpenCMEKRotation opens a session with the two keys of one rotation, which it
// copies, and returns its ID. CloseCMEKRotation wipes them, and so do 10 minutes
// without a Reencrypt, and Close. It fails with fault.Invalid, of the types
// kmsapi.TypeCMEKOldKey, TypeCMEKNewKey, TypeCMEKKeyCheck, TypeCMEKSealedKeys and
// TypeCMEKKeyGone where a key is the reason; with fault.TooMany of TypeCMEKShare
// while 10 sessions of o.Owner are open, if it names one; and with
// fault.Unavailable of TypeCMEKFull while 100 are.
func (s *Service) OpenCMEKRotation(ctx context.Context, o kmsapi.OpenCMEKRotation) (session string, err error) {
	old, fresh, err := s.rotationKeys(o)
	if err != nil {
		return "", err
	}
	r := &cmekRotation{id: uuid.NewString(), vault: o.Vault, owner: o.Owner, old: old, fresh: fresh, begun: time.Now()}
	if err = s.rotations.room(o.Owner); err == nil {
		err = s.audited(ctx, []audit.Event{r.event("cmek_rotation.open", "sealed", o.Sealed.KeyID != "")}, func() error { return s.keepCMEKRotation(r) })
	}
	if err != nil {
		r.wipe()
		return "", asFault(err)
	}
	return r.id, nil
}

// event is what the audit hears of r: names, and one fact more.
func (r *cmekRotation) event(action, name string, fact any) audit.Event {
	return audit.Event{Action: action, Target: r.vault, Detail: map[string]any{
		"session": r.id, "old_fingerprint": r.old.Fingerprint(), "new_fingerprint": r.fresh.Fingerprint(), name: fact,
	}}
}

// room fails when there is none for another session of owner.
func (rs *cmekRotations) room(owner string) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.roomLocked(owner)
}

func (rs *cmekRotations) roomLocked(owner string) error {
	of := 0
	for _, r := range rs.open {
		if r.owner == owner {
			of++
		}
	}
	switch {
	case rs.closed:
		return errClosed
	case owner != "" && of >= ownerRotations:
		return fault.New(fault.TooMany, "%d CMEK rotations of yours run already; try again when one of them has ended", of).WithType(kmsapi.TypeCMEKShare)
	case len(rs.open) >= maxRotations:
		return fault.New(fault.Unavailable, "%d CMEK rotations run already; try again when one of them has ended", maxRotations).WithType(kmsapi.TypeCMEKFull)
	}
	return nil
}

// keepCMEKRotation makes r's session known, and its idle end.
func (s *Service) keepCMEKRotation(r *cmekRotation) error {
	rs := &s.rotations
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if err := rs.roomLocked(r.owner); err != nil {
		return err
	}
	rs.open[r.id] = r
	r.timer = time.AfterFunc(rotationIdle, func() { s.endIfIdle(r) })
	return nil
}

func (s *Service) endIfIdle(r *cmekRotation) {
	if left := rotationIdle - time.Since(r.begun) + time.Duration(r.used.Load()); left > 0 {
		s.rotations.mu.Lock()
		defer s.rotations.mu.Unlock()
		if s.rotations.open[r.id] == r {
			r.timer.Reset(left)
		}
		return
	}
	s.endCMEKRotation(context.Background(), r.id, "idle")
}

// CloseCMEKRotation wipes the keys of a session, after the Reencrypt calls that
// use them. Of a session that is gone it says nothing. It returns nil: keys are
// wiped also when the audit cannot be told.
func (s *Service) CloseCMEKRotation(ctx context.Context, session string) error {
	s.endCMEKRotation(ctx, session, "closed")
	return nil
}

func (s *Service) endCMEKRotation(ctx context.Context, session, why string) {
	rs := &s.rotations
	rs.mu.Lock()
	r := rs.open[session]
	if r == nil {
		rs.mu.Unlock()
		return
	}
	delete(rs.open, session)
	r.timer.Stop()
	rs.ending.Add(1)
	rs.mu.Unlock()
	defer rs.ending.Done()
	r.wipe()
	s.recordEnd(ctx, r, why)
}

func (r *cmekRotation) wipe() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	r.old.Wipe()
	r.fresh.Wipe()
}

func (s *Service) recordEnd(ctx context.Context, r *cmekRotation, why string) {
	if s.audit == nil {
		return
	}
	e := r.event("cmek_rotation.close", "why", why)
	e.Time, e.Actor, e.Detail["reencrypted"] = s.now(), actor(ctx), r.done.Load()
	if err := s.audit.Record(context.WithoutCancel(ctx), e); err != nil {
		s.log.Error("the audit does not have the end of a CMEK rotation", "session", r.id, "error", err)
	}
}

// CMEKRotationAlive reports whether a session still holds its keys. To ask is
// no use of it.
func (s *Service) CMEKRotationAlive(_ context.Context, session string) (bool, error) {
	s.rotations.mu.Lock()
	defer s.rotations.mu.Unlock()
	return s.rotations.open[session] != nil, nil
}

// useCMEKRotation takes a session for one call, which releases it.
func (s *Service) useCMEKRotation(session string) (*cmekRotation, error) {
	s.rotations.mu.Lock()
	r, closed := s.rotations.open[session], s.rotations.closed
	s.rotations.mu.Unlock()
	if r != nil {
		r.used.Store(int64(time.Since(r.begun)))
		r.mu.RLock()
		if !r.gone {
			return r, nil
		}
		r.mu.RUnlock()
	}
	if closed {
		return nil, errClosed
	}
	return nil, fault.New(fault.NotFound, "this CMEK rotation holds no keys any more: it was closed, was idle for 10 minutes, or the KMS was started again; start it again with both keys").
		WithType(kmsapi.TypeCMEKSessionGone)
}

func (r *cmekRotation) release() { r.mu.RUnlock() }

// close ends all sessions and forgets all one-time keys.
func (s *Service) closeCMEKRotations() {
	rs := &s.rotations
	rs.mu.Lock()
	rs.closed = true
	var open []string
	for id := range rs.open {
		open = append(open, id)
	}
	for id := range rs.keys {
		rs.drop(id)
	}
	rs.mu.Unlock()
	for _, id := range open {
		s.endCMEKRotation(context.Background(), id, "exit")
	}
	rs.ending.Wait()
}
