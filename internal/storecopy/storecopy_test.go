package storecopy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
	"github.com/keyfold/keyfold/internal/store/pgstore"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// engines are what is copied from and to.
var engines = map[string]func(*testing.T) store.Store{
	"memory": func(*testing.T) store.Store { return memstore.New() },
	"pebble": func(t *testing.T) store.Store {
		s, err := pebblestore.Open(t.TempDir(), pebblestore.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	},
	"postgres": func(t *testing.T) store.Store {
		s, err := pgstore.Open(t.Context(), pgtest.Schema(t)+"&pool_max_conns=4", pgstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	},
}

// eachPair runs a test from every engine to the others, in what pairs are enough.
func eachPair(t *testing.T, test func(t *testing.T, from, to func(*testing.T) store.Store)) {
	for a, from := range engines {
		for b, to := range engines {
			if a == "memory" && b != "memory" || a == "postgres" && b != "pebble" {
				continue // the others have it all
			}
			t.Run(a+" to "+b, func(t *testing.T) { test(t, from, to) })
		}
	}
}

// rows is how many records filled puts.
const rows = 23

// filled is a store of a server with keys and values of all kinds.
func filled(t *testing.T, open func(*testing.T) store.Store) store.Store {
	t.Helper()
	s := open(t)
	b := new(store.Batch)
	for i := range rows - 5 {
		b.Put(fmt.Sprintf("thread:%02d:meta", i), fmt.Appendf(nil, "value %d", i))
	}
	b.Put("kmscheck", []byte("{}"))
	b.Put("\x00", []byte("first"))
	b.Put("\xff\xfe", []byte("last"))
	b.Put("empty", nil)
	b.Put("large", bytes.Repeat([]byte("large "), 100_000))
	commit(t, s, b)
	return s
}

func commit(t *testing.T, s store.Store, b *store.Batch) {
	t.Helper()
	if _, err := s.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	b := new(store.Batch)
	b.Put(key, []byte(value))
	commit(t, s, b)
}

// small copies few records at a time.
func small(from, to store.Store) Config {
	return Config{From: from, To: to, Source: "pebble:/source", Target: "pebble:/target", page: store.ScanOptions{Limit: 4, MaxBytes: 1 << 20}}
}

// commits is how many commits a copy of rows records by small has: the note, the
// batches, and the note's end.
const commits = 1 + (rows+3)/4 + 1

func contents(t *testing.T, s store.Store) (all []string) {
	t.Helper()
	for rec, err := range store.All(t.Context(), s, store.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec.Key+"="+string(rec.Value))
	}
	return all
}

// mustBe checks that a copy is whole and that nothing else is in it.
func mustBe(t *testing.T, from, to store.Store, r Report) {
	t.Helper()
	want, got := contents(t, from), contents(t, to)
	if !slices.Equal(want, got) {
		t.Errorf("the target holds %d records, not the same as the %d of the source", len(got), len(want))
	}
	if r.Records != len(want) || len(r.SHA256) != 64 {
		t.Errorf("report %+v of %d records", r, len(want))
	}
}

// mustFail checks that a copy is refused with code and words, and that its target
// cannot be taken for a whole one.
func mustFail(t *testing.T, cfg Config, code fault.Code, words ...string) {
	t.Helper()
	_, err := Copy(t.Context(), cfg)
	if !errors.Is(err, code) {
		t.Fatalf("Copy = %v, want %s", err, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

func mustBeUnfinished(t *testing.T, s store.Store) {
	t.Helper()
	if _, err := s.Get(t.Context(), layout.StoreCopy()); err != nil {
		t.Errorf("the target's note: %v", err)
	}
}

func TestACopyHoldsWhatItsSourceDoes(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to func(*testing.T) store.Store) {
		source, target := filled(t, from), to(t)
		var phases []Phase
		cfg := small(source, target)
		cfg.Progress = func(p Phase, done, total int) {
			if p != Counting && done > total {
				t.Errorf("%s: %d of %d", p, done, total)
			}
			phases = append(phases, p)
		}
		r, err := Copy(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		mustBe(t, source, target, r)
		if r.Already {
			t.Error("it was not there before")
		}
		if got := slices.Compact(phases); !slices.Equal(got, []Phase{Counting, Copying, Verifying}) {
			t.Errorf("phases %v", got)
		}
		again, err := Copy(t.Context(), small(source, target))
		if err != nil || !again.Already || again.SHA256 != r.SHA256 || again.Bytes != r.Bytes {
			t.Errorf("again: %+v, %v; the first time %+v", again, err, r)
		}
	})
}

func TestACopyThatIsKilledAtAnyCommitGoesOn(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to func(*testing.T) store.Store) {
		source := filled(t, from)
		step := 1
		if testing.Short() {
			step = 3
		}
		for at := 1; at <= commits; at += step {
			for _, takes := range []bool{false, true} {
				target := to(t)
				dying := &storetest.DyingStore{Store: target, At: at, Takes: takes}
				if _, err := Copy(t.Context(), small(source, dying)); !errors.Is(err, store.ErrClosed) {
					t.Fatalf("killed at commit %d: %v", at, err)
				}
				if at > 1 && at < commits {
					mustBeUnfinished(t, target)
				}
				// The next one dies too, one commit on, and must not have begun anew.
				dying = &storetest.DyingStore{Store: target, At: max(1, commits-at)}
				_, err := Copy(t.Context(), small(source, dying))
				if whole := at == commits && takes; !whole && !errors.Is(err, store.ErrClosed) {
					t.Fatalf("killed at commit %d and again at its last but one: %v", at, err)
				}
				r, err := Copy(t.Context(), small(source, target))
				if err != nil {
					t.Fatalf("after a kill at commit %d (took effect: %t): %v", at, takes, err)
				}
				mustBe(t, source, target, r)
			}
		}
		if _, err := Copy(t.Context(), small(source, &storetest.DyingStore{Store: to(t), At: commits + 1})); err != nil {
			t.Errorf("a copy has more than the %d commits of this test: %v", commits, err)
		}
	})
}

func TestARowOfTheTargetThatChangedIsFound(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to func(*testing.T) store.Store) {
		source := filled(t, from)
		for what, change := range map[string]func(b *store.Batch){
			"flipped": func(b *store.Batch) { b.Put("thread:03:meta", []byte("value 2")) },
			"lost":    func(b *store.Batch) { b.Delete("thread:03:meta") },
			"added":   func(b *store.Batch) { b.Put("thread:03:meta2", nil) },
			"swapped": func(b *store.Batch) {
				b.Put("thread:03:meta", []byte("value 4"))
				b.Put("thread:04:meta", []byte("value 3"))
			},
		} {
			target := to(t)
			killed(t, source, target, commits)
			b := new(store.Batch)
			change(b)
			commit(t, target, b)
			for range 2 { // it stays so
				mustFail(t, small(source, target), fault.Damaged, "pebble:/target", "thread:03:meta", "empty it and begin again")
				mustBeUnfinished(t, target)
			}
			if t.Failed() {
				t.Fatal(what)
			}
		}
	})
}

// killed runs a copy until it is killed at a commit, which does not take effect.
func killed(t *testing.T, source, target store.Store, at int) {
	t.Helper()
	if _, err := Copy(t.Context(), small(source, &storetest.DyingStore{Store: target, At: at})); !errors.Is(err, store.ErrClosed) {
		t.Fatal(err)
	}
}

func TestASourceThatChangesIsFound(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to func(*testing.T) store.Store) {
		for what, change := range map[string]func(b *store.Batch){
			"changed":      func(b *store.Batch) { b.Put("thread:00:meta", []byte("other")) },
			"gone":         func(b *store.Batch) { b.Delete("thread:00:meta") },
			"new, behind":  func(b *store.Batch) { b.Put("thread:00:meta:1", []byte("new")) },
			"new, at last": func(b *store.Batch) { b.Put("\xff\xff", []byte("new")) }, // where all was copied already
		} {
			source, target := filled(t, from), to(t)
			killed(t, source, target, commits)
			b := new(store.Batch)
			change(b)
			commit(t, source, b)
			if what == "new, at last" { // it is copied with the rest
				r, err := Copy(t.Context(), small(source, target))
				if err != nil {
					t.Fatal(err)
				}
				mustBe(t, source, target, r)
				continue
			}
			mustFail(t, small(source, target), fault.Conflict, "pebble:/source changed while it was copied", "thread:00:meta", "empty the target and begin again")
			mustBeUnfinished(t, target)
		}
	})
}

// A server that runs on the source writes at any moment of the copy: whatever comes
// of it, a copy without an error is a copy.
func TestASourceThatIsWrittenToIsRefusedOrCopied(t *testing.T) {
	for at := range 60 {
		source, target := filled(t, engines["memory"]), memstore.New()
		busy := &busyStore{Store: source, at: at}
		r, err := Copy(t.Context(), small(busy, target))
		switch {
		case err == nil:
			mustBe(t, source, target, r)
		case !errors.Is(err, fault.Conflict):
			t.Errorf("written to at call %d: %v", at, err)
		default:
			mustBeUnfinished(t, target)
		}
	}
}

// busyStore is written to before one of the scans.
type busyStore struct {
	store.Store
	at, calls int
}

func (s *busyStore) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	if s.calls++; s.calls == s.at+1 {
		b := new(store.Batch)
		b.Put("thread:05:meta", []byte("posted meanwhile"))
		if _, err := s.Commit(ctx, b); err != nil {
			return nil, err
		}
	}
	return s.Store.Scan(ctx, r, store.ScanOptions{Limit: min(opt.Max(), 3), MaxBytes: opt.MaxBytes}) // more calls
}

func TestATargetThatHoldsOtherThingsIsRefused(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to func(*testing.T) store.Store) {
		source, target := filled(t, from), to(t)
		put(t, target, "thread:00:meta", "of another server")
		before := contents(t, target)
		mustFail(t, small(source, target), fault.Conflict, "pebble:/target holds other things; name an empty store")
		if after := contents(t, target); !slices.Equal(before, after) {
			t.Errorf("the target was changed: %q", after)
		}

		// A copy that somebody worked with is a store of its own.
		target = to(t)
		if _, err := Copy(t.Context(), small(source, target)); err != nil {
			t.Fatal(err)
		}
		put(t, target, "thread:99:meta", "posted since")
		mustFail(t, small(source, target), fault.Conflict, "holds other things")
	})
}

func TestAnUnfinishedCopyOfAnotherStoreIsRefused(t *testing.T) {
	source, target := filled(t, engines["memory"]), memstore.New()
	killed(t, source, target, 3)
	before := contents(t, target)
	other := small(source, target)
	other.Source = "pebble:/other"
	mustFail(t, other, fault.Conflict, "pebble:/target holds an unfinished copy of pebble:/source", "--from pebble:/source")
	if !slices.Equal(before, contents(t, target)) {
		t.Error("the target was changed")
	}
	put(t, target, layout.StoreCopy(), "{")
	mustFail(t, small(source, target), fault.Damaged, "empty the target and begin again")
}

func TestASourceIsWhatItIsSaidToBe(t *testing.T) {
	mustFail(t, small(memstore.New(), memstore.New()), fault.Conflict, "there is nothing in pebble:/source")

	server, keys, unfinished := filled(t, engines["memory"]), memstore.New(), memstore.New()
	put(t, keys, layout.KEK("threads"), "{}")
	killed(t, server, unfinished, 3)
	mustFail(t, small(unfinished, memstore.New()), fault.Conflict, "pebble:/source is itself a copy that is not finished")
	mustFail(t, small(keys, memstore.New()), fault.Conflict, "say --keys")
	cfg := small(server, memstore.New())
	cfg.Keys = true
	mustFail(t, cfg, fault.Conflict, "is not the store of a key process")
	cfg.From = keys
	if r, err := Copy(t.Context(), cfg); err != nil || r.Records != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestOfTwoCopiesAtOnceOneEnds(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to func(*testing.T) store.Store) {
		source, target := filled(t, from), to(t)
		errs := make([]error, 3)
		var copying sync.WaitGroup
		for i := range errs {
			copying.Go(func() { _, errs[i] = Copy(t.Context(), small(source, target)) })
		}
		copying.Wait()
		for _, err := range errs {
			if err != nil && !errors.Is(err, fault.Conflict) {
				t.Error(err)
			}
		}
		// Each may have stopped another; then one more ends it.
		r, err := Copy(t.Context(), small(source, target))
		if err != nil {
			t.Fatal(err)
		}
		mustBe(t, source, target, r)
	})
}

func TestACopyGoesOnWhereItWas(t *testing.T) {
	source, target := filled(t, engines["memory"]), memstore.New()
	killed(t, source, target, 4) // the note, and two batches of four
	var first int
	cfg := small(source, target)
	cfg.Progress = func(p Phase, done, total int) {
		if p == Counting || p == Copying && total != rows {
			t.Errorf("%s %d of %d", p, done, total)
		}
		if first == 0 {
			first = done
		}
	}
	if _, err := Copy(t.Context(), cfg); err != nil || first != 8 {
		t.Errorf("it went on from record %d, %v; want 8", first, err)
	}
}

func TestACopyIntoWhichAnotherOneWritesStops(t *testing.T) {
	for at := 2; at <= commits; at++ {
		source, target := filled(t, engines["memory"]), memstore.New()
		rival := &rivalled{Store: target, at: at, do: func() {
			note, err := target.Get(t.Context(), layout.StoreCopy())
			if err != nil {
				t.Fatal(err)
			}
			put(t, target, note.Key, string(note.Value))
		}}
		mustFail(t, small(source, rival), fault.Conflict, "another copy into pebble:/target is under way")
	}
}

// rivalled is a store to which somebody else writes right before one of its commits.
type rivalled struct {
	store.Store
	at, commits int
	do          func()
}

func (s *rivalled) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if s.commits++; s.commits == s.at {
		s.do()
	}
	return s.Store.Commit(ctx, b)
}
