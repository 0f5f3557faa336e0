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
