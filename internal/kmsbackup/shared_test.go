package kmsbackup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// hookedReader calls then before its first byte.
type hookedReader struct {
	io.Reader
	once sync.Once
	then func()
}

func (h *hookedReader) Read(p []byte) (int, error) {
	h.once.Do(h.then)
	return h.Reader.Read(p)
}

// database is a shared store, and its name.
func (r *rig) database() (storespec.Store, storespec.Spec) {
	r.Helper()
	to, err := storespec.Parse(pgtest.URL(r))
	r.must(err)
	st, err := to.Open(r.Context(), storespec.Options{})
	r.must(err)
	r.Cleanup(func() { r.must(st.Close()) })
	return st, to
}

// copyInto puts all into st, in one commit.
func (r *rig) copyInto(st store.Store, all map[string]string) {
	r.Helper()
	var b store.Batch
	for key, value := range all {
		b.Put(key, []byte(value))
	}
	_, err := st.Commit(r.Context(), &b)
	r.must(err)
}

// contents are the rows of a backup.
func (r *rig) contents(backup []byte) map[string]string {
	r.Helper()
	all := map[string]string{}
	_, _, err := read(bytes.NewReader(backup), func(key string, value []byte) error {
		all[key] = string(value)
		return nil
	})
	r.must(err)
	return all
}

func (r *rig) values(st store.Store) map[string]string {
	r.Helper()
	all := map[string]string{}
	for rec, err := range store.All(r.Context(), st, store.Range{}) {
		r.must(err)
		all[rec.Key] = string(rec.Value)
	}
	return all
}

func TestAKeyStoreThatSomebodyMadeWhileARestoreReadsIsLeftAlone(t *testing.T) {
	r, other := newRig(t), newRig(t)
	r.deks(t.Context(), 3)
	other.deks(t.Context(), 5)
	backup, made := r.backup(), other.values(other.store)
	for name, in := range map[string][]byte{"that fails": backup[:len(backup)-1], "of a whole backup": backup} {
		st, to := r.database()
		read := &hookedReader{Reader: bytes.NewReader(in), then: func() { other.copyInto(st, made) }}
		if _, err := Restore(t.Context(), read, to, r.root, Options{}); !errors.Is(err, fault.Conflict) {
			t.Errorf("a restore %s: %v", name, err)
		}
		got := other.values(st)
		for key, value := range made {
			if got[key] != value {
				t.Errorf("a restore %s: the row %s of the other store is gone or another", name, key)
			}
		}
		s, err := kms.New(t.Context(), kms.Config{Store: st, Root: other.root})
		if err != nil {
			t.Errorf("a restore %s: the other store does not open: %v", name, err)
			continue
		}
		s.Close()
		if _, there := other.values(st)[layout.StoreRestore()]; there {
			t.Errorf("a restore %s: its claim is still there", name)
		}
	}
}

func TestARestoreIntoADatabaseThatFailsLeavesNothing(t *testing.T) {
	r := newRig(t)
	r.deks(t.Context(), 3)
	backup := r.backup()
	st, to := r.database()
	for name, in := range map[string][]byte{"a backup cut off": backup[:len(backup)-1], "no backup": []byte("no backup at all")} {
		if _, err := Restore(t.Context(), bytes.NewReader(in), to, r.root, Options{}); err == nil || errors.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", name, err)
		}
		if left := r.values(st); len(left) != 0 {
			t.Errorf("%s left %d rows", name, len(left))
		}
	}
	_, err := Restore(t.Context(), bytes.NewReader(backup), to, r.root, Options{})
	r.must(err)
	if d := cmp.Diff(r.contents(backup), r.values(st)); d != "" {
		t.Error("the restored store is another")
	}
}

// inMemory restores into st, as Restore does into a database that it found vacant.
func inMemory(ctx context.Context, st store.Store, backup []byte, root keyring.Root) error {
	c := newClaim(st)
	_, err := c.restore(ctx, bytes.NewReader(backup), root, Options{VerifyAll: true})
	if err != nil {
		err = errors.Join(err, c.giveBack(ctx))
	}
	return err
}

// The first is at its proofs when the second, whole or not, begins.
func TestOfTwoRestoresAtOnceOneWinsAndTheOtherRemovesNothing(t *testing.T) {
	r := newRig(t)
	r.deks(t.Context(), 20)
	backup := r.backup()
	for name, second := range map[string][]byte{"fails": backup[:len(backup)-1], "is whole": backup} {
		st := memstore.New()
		root := hooked{r.root, new(sync.Once), func() {
			if err := inMemory(t.Context(), st, second, r.root); !errors.Is(err, fault.Conflict) {
				t.Errorf("the second, which %s: %v", name, err)
			}
		}}
		if err := inMemory(t.Context(), st, backup, root); err != nil {
			t.Errorf("the first, while a second %s: %v", name, err)
		}
		if d := cmp.Diff(r.contents(backup), r.values(st)); d != "" {
			t.Errorf("the winner's store is another, since a second %s", name)
		}
	}
	st := memstore.New()
	errs := make([]error, 4)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = inMemory(t.Context(), st, backup, r.root) })
	}
	all.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, fault.Conflict) {
			t.Error(err)
		}
	}
	if d := cmp.Diff(r.contents(backup), r.values(st)); won != 1 || d != "" {
		t.Errorf("%d of %d restores won", won, len(errs))
	}
}

// unsureStore commits all, and says so of none that puts the row it was given.
type unsureStore struct {
	store.Store
	key string
}

var errUnsure = errors.New("the connection broke")

func (u unsureStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	rev, err := u.Store.Commit(ctx, b)
	for _, w := range b.Writes {
		if w.Key == u.key && !w.Delete && err == nil {
			return 0, errUnsure
		}
	}
	return rev, err
}

func TestARestoreThatDoesNotKnowWhatItWroteTakesItOutUnlessTheStoreIsWhole(t *testing.T) {
	r := newRig(t)
	id := r.deks(t.Context(), 3)[0].KeyID
	backup := r.backup()
	for key, left := range map[string]map[string]string{
		layout.StoreRestore():         {},
		layout.DEK(id):                {},
		layout.KEK(kmsapi.ThreadsKEK): r.contents(backup),
	} {
		st := memstore.New()
		if err := inMemory(t.Context(), unsureStore{st, key}, backup, r.root); !errors.Is(err, errUnsure) {
			t.Errorf("%s: %v", key, err)
		}
		if d := cmp.Diff(left, r.values(st)); d != "" {
			t.Errorf("after an unsure write of %s there are %d rows, want %d", key, len(r.values(st)), len(left))
		}
	}
}
