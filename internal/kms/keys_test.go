package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestKeysAreListedInPagesWithTheirUse(t *testing.T) {
	r := newRig(t)
	s := r.start()
	var keks []string
	for i := range 7 {
		keks = append(keks, fmt.Sprint("v", i))
	}
	r.createKEK(s, keks...)
	ids := r.createDEKs(s, 25)
	r.encrypt(s, ids[0], "x", "")
	_, err := s.rotateFrom(ctx, kmsapi.ThreadsKEK, 1)
	r.must(err)
	_, err = s.Rewrap(ctx, []kmsapi.RewrapItem{{KeyID: ids[0]}, {KeyID: ids[1]}})
	r.must(err)

	var gotKEKs []kmsapi.KEK
	for q := (kmsapi.KeysQuery{Limit: 3, Count: true}); ; {
		page, err := s.Keys(ctx, q)
		r.must(err)
		gotKEKs = append(gotKEKs, page.KEKs...)
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	old, now, none := 23, 2, 0
	want := []kmsapi.KEK{{ID: kmsapi.ThreadsKEK, Versions: []kmsapi.KEKVersion{
		{Version: 1, State: "decrypt-only", Created: day, Wraps: 4096, DEKs: &old},
		{Version: 2, State: "enabled", Created: day, Wraps: 4096, DEKs: &now},
	}}}
	for _, id := range keks {
		want = append(want, kmsapi.KEK{ID: id, Versions: []kmsapi.KEKVersion{{Version: 1, State: "enabled", Created: day, DEKs: &none}}})
	}
	if diff := cmp.Diff(want, gotKEKs); diff != "" {
		t.Error(diff)
	}

	r.put(layout.DEK(ids[5]), []byte("damaged"))
	r.put(layout.DEK(ids[6]), r.get(layout.DEK(ids[7])).Value)
	slices.Sort(ids)
	var gotIDs []string
	opens := 0
	for q := (kmsapi.KeysQuery{Limit: 10, DEKs: true}); ; {
		page, err := s.Keys(ctx, q)
		r.must(err)
		for _, d := range page.DEKs {
			gotIDs = append(gotIDs, d.KeyID)
			if d.Seals >= 4096 && d.KEKID == kmsapi.ThreadsKEK && d.Version == 1 && d.ThreadID != "" && d.Created.Equal(day) {
				opens++
			} else if d != (kmsapi.DEK{KeyID: d.KeyID}) {
				t.Errorf("%+v", d)
			}
		}
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	if diff := cmp.Diff(ids, gotIDs); diff != "" || opens != 23 {
		t.Errorf("%d open, %s", opens, diff)
	}
	for _, q := range []kmsapi.KeysQuery{{Limit: -1}, {Limit: kmsapi.MaxBatch + 1}, {After: "a:b"}} {
		if _, err := s.Keys(ctx, q); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// lockedRoot is a root that cannot be used.
type lockedRoot struct{ keyring.Root }

func (lockedRoot) Check(context.Context) error { return errors.New("no token") }

func TestAKMSThatIsLockedOrWithoutItsStoreSaysSo(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.must(s.Check(ctx))
	locked := r.start(func(c *Config) { c.Root = lockedRoot{r.root} })
	if err := locked.Check(ctx); !errors.Is(err, fault.Unavailable) {
		t.Errorf("locked: %v", err)
	}
	r.must(r.store.Close())
	if err := s.Check(ctx); !errors.Is(err, fault.Unavailable) {
		t.Errorf("without its store: %v", err)
	}
}

// hungStore is a store that says nothing.
type hungStore struct{ store.Store }

func (hungStore) Get(ctx context.Context, _ string) (store.Record, error) {
	<-ctx.Done()
	return store.Record{}, ctx.Err()
}

// Whoever asks gives up after five seconds, and would not know what it was.
func TestAStoreThatSaysNothingIsNamedWhileTheCallerStillWaits(t *testing.T) {
	root := newRig(t).root
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := &Service{store: hungStore{}, root: root}
		if err := s.Check(ctx); !errors.Is(err, fault.Unavailable) || err.Error() != "the KMS's key store does not answer" || ctx.Err() != nil {
			t.Errorf("%v, %v", err, ctx.Err())
		}
		if err := s.CheckStore(ctx); err == nil || err.Error() != "nothing came from it in 2s" {
			t.Error(err)
		}
	})
}
