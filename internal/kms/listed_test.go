package kms

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// watchedRoot counts what is asked of a root, and may be locked.
type watchedRoot struct {
	keyring.Root
	loads  atomic.Int64
	locked atomic.Bool
}

func (w *watchedRoot) LoadKEK(ctx context.Context, name keyring.Name, stored []byte) (keyring.KEK, error) {
	w.loads.Add(1)
	if w.locked.Load() {
		return nil, errors.New("locked")
	}
	return w.Root.LoadKEK(ctx, name, stored)
}

func (w *watchedRoot) Check(ctx context.Context) error {
	if w.locked.Load() {
		return errors.New("locked")
	}
	return w.Root.Check(ctx)
}

// listed is all KEKs, in pages of n.
func (r *rig) listed(s *Service, n int, count bool) (all []kmsapi.ListedKEK) {
	r.Helper()
	for q := (kmsapi.ListQuery{Limit: n, Count: count}); ; {
		page, err := s.ListKEKs(ctx, q)
		r.must(err)
		if page.Root != "file" || page.WrapLimit != 1<<31 || len(page.KEKs) > n {
			r.Errorf("%+v", page)
		}
		all = append(all, page.KEKs...)
		if q.After = page.Next; q.After == "" {
			return all
		}
	}
}

func TestKEKsAreListedInPagesAsTheirRowsSay(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v0", "v1", "v2", "v3", "v4")
	r.createDEKs(s, 25)
	_, err := s.rotateFrom(ctx, kmsapi.ThreadsKEK, 1)
	r.must(err)
	_, err = s.rotateFrom(ctx, "v3", 1)
	r.must(err)
	r.must(s.ReleaseKEK(ctx, "v3", 2))
	r.must(s.DestroyKEKVersion(ctx, "v3", 1))

	threads, none := 25, 0
	want := []kmsapi.ListedKEK{{KEK: kmsapi.KEK{ID: kmsapi.ThreadsKEK, Versions: []kmsapi.KEKVersion{
		{Version: 1, State: "decrypt-only", Created: day, Wraps: 4096, DEKs: &threads},
		{Version: 2, State: "enabled", Created: day, DEKs: &none},
	}}}}
	for i := range 5 {
		k := kmsapi.ListedKEK{KEK: kmsapi.KEK{ID: fmt.Sprint("v", i), Versions: []kmsapi.KEKVersion{{Version: 1, State: "enabled", Created: day}}}}
		if i == 3 {
			k.Versions = []kmsapi.KEKVersion{
				{Version: 1, State: "destroyed", Created: day, Released: true},
				{Version: 2, State: "enabled", Created: day, Wraps: 2}, // the rows of what is counted
			}
		}
		want = append(want, k)
	}
	for _, n := range []int{1, 3, 6, 1000} {
		if diff := cmp.Diff(want, r.listed(s, n, true)); diff != "" {
			t.Errorf("in pages of %d: %s", n, diff)
		}
	}
}

// A page of an HSM's KEKs must not cost the HSM anything, and a token that is away
// or locked is when an operator looks.
func TestAListUsesNoKey(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v0", "v1", "v2")
	r.createDEKs(s, 3)
	s.Close()
	root := &watchedRoot{Root: r.root}
	s = r.start(func(c *Config) { c.Root = root })
	before := root.loads.Load()
	for _, locked := range []bool{false, true} {
		root.locked.Store(locked)
		page, err := s.ListKEKs(ctx, kmsapi.ListQuery{Count: true})
		r.must(err)
		if len(page.KEKs) != 4 || page.Locked != locked {
			t.Errorf("locked %v: %+v", locked, page)
		}
	}
	if n := root.loads.Load() - before; n != 0 {
		t.Errorf("the root loaded %d KEKs", n)
	}
}

// A row that cannot be read is listed as damaged, and hides none of the others.
func TestADamagedRowIsListedBesideTheOthers(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "a", "b", "c")
	r.put(layout.KEK("a"), []byte("damaged"))
	r.put(layout.KEKUse("b"), bytes.Repeat([]byte("x"), 100))
	row := r.get(layout.KEK("c")).Value
	r.put(layout.KEK("c"), bytes.Replace(row, []byte(`"version":1`), []byte(`"version":7`), 1))
	for _, k := range r.listed(s, 10, false) {
		if bad := k.ID != kmsapi.ThreadsKEK; k.Damaged != bad || (len(k.Versions) == 0) != bad {
			t.Errorf("%+v", k)
		}
	}
}

// Whoever may list makes the KMS read the rows of all DEKs once in a minute, however
// often he asks.
func TestDEKsAreCountedOnceInAMinute(t *testing.T) {
	r := newRig(t)
	now := day
	s := r.start(func(c *Config) { c.Now = func() time.Time { return now } })
	under := func() int { return *r.listed(s, 10, true)[0].Versions[0].DEKs }
	r.createDEKs(s, 2)
	if n := under(); n != 2 {
		t.Errorf("%d, want 2", n)
	}
	r.createDEKs(s, 3)
	now = now.Add(countAge - time.Nanosecond)
	if n := under(); n != 2 {
		t.Errorf("%d DEKs were counted anew within a minute", n)
	}
	now = now.Add(time.Nanosecond)
	if n := under(); n != 5 {
		t.Errorf("%d after a minute, want 5", n)
	}
	if k := r.listed(s, 10, false)[0]; k.Versions[0].DEKs != nil {
		t.Error("counted without being asked")
	}
	s.counted.turn <- struct{}{} // somebody counts
	ended, end := context.WithCancel(ctx)
	end()
	now = now.Add(countAge)
	if _, err := s.countedDEKs(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who left while another counts: %v", err)
	}
}

func TestAListHoldsNoMaterial(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v0")
	d := r.createDEK(s, "t")
	page, err := s.ListKEKs(ctx, kmsapi.ListQuery{Count: true})
	r.must(err)
	text, err := json.Marshal(page)
	r.must(err)
	for rec, err := range store.All(ctx, r.store, store.Range{}) {
		r.must(err)
		for at := 0; at+24 <= len(rec.Value) && at < 60; at += 12 { // seals, and beginnings of rows
			if bytes.Contains(text, rec.Value[at:at+24]) || bytes.Contains(text, []byte(base64.StdEncoding.EncodeToString(rec.Value[at:at+24]))) {
				t.Errorf("%s: a part of the row is in %s", rec.Key, text)
			}
		}
		var versions []struct {
			Stored []byte `json:"stored"`
		}
		if len(rec.Value) > 60 && json.Unmarshal(rec.Value[60:], &versions) == nil {
			for _, v := range versions {
				if len(v.Stored) == 0 || bytes.Contains(text, []byte(base64.StdEncoding.EncodeToString(v.Stored)[:20])) {
					t.Errorf("%s: %q of it is in %s", rec.Key, v.Stored, text)
				}
			}
		}
	}
	for _, forbidden := range []string{d.KeyID, base64.StdEncoding.EncodeToString(d.WrappedDEK), "stored", "wrapped"} {
		if bytes.Contains(text, []byte(forbidden)) {
			t.Errorf("%q is in %s", forbidden, text)
		}
	}
}

// What is told of DEKs is asked for by key ID, costs no key, and counts what is
// reserved: a block at the making, another when that is used up, and the seal of the
// row at a rewrap.
func TestDEKsAreListedAsTheirRowsSay(t *testing.T) {
	r := newRig(t)
	s := r.start(func(c *Config) { c.SealBlock = 10 })
	ids := r.createDEKs(s, 3)
	for range 15 {
		r.encrypt(s, ids[1], "x", "")
	}
	r.rotate(s, kmsapi.ThreadsKEK)
	r.put(layout.DEK(ids[2]), []byte("damaged"))
	s.Close()

	root := &watchedRoot{Root: r.root}
	s = r.start(func(c *Config) { c.Root = root })
	before := root.loads.Load()
	root.locked.Store(true)
	list, err := s.ListDEKs(ctx, []string{ids[2], ids[1], "dek_of_nobody", ids[0]})
	r.must(err)
	of := func(i int, seals int64) kmsapi.ListedDEK {
		return kmsapi.ListedDEK{DEK: kmsapi.DEK{KeyID: ids[i], ThreadID: fmt.Sprint("t", i), KEKID: kmsapi.ThreadsKEK, KEKVersion: 2, Version: 1, Created: day, Seals: seals}}
	}
	want := kmsapi.DEKList{SealLimit: 1 << 31, DEKs: []kmsapi.ListedDEK{{DEK: kmsapi.DEK{KeyID: ids[2]}, Damaged: true}, of(1, 21), of(0, 11)}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	if n := root.loads.Load() - before; n != 0 {
		t.Errorf("the root loaded %d KEKs", n)
	}
	text, err := json.Marshal(list)
	r.must(err)
	for _, id := range ids[:2] {
		wrapped := r.record(id).Wrapped
		for at := 0; at < len(wrapped); at += 12 {
			if part := base64.StdEncoding.EncodeToString(wrapped[at:])[:12]; bytes.Contains(text, []byte(part)) {
				t.Errorf("%q of the wrapped DEK is in %s", part, text)
			}
		}
	}

	if _, err := s.ListDEKs(ctx, make([]string, kmsapi.MaxBatch+1)); !errors.Is(err, fault.TooLarge) {
		t.Errorf("of too many: %v", err)
	}
	for _, id := range []string{"", "a:b", "dek 1", strings.Repeat("a", 129)} {
		if _, err := s.ListDEKs(ctx, []string{ids[0], id}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestAListRefusesPagesThatAreNone(t *testing.T) {
	s := newRig(t).start()
	for _, q := range []kmsapi.ListQuery{{Limit: -1}, {Limit: kmsapi.MaxBatch + 1}, {After: "no id"}, {After: "a:b"}} {
		if _, err := s.ListKEKs(ctx, q); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}
