package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
)

// together runs n goroutines that start at once, and waits for them.
func together(n int, run func(i int)) {
	var ready, done sync.WaitGroup
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			ready.Wait()
			run(i)
		})
	}
	done.Wait()
}

// closeUnderLoad closes the store while calls run. Each of them ends well or
// with ErrClosed, and from then on all do so.
func closeUnderLoad(t *testing.T, s store.Store) {
	const callers = 8
	ctx, warm := context.Background(), make(chan struct{}, callers)
	put(t, s, "k", "v")
	calls := []func() error{
		func() error { _, err := s.Get(ctx, "k"); return err },
		func() error { _, err := s.Scan(ctx, store.Range{}, store.ScanOptions{}); return err },
		func() error { _, err := try(s, func(b *store.Batch) { b.Put("k", []byte("v")) }); return err },
		func() error { _, err := try(s, func(b *store.Batch) { b.RequireAbsent("never") }); return err },
	}
	together(callers+1, func(i int) {
		if i == callers {
			for range callers {
				<-warm
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			return
		}
		running := sync.OnceFunc(func() { warm <- struct{}{} })
		var err error
		for n := 0; err == nil; n++ {
			if n == 10 {
				running()
			}
			err = calls[i%len(calls)]()
		}
		running()
		if !errors.Is(err, store.ErrClosed) || !errors.Is(calls[i%len(calls)](), store.ErrClosed) {
			t.Errorf("a call while the store closes: %v", err)
		}
	})
}

// wholeBatches lets writers replace all of a set of records at once, while
// readers check that they never see two generations side by side.
func wholeBatches(t *testing.T, s store.Store) {
	const keys, writers, readers, rounds = 40, 3, 3, 40
	write := func(generation string) {
		_, err := try(s, func(b *store.Batch) {
			for k := range keys {
				b.Put(fmt.Sprintf("k%02d", k), []byte(generation))
			}
		})
		if err != nil {
			t.Errorf("Commit: %v", err)
		}
	}
	write("start")
	var writing sync.WaitGroup
	stop := make(chan struct{})
	writing.Add(writers)
	go func() { writing.Wait(); close(stop) }()
	together(writers+readers, func(i int) {
		if i < writers {
			defer writing.Done()
			for r := range rounds {
				write(fmt.Sprintf("%d/%d", i, r))
			}
			return
		}
		for opt := (store.ScanOptions{}); ; opt.Reverse = !opt.Reverse {
			recs, err := s.Scan(context.Background(), store.Prefix("k"), opt)
			if err != nil || len(recs) != keys {
				t.Errorf("Scan = %d records, %v", len(recs), err)
				return
			}
			for _, r := range recs {
				if string(r.Value) != string(recs[0].Value) || r.Revision != recs[0].Revision {
					t.Errorf("one scan shows %q and %q", recs[0].Value, r.Value)
					return
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
}

// counters lets 32 writers draw numbers from two shared counters. Every number
// is drawn once, and the sum is exact.
func counters(t *testing.T, s store.Store) {
	const writers, draws = 32, 30
	var mu sync.Mutex
	drawn := map[string][]int{}
	together(writers, func(w int) {
		for i := range draws {
			key := "counter" + strconv.Itoa((w+i)%2)
			n, err := draw(s, key)
			if err != nil {
				t.Errorf("drawing from %s: %v", key, err)
				return
			}
			mu.Lock()
			drawn[key] = append(drawn[key], n)
			mu.Unlock()
		}
	})
	for key, numbers := range drawn {
		slices.Sort(numbers)
		for i, n := range numbers {
			if n != i+1 {
				t.Fatalf("%s: number %d of the drawn ones is %d; lost or drawn twice", key, i+1, n)
			}
		}
		wantValue(t, s, key, strconv.Itoa(writers*draws/2))
	}
}

// draw adds one to the counter under key and returns it.
func draw(s store.Store, key string) (n int, err error) {
	ctx := context.Background()
	err = store.Retry(ctx, func() error {
		r, err := s.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n, _ = strconv.Atoi(string(r.Value))
		n++
		_, err = try(s, func(b *store.Batch) {
			b.Put(key, []byte(strconv.Itoa(n)))
			b.RequireRevision(key, r.Revision)
		})
		return err
	})
	return n, err
}

// raceRounds is how often a race between two commits is run; a hole of some
// microseconds is then met with near certainty.
const raceRounds = 200

// blindRace runs a conditional put against a put without a precondition. In
// either order the blind value must stay: it is last, or the other conflicts.
func blindRace(t *testing.T, s store.Store) {
	for round := range raceRounds {
		key := "k" + strconv.Itoa(round%7)
		before := put(t, s, key, "before")
		together(3, func(i int) {
			_, err := try(s, func(b *store.Batch) {
				if i == 0 {
					b.Put(key, []byte("blind"))
					return
				}
				b.Put(key, []byte("conditional"))
				b.RequireRevision(key, before)
			})
			if err != nil && (i == 0 || !errors.Is(err, store.ErrConflict)) {
				t.Errorf("Commit: %v", err)
			}
		})
		if wantValue(t, s, key, "blind"); t.Failed() {
			t.Fatalf("round %d: a blind write slipped between the check and the write of another batch", round)
		}
	}
}

// mixedWrites runs a batch that deletes a key and puts another against one that
// puts both, with no preconditions. One of them is last, at both keys.
func mixedWrites(t *testing.T, s store.Store) {
	for round := range raceRounds {
		first, second := fmt.Sprintf("a%d", round), fmt.Sprintf("b%d", round)
		put(t, s, second, "before")
		together(2, func(i int) {
			_, err := try(s, func(b *store.Batch) {
				if i == 0 {
					b.Delete(first)
				} else {
					b.Put(first, []byte("both"))
				}
				b.Put(second, []byte([]string{"one", "both"}[i]))
			})
			if err != nil {
				t.Errorf("Commit: %v", err)
			}
		})
		_, err := s.Get(context.Background(), first)
		want := "both"
		if errors.Is(err, store.ErrNotFound) {
			want = "one"
		}
		if wantValue(t, s, second, want); t.Failed() {
			t.Fatalf("round %d: Get(%q) = %v; each of two batches is the last at one key", round, first, err)
		}
	}
}

// writeSkew runs pairs of batches that each require the key of the other to be
// absent. At most one may pass.
func writeSkew(t *testing.T, s store.Store) {
	for round := range raceRounds {
		keys := []string{fmt.Sprintf("a%d", round), fmt.Sprintf("b%d", round)}
		var errs [2]error
		together(2, func(i int) {
			_, errs[i] = try(s, func(b *store.Batch) { b.Put(keys[i], nil); b.RequireAbsent(keys[1-i]) })
		})
		passed := 0
		for _, err := range errs {
			if err == nil {
				passed++
			} else if !errors.Is(err, store.ErrConflict) {
				t.Fatal(err)
			}
		}
		if passed != 1 {
			t.Fatalf("round %d: %d of two batches that exclude each other passed", round, passed)
		}
	}
}

// guardSkew runs pairs of batches that each write a record and require the other's
// to stay as it is. Exactly one passes.
func guardSkew(t *testing.T, s store.Store) {
	for round := range raceRounds {
		keys := []string{fmt.Sprintf("a%d", round), fmt.Sprintf("b%d", round)}
		rev := commit(t, s, func(b *store.Batch) { b.Put(keys[0], nil); b.Put(keys[1], nil) })
		var errs [2]error
		together(2, func(i int) {
			_, errs[i] = try(s, func(b *store.Batch) { b.Put(keys[i], []byte("new")); b.RequireRevision(keys[1-i], rev) })
		})
		if (errs[0] == nil) == (errs[1] == nil) || errs[0] != nil && !errors.Is(errs[0], store.ErrConflict) || errs[1] != nil && !errors.Is(errs[1], store.ErrConflict) {
			t.Fatalf("round %d: two batches that need each other's record unchanged: %v, %v", round, errs[0], errs[1])
		}
	}
}

// crossCheck moves a token between two keys, in one batch each time, while
// checkers require both to be absent: that was never so.
func crossCheck(t *testing.T, s store.Store) {
	put(t, s, "left", "token")
	stop := make(chan struct{})
	together(3, func(i int) {
		if i == 0 {
			defer close(stop)
			from, to := "left", "right"
			for range raceRounds / 4 {
				if _, err := try(s, func(b *store.Batch) { b.Delete(from); b.Put(to, []byte("token")) }); err != nil {
					t.Errorf("Commit: %v", err)
				}
				from, to = to, from
			}
			return
		}
		for {
			_, err := try(s, func(b *store.Batch) { b.RequireAbsent("left"); b.RequireAbsent("right") })
			if !errors.Is(err, store.ErrConflict) {
				t.Errorf("Commit = %v: the token was in neither place", err)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
}
