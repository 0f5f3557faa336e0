package kms

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

type batch = store.Batch

func newBatch(r *rig, fill func(*batch) error) *batch {
	r.Helper()
	b := new(batch)
	r.must(fill(b))
	return b
}

func (r *rig) auditKey() []byte {
	r.Helper()
	key, err := AuditKey(ctx, r.store, r.root, day)
	r.must(err)
	return key
}

func TestTheAuditsKeyIsMadeOnceAndStaysThroughRotations(t *testing.T) {
	r := newRig(t)
	keys := make([][]byte, 4)
	r.together(len(keys), func(i int) (err error) { keys[i], err = AuditKey(ctx, r.store, r.root, day); return err })
	s := r.start() // in a store that has the audit's key alone
	for i, key := range keys {
		if !bytes.Equal(key, keys[0]) {
			t.Errorf("caller %d got another key", i)
		}
	}
	if got := r.rotate(s, auditKEK); got.KEKVersion != 2 || got.Job.ID != "" {
		t.Errorf("%+v", got)
	}
	if !bytes.Equal(r.auditKey(), keys[0]) {
		t.Error("another key after a rotation")
	}
	r.must(s.DestroyKEKVersion(ctx, auditKEK, 1))
	if !bytes.Equal(r.auditKey(), keys[0]) {
		t.Error("another key after the old version was destroyed")
	}
	stale, err := r.tryStart()
	r.must(err)
	row, rev, err := s.auditRow(ctx)
	r.must(err)
	r.rotate(s, auditKEK)
	b := newBatch(r, func(b *batch) error { b.Delete(layout.AuditKey()); return nil })
	_, err = r.store.Commit(ctx, b)
	r.must(err)
	b = newBatch(r, func(b *batch) error { return putAuditRow(b, row, 0) }) // an older row, put back
	_, err = r.store.Commit(ctx, b)
	r.must(err)
	if err := stale.DestroyKEKVersion(ctx, auditKEK, 2); !errors.Is(err, fault.Conflict) || rev == 0 {
		t.Errorf("a version that the audit's key lies under: %v", err)
	}
}

// meanwhile is a store in which act happens just after the first read of key.
type meanwhile struct {
	store.Store
	key string
	act func()
}

func (m *meanwhile) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := m.Store.Get(ctx, key)
	if act := m.act; key == m.key && act != nil {
		m.act = nil
		act()
	}
	return rec, err
}

func TestTheAuditsKeyIsReadWhileItIsRotatedOrMade(t *testing.T) {
	for _, read := range []string{layout.AuditKey(), layout.KEK(auditKEK)} {
		r := newRig(t)
		alive := r.store
		r.store = &meanwhile{Store: alive, key: read, act: func() {
			_, err := AuditKey(ctx, alive, r.root, day)
			r.must(err)
		}}
		want := r.auditKey()
		s := r.start()
		r.store = &meanwhile{Store: alive, key: read, act: func() { r.rotate(s, auditKEK) }}
		if !bytes.Equal(r.auditKey(), want) {
			t.Errorf("rotated after the read of %s: another key", read)
		}
		r.store = &meanwhile{Store: alive, key: read, act: func() {
			r.rotate(s, auditKEK)
			r.must(s.DestroyKEKVersion(ctx, auditKEK, 2))
		}}
		if !bytes.Equal(r.auditKey(), want) {
			t.Errorf("rotated and destroyed after the read of %s: another key", read)
		}
	}
}

func TestAnAuditKeyThatIsHalfThereIsDamageAndIsNotMadeAnew(t *testing.T) {
	for _, gone := range []string{layout.AuditKey(), layout.KEK(auditKEK)} {
		r := newRig(t)
		r.auditKey()
		r.start()
		_, err := r.store.Commit(ctx, newBatch(r, func(b *batch) error { b.Delete(gone); return nil }))
		r.must(err)
		before := r.dump()
		if _, err := AuditKey(ctx, r.store, r.root, day); err == nil {
			t.Errorf("without %s: a key", gone)
		}
		if len(before) != len(r.dump()) {
			t.Errorf("without %s: the store was changed", gone)
		}
	}
	r := newRig(t)
	r.auditKey()
	wrong, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	r.must(err)
	if _, err := AuditKey(ctx, r.store, wrong, day); !errors.Is(err, fault.Damaged) {
		t.Errorf("under another root: %v", err)
	}
	if _, err := r.tryStart(); err != nil {
		t.Errorf("a store with the audit's key alone is a fresh one: %v", err)
	}
	if info := r.createKEK(r.start(), kmsapi.ThreadsKEK); info[0].Version != 1 {
		t.Error(info)
	}
}
