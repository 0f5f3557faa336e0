package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// canaries are values that a test looks for in files: 16 random bytes each, that
// no compression shortens.
type canaries map[[16]byte]bool

// value is a new canary with some bytes around it, now and then many.
func (c canaries) value(r *rand.Rand) []byte {
	if r.IntN(30) == 0 {
		return c.large(r)
	}
	one := c.one(r)
	return append(append(random(r, r.IntN(600)), one[:]...), random(r, r.IntN(600))...)
}

// large is a value that goes to a blob file.
func (c canaries) large(r *rand.Rand) []byte {
	one := c.one(r)
	return append(random(r, largeValue), one[:]...)
}

func (c canaries) one(r *rand.Rand) (one [16]byte) {
	one = [16]byte(random(r, 16))
	c[one] = true
	return one
}

// in returns how many of c are in the files of dir with a name like pattern.
func (c canaries) in(t testing.TB, dir, pattern string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	found := canaries{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) { // a compaction is done with it
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		for ; len(data) >= 16; data = data[1:] {
			if one := [16]byte(data[:16]); c[one] {
				found[one] = true
			}
		}
	}
	return len(found)
}

// scrub scrubs s to the end.
func scrub(t testing.TB, s *Store) {
	t.Helper()
	scrubFrom(t, s, "")
}

// scrubFrom scrubs s from a state to the end. A call says to try again when Pebble
// removes files more slowly than it waits.
func scrubFrom(t testing.TB, s *Store, state string) {
	t.Helper()
	until := time.Now().Add(2 * time.Minute)
	for calls := 0; ; {
		next, err := s.Scrub(t.Context(), state)
		switch {
		case errors.Is(err, fault.Unavailable) && time.Now().Before(until):
		case err != nil:
			t.Fatal(err)
		case calls > 100:
			t.Fatal("it comes to no end")
		case next == "":
			return
		default:
			calls++
		}
		state = next
	}
}

// soil writes records with canaries twice, and then overwrites or deletes every
// one, each time in another order. How many canaries are left in files depends on
// what Pebble compacts meanwhile. So in the end it overwrites some again: those it
// finds in tables and a blob file, since what overwrites them is in memory and a log.
func soil(t testing.TB, s *Store, r *rand.Rand, c canaries) {
	t.Helper()
	for pass := range 3 {
		order := r.Perm(1000)
		for len(order) > 0 {
			var b store.Batch
			for _, i := range order[:10] {
				key := fmt.Sprintf("row/%06d", i)
				switch {
				case pass < 2:
					b.Put(key, c.value(r))
				case i%3 == 0:
					b.Delete(key)
				case i%100 == 1:
					b.Put(key, random(r, largeValue))
				default:
					b.Put(key, random(r, 100))
				}
			}
			if _, err := s.Commit(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			order = order[10:]
		}
	}
	var put, over store.Batch
	put.Put("row/large", c.large(r))
	over.Put("row/large", random(r, 100))
	for i := range 100 {
		key := fmt.Sprintf("row/%06d", i)
		put.Put(key, c.value(r))
		over.Put(key, random(r, 100))
	}
	_, err1 := s.Commit(t.Context(), &put)
	err2 := s.db.Flush()
	_, err3 := s.Commit(t.Context(), &over)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
}

func TestAScrubLeavesNothingThatWasOverwrittenInAnyFile(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, memtable := range []uint64{64 << 10, 8 << 20} {
		dir, c := t.TempDir(), canaries{}
		s := open(t, dir, Options{MemTableBytes: memtable})
		soil(t, s, r, c)
		kept, logged, large := c.in(t, dir, "*"), c.in(t, dir, "*.log"), c.in(t, dir, "*.blob")
		if kept < 100 || logged == 0 || large == 0 {
			t.Fatalf("the files hold %d canaries before, the logs %d, the blob files %d; the test needs some in all", kept, logged, large)
		}
		before := all(t, s)
		scrub(t, s)
		if n := c.in(t, dir, "*"); n != 0 {
			t.Errorf("memtables of %d: %d of %d canaries are left in %d logs and tables", memtable, n, kept, c.in(t, dir, "*.log"))
		}
		unchangedRecords(t, before, all(t, s))
		put(t, s, "large", random(r, largeValue))
		if err := errors.Join(s.db.Flush(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if blobs, _ := filepath.Glob(filepath.Join(dir, "*.blob")); len(blobs) != 1 {
			t.Errorf("%d blob files after a large value that came after the scrub, want one", len(blobs))
		}
		s = open(t, dir, Options{})
		if n := c.in(t, dir, "*"); n != 0 {
			t.Errorf("%d canaries are back after a restart", n)
		}
		s.Close()
	}
}

// unchangedRecords compares records with their revisions.
func unchangedRecords(t testing.TB, want, got []store.Record) {
	t.Helper()
	if fmt.Sprint(want) != fmt.Sprint(got) {
		t.Errorf("the records changed: there were %d, now %d", len(want), len(got))
	}
}

// TestAScrubGoesOnBesideWritersAndAfterRestarts scrubs a store with old and young
// versions of records on many levels, while others write, and opens it anew
// between the calls.
func TestAScrubGoesOnBesideWritersAndAfterRestarts(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	dir, c := t.TempDir(), canaries{}
	small := Options{MemTableBytes: 64 << 10}
	s := open(t, dir, small)
	for range 3 {
		soil(t, s, r, c)
	}
	for state, calls := "", 0; ; calls++ {
		ctx, stop := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		for w := range 2 {
			writers.Go(func() {
				r := rand.New(rand.NewPCG(5, uint64(w)))
				for ctx.Err() == nil {
					put(t, s, fmt.Sprintf("row/%06d", r.IntN(3000)), random(r, 1000))
				}
			})
		}
		next, err := s.Scrub(t.Context(), state)
		stop()
		writers.Wait()
		if err != nil && !errors.Is(err, fault.Unavailable) {
			t.Fatal(err)
		}
		if state = next; err == nil && state == "" {
			break
		}
		if s.Close(); calls > 50 {
			t.Fatal("it comes to no end")
		}
		s = open(t, dir, small)
	}
	defer s.Close()
	if n := c.in(t, dir, "*"); n != 0 {
		t.Errorf("%d canaries are left", n)
	}
}

// TestAScrubTakesWhatASnapshotKept has tables of the last level hold two versions
// of records, for a snapshot that is closed later.
func TestAScrubTakesWhatASnapshotKept(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 7))
	dir, c := t.TempDir(), canaries{}
	s := open(t, dir, Options{})
	defer s.Close()
	each := func(value func() []byte) {
		for i := range 200 {
			put(t, s, fmt.Sprintf("row/%06d", i), value())
		}
	}
	each(func() []byte { return c.value(r) })
	view, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	each(func() []byte { return random(r, 100) })
	if _, err := s.Scrub(t.Context(), ""); !errors.Is(err, fault.Unavailable) {
		t.Errorf("with a snapshot open: %v", err)
	}
	if err := errors.Join(s.db.Flush(), s.db.Compact(t.Context(), []byte("a"), []byte("z"), false), view.Close()); err != nil {
		t.Fatal(err)
	}
	if n := c.in(t, dir, "*.sst") + c.in(t, dir, "*.blob"); n != len(c) {
		t.Fatalf("the tables and blob files hold %d canaries; the test needs all %d", n, len(c))
	}
	scrub(t, s)
	if n := c.in(t, dir, "*"); n != 0 {
		t.Errorf("%d canaries are left", n)
	}
}

// TestAScrubTakesOldRecordsInYoungTables makes as if all tables had been written
// after the scrub began, by a compaction that did not bring the two versions of a
// record together.
func TestAScrubTakesOldRecordsInYoungTables(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 11))
	dir, c := t.TempDir(), canaries{}
	s := open(t, dir, Options{})
	defer s.Close()
	put(t, s, "row", c.value(r))
	if err := errors.Join(s.db.Flush(), s.db.Compact(t.Context(), []byte("a"), []byte("z"), false)); err != nil {
		t.Fatal(err)
	}
	put(t, s, "row", nil)
	state, err := s.Scrub(t.Context(), "")
	if err != nil || c.in(t, dir, "*.sst") == 0 {
		t.Fatalf("%v; %d canaries in tables", err, c.in(t, dir, "*.sst"))
	}
	m, err := parseMark(state)
	if err != nil {
		t.Fatal(err)
	}
	m.file = 0
	scrubFrom(t, s, m.String())
	if n := c.in(t, dir, "*"); n != 0 {
		t.Errorf("%d canaries are left", n)
	}
}

func TestAScrubWaitsForWhoReadsAnOldTable(t *testing.T) {
	dir, c := t.TempDir(), canaries{}
	s := open(t, dir, Options{})
	defer s.Close()
	soil(t, s, rand.New(rand.NewPCG(8, 9)), c)
	state, err := s.Scrub(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if it.First(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer stop()
	for err == nil && state != "" {
		state, err = s.Scrub(ctx, state)
	}
	if !errors.Is(err, fault.Unavailable) && !errors.Is(err, context.DeadlineExceeded) || state == "" {
		t.Fatalf("while it is read: %q, %v", state, err)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	scrubFrom(t, s, state)
	if n := c.in(t, dir, "*"); n != 0 {
		t.Errorf("%d canaries are left", n)
	}
}

// Of two calls at once the one that ends first would have files of old logs used again
// under the other.
func TestACallOfScrubWaitsForAnother(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	s.oneScrub.Lock()
	for _, state := range []string{"", "7-9"} {
		if next, err := s.Scrub(t.Context(), state); !errors.Is(err, fault.Unavailable) || next != state {
			t.Errorf("meanwhile %q comes to %q, %v", state, next, err)
		}
	}
	s.oneScrub.Unlock()
	scrub(t, s)
}

// TestAScrubBeginsWhenTheCompactionsOfBeforeHaveEnded: one of them may have begun
// under a snapshot that is closed, and writes what that needed to a table of the
// last level that is younger than the scrub.
func TestAScrubBeginsWhenTheCompactionsOfBeforeHaveEnded(t *testing.T) {
	r, c := rand.New(rand.NewPCG(12, 13)), canaries{}
	begun, release := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	dir := t.TempDir()
	s := open(t, dir, Options{fs: errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") && armed.CompareAndSwap(true, false) {
			close(begun)
			<-release
		}
		return nil
	}))})
	defer s.Close()
	put(t, s, "row", c.value(r))
	view, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	compacted := make(chan error, 1)
	for under := false; !under; { // two tables, so that neither is just moved; Pebble may compact them before we do
		for range 2 {
			put(t, s, "row", random(r, 100))
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		armed.Store(true)
		go func() { compacted <- s.db.Compact(context.Background(), []byte("a"), []byte("z"), false) }()
		select {
		case <-begun:
			under = true
		case err := <-compacted:
			if under = !armed.Swap(false); under || err != nil {
				t.Fatalf("a compaction ended that should wait: %v", err)
			}
		}
	}
	if err := view.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	if state, err := s.Scrub(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it began meanwhile: %q, %v", state, err)
	}
	close(release)
	if err := <-compacted; err != nil {
		t.Fatal(err)
	}
	scrub(t, s)
	if n := c.in(t, dir, "*"); n != 0 {
		t.Errorf("%d canaries are left", n)
	}
}

func TestAScrubTakesNoStateButItsOwn(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	defer s.Close()
	for _, state := range []string{"x", "1", "1-", "1-2 ", "-1-2", "01-2"} {
		if next, err := s.Scrub(t.Context(), state); !errors.Is(err, fault.Invalid) || next != state {
			t.Errorf("%q: %q, %v", state, next, err)
		}
	}
	scrub(t, s) // an empty store
}
