package storetest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/internal/store"
)

// model runs random calls against s and against a plain map, and compares.
// reopen, if not nil, closes a store and opens it again.
func model(t *testing.T, s store.Store, reopen func(store.Store) store.Store) {
	rapid.Check(t, func(t *rapid.T) {
		m := &modelStore{Store: s, want: map[string]store.Record{}}
		m.empty(t)
		actions := map[string]func(*rapid.T){"commit": m.commit, "get": m.get, "scan": m.scan}
		if reopen != nil {
			actions["reopen"] = func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "seldom") == 0 {
					m.Store = reopen(m.Store)
					s = m.Store
				}
			}
		}
		t.Repeat(actions)
	})
}

// modelStore is a store beside the map that says what it should hold.
type modelStore struct {
	store.Store
	want map[string]store.Record
	old  []store.Revision // all revisions seen, current ones included
}

var (
	modelKeys = rapid.SampledFrom([]string{
		"a", "a\x00", "a\x00b", "ab", "a\xff", "a\xff\xff", "b", "b\x00", "\x00", "\xff", "\xff\xff",
	})
	modelEnds = rapid.OneOf(rapid.Just(""), modelKeys, rapid.SampledFrom([]string{"0", "aa", "c", "\xfe", "\xff\xff\xff"}))
)

func (m *modelStore) empty(t *rapid.T) {
	var b store.Batch
	for r, err := range store.All(context.Background(), m.Store, store.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		b.Delete(r.Key)
	}
	if _, err := m.Commit(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
}

func (m *modelStore) commit(t *rapid.T) {
	b, holds := m.batch(t)
	rev, err := m.Commit(context.Background(), b)
	if !holds {
		if !errors.Is(err, store.ErrConflict) {
			t.Fatalf("Commit(%+v) = %v, want ErrConflict", b, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("Commit(%+v): %v", b, err)
	}
	m.old = append(m.old, rev)
	for _, w := range b.Writes {
		if w.Delete {
			delete(m.want, w.Key)
		} else {
			m.want[w.Key] = store.Record{Key: w.Key, Value: bytes.Clone(w.Value), Revision: rev}
		}
	}
}

// batch draws a batch and says whether its preconditions hold.
func (m *modelStore) batch(t *rapid.T) (b *store.Batch, holds bool) {
	b, holds = new(store.Batch), true
	for range rapid.IntRange(0, 5).Draw(t, "writes") {
		if key := modelKeys.Draw(t, "key"); rapid.Bool().Draw(t, "delete") {
			b.Delete(key)
		} else {
			b.Put(key, rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value"))
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "preconditions") {
		key := modelKeys.Draw(t, "key")
		rev := m.want[key].Revision
		if len(m.old) > 0 && rapid.IntRange(0, 3).Draw(t, "stale") == 0 {
			rev = rapid.SampledFrom(m.old).Draw(t, "revision")
		}
		b.RequireRevision(key, rev)
		holds = holds && rev == m.want[key].Revision
	}
	return b, holds
}

func (m *modelStore) get(t *rapid.T) {
	key := modelKeys.Draw(t, "key")
	got, err := m.Get(context.Background(), key)
	want, ok := m.want[key]
	if !ok {
		if !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("Get(%q) = %+v, %v, want ErrNotFound", key, got, err)
		}
		return
	}
	if err != nil || !same(got, want) {
		t.Fatalf("Get(%q) = %+v, %v, want %+v", key, got, err, want)
	}
}

func (m *modelStore) scan(t *rapid.T) {
	r := store.Range{Start: modelEnds.Draw(t, "start"), End: modelEnds.Draw(t, "end")}
	opt := store.ScanOptions{
		Limit:    rapid.IntRange(-1, 6).Draw(t, "limit"),
		Reverse:  rapid.Bool().Draw(t, "reverse"),
		MaxBytes: rapid.IntRange(0, 60).Draw(t, "bytes"),
	}
	got, err := m.Scan(context.Background(), r, opt)
	if want := m.scanned(r, opt); err != nil || !slices.EqualFunc(got, want, same) {
		t.Fatalf("Scan(%q, %+v) = %+v, %v, want %+v", r, opt, got, err, want)
	}
}

// scanned is what Scan should return.
func (m *modelStore) scanned(r store.Range, opt store.ScanOptions) []store.Record {
	var out []store.Record
	keys, size := slices.Sorted(maps.Keys(m.want)), 0
	if opt.Reverse {
		slices.Reverse(keys)
	}
	for _, k := range keys {
		if k < r.Start || r.End != "" && k >= r.End {
			continue
		}
		if opt.Limit > 0 && len(out) == opt.Limit || opt.MaxBytes > 0 && size >= opt.MaxBytes {
			break
		}
		out = append(out, m.want[k])
		size += len(m.want[k].Value)
	}
	return out
}

func same(a, b store.Record) bool {
	return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.Revision == b.Revision
}
