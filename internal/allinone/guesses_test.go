package allinone

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

type sharing struct{ store.Store }

func (sharing) Shared() bool { return true }

// Get takes a while, as on another machine.
func (s sharing) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := s.Store.Get(ctx, key)
	time.Sleep(100 * time.Microsecond)
	return rec, err
}

// Who goes from server to server, all at once, has as many guesses as at one, exactly.
func TestWhoGuessesAtThreeServersHasNoMoreGuesses(t *testing.T) {
	mem := memstore.New()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := Config{Now: func() time.Time { return now }}
	var guessed atomic.Int64
	var all sync.WaitGroup
	servers := []interface{ Wait(string) time.Duration }{}
	for range 3 {
		n := &Node{Store: sharing{mem}}
		servers = append(servers, n.backoff(cfg))
	}
	for _, b := range servers {
		for range 20 {
			all.Go(func() {
				if b.Wait("mail@example.com") == 0 {
					guessed.Add(1)
				}
			})
		}
	}
	all.Wait()
	if n := guessed.Load(); n != 6 { // five that are free, and the one after which there is a wait
		t.Errorf("%d guesses at once", n)
	}
	now = now.Add(time.Second)
	if servers[0].Wait("mail@example.com") != 0 || servers[1].Wait("mail@example.com") == 0 {
		t.Error("after the wait there is not one guess more")
	}
}

func TestASuccessIsKnownToAllServers(t *testing.T) {
	mem := memstore.New()
	a, b := (&Node{Store: sharing{mem}}).backoff(Config{}), (&Node{Store: sharing{mem}}).backoff(Config{})
	for range 6 {
		a.Wait("x")
	}
	if b.Wait("x") == 0 {
		t.Error("the other server knows of no failure")
	}
	b.Succeeded("x")
	if a.Wait("x") != 0 {
		t.Error("the success is not known")
	}
	a.Undo("x")
	if recs, _ := mem.Scan(t.Context(), store.Prefix(layout.Guesses("")), store.ScanOptions{}); len(recs) != 0 {
		t.Errorf("%d rows are left", len(recs))
	}
}

func TestWithoutTheStoreNobodyGuesses(t *testing.T) {
	mem := memstore.New()
	b := (&Node{Store: sharing{mem}}).backoff(Config{})
	mem.Close()
	if b.Wait("x") == 0 {
		t.Error("a guess that nobody counts")
	}
}

func TestRowsOfGuessesThatAreOverAreRemoved(t *testing.T) {
	mem := memstore.New()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	b := (&Node{Store: sharing{mem}}).backoff(Config{Now: func() time.Time { return now }})
	for i := range 200 {
		b.Wait(fmt.Sprint(i))
	}
	now = now.Add(time.Hour)
	for i := range 20_000 {
		b.Wait("x" + fmt.Sprint(i%10))
		if recs, _ := mem.Scan(t.Context(), store.Prefix(layout.Guesses("")), store.ScanOptions{}); len(recs) <= 10 {
			return
		}
	}
	t.Error("rows that are over stay")
}

// counted is a store that counts, and runs a function before a commit.
type counted struct {
	sharing
	scans, commits int
	meanwhile      func()
}

func (c *counted) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	c.scans++
	return c.sharing.Scan(ctx, r, opt)
}

func (c *counted) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	c.commits++
	if c.meanwhile != nil {
		c.meanwhile()
	}
	return c.sharing.Commit(ctx, b)
}

func TestASweepOfGuessesIsOneScanAndOneCommit(t *testing.T) {
	mem := memstore.New()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	b := (&Node{Store: sharing{mem}}).backoff(Config{Now: clock})
	const people = 100
	for i := range people {
		b.Wait(fmt.Sprint(i))
	}
	rows := func() []store.Record {
		recs, err := mem.Scan(t.Context(), store.Prefix(layout.Guesses("")), store.ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return recs
	}
	s := &counted{sharing: sharing{mem}}
	g := &guesses{store: s, now: clock, over: b.Over}
	g.sweep(t.Context())
	if s.commits != 0 || len(rows()) != people {
		t.Errorf("%d commits, and %d rows are left of people who have just guessed", s.commits, len(rows()))
	}
	now = now.Add(time.Hour)
	s.meanwhile = func() { // a guess of each of them
		for _, rec := range rows() {
			var again store.Batch
			again.Put(rec.Key, rec.Value)
			if _, err := mem.Commit(t.Context(), &again); err != nil {
				t.Fatal(err)
			}
		}
	}
	there := len(rows())
	for s.commits == 0 {
		g.sweep(t.Context())
	}
	if n := len(rows()); n != there {
		t.Errorf("%d rows that changed meanwhile are removed", there-n)
	}
	s.meanwhile, s.scans, s.commits = nil, 0, 0
	for sweeps := 1; len(rows()) > 0; sweeps++ {
		before := len(rows())
		g.sweep(t.Context())
		if s.scans != sweeps || s.commits > sweeps || sweeps > 1000 {
			t.Fatalf("%d sweeps took %d scans and %d commits, %d rows are left", sweeps, s.scans, s.commits, len(rows()))
		}
		if before > sweepRows && len(rows()) == before && s.commits == sweeps {
			t.Errorf("a commit removed nothing of %d rows", before)
		}
	}
}
