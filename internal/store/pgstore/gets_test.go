package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// gates stop what goes to the database, or what comes back, while they are locked.
type gates struct {
	out, in sync.RWMutex
	sent    atomic.Int64
}

type gatedConn struct {
	net.Conn
	*gates
}

func (g *gates) wrap(c net.Conn) net.Conn { return &gatedConn{c, g} }

func (c *gatedConn) Write(b []byte) (int, error) {
	c.out.RLock()
	defer c.out.RUnlock()
	c.sent.Add(1)
	return c.Conn.Write(b)
}

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.RLock()
	defer c.in.RUnlock()
	return n, err
}

// awaitGets waits until so many statements of Gets are under way and so many Gets wait.
func awaitGets(t *testing.T, s *Store, underWay, waiting int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		s.gets.mu.Lock()
		u, w := s.gets.underWay, len(s.gets.waiting)
		s.gets.mu.Unlock()
		if u == underWay && w == waiting {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d statements are under way and %d Gets wait; want %d and %d", u, w, underWay, waiting)
		}
	}
}

// warmGets gives s connections with all statements prepared.
func warmGets(t *testing.T, s *Store) {
	t.Helper()
	for range fewGets {
		c, err := s.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
		prepare(t.Context(), c.Conn().PgConn())
	}
}

func TestGetsThatMeetAreOneStatementAndEachHasItsOwnCopy(t *testing.T) {
	t.Parallel()
	var g gates
	url := pgtest.URL(t)
	s, other := openWith(t, url, Options{wrap: g.wrap}), open(t, url)
	defer s.Close()
	for i := range 10 {
		put(t, s, fmt.Sprint("k", i), "old")
	}
	warmGets(t, s)
	const n = fewGets + enough - 1
	var got [n]store.Record
	var missing error
	var working sync.WaitGroup
	g.out.Lock()
	sent := g.sent.Load()
	for i := range n {
		working.Go(func() {
			var err error
			if got[i], err = s.Get(t.Context(), fmt.Sprint("k", i%10)); err != nil {
				t.Error(err)
			}
		})
		awaitGets(t, s, min(i+1, fewGets), max(0, i+1-fewGets))
	}
	for i := range 10 { // nothing was read yet
		put(t, other, fmt.Sprint("k", i), "new")
	}
	g.out.Unlock()
	working.Wait()
	if _, missing = s.Get(t.Context(), "k10"); !errors.Is(missing, store.ErrNotFound) {
		t.Errorf("what is not there = %v", missing)
	}
	if trips := g.sent.Load() - sent; trips != fewGets+2 {
		t.Errorf("%d Gets at once and one after them took %d round trips", n, trips)
	}
	for i := range got {
		if r := got[i]; r.Key != fmt.Sprint("k", i%10) || string(r.Value) != "new" {
			t.Errorf("Get %d = %q %q", i, r.Key, r.Value)
		}
		copy(got[i].Value, "###") // which no other may see
	}
}

// What was committed before a Get began it sees, whatever is under way.
func TestAGetIsNotAnsweredByWhatWasReadBeforeIt(t *testing.T) {
	t.Parallel()
	var g gates
	url := pgtest.URL(t)
	s, other := openWith(t, url, Options{wrap: g.wrap}), open(t, url)
	defer s.Close()
	put(t, s, "k", "old")
	warmGets(t, s)
	g.in.Lock()
	var first, second store.Record
	var working sync.WaitGroup
	get := func(into *store.Record) {
		working.Go(func() {
			var err error
			if *into, err = s.Get(t.Context(), "k"); err != nil {
				t.Error(err)
			}
		})
	}
	sent := g.sent.Load()
	get(&first)
	for g.sent.Load() == sent {
		time.Sleep(time.Millisecond)
	}
	pgtest.Shared(t).Wait(t, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%keyfold_records WHERE key = ANY%' AND pid <> pg_backend_pid()", "0")
	put(t, other, "k", "new")
	get(&second)
	awaitGets(t, s, fewGets, 0)
	g.in.Unlock()
	working.Wait()
	if string(first.Value) != "old" && string(first.Value) != "new" || string(second.Value) != "new" {
		t.Errorf("a Get from before a commit = %q, one from after it = %q", first.Value, second.Value)
	}
}

// A row that cannot be read fails its own Get alone.
func TestAGetThatFailsHarmsNoOtherOfItsStatement(t *testing.T) {
	t.Parallel()
	var g gates
	server := pgtest.New(t)
	s := openWith(t, server.Address("postgres"), Options{wrap: g.wrap})
	defer s.Close()
	for _, k := range []string{"a", "bad", "c"} {
		put(t, s, k, k)
	}
	server.Exec(t, "postgres", `ALTER TABLE keyfold_records RENAME TO kept`)
	server.Exec(t, "postgres", `CREATE VIEW keyfold_records AS SELECT key,
		CASE WHEN key = 'bad' THEN (('x' || encode(value, 'hex'))::int)::text::bytea ELSE value END AS value, revision FROM kept`)
	warmGets(t, s)
	g.out.Lock()
	keys := append(strings.Fields("a c"), strings.Fields("a bad c")...) // two alone, three together
	errs, got := make([]error, len(keys)), make([]store.Record, len(keys))
	var working sync.WaitGroup
	for i, k := range keys {
		working.Go(func() { got[i], errs[i] = s.Get(context.Background(), k) })
		awaitGets(t, s, min(i+1, fewGets), max(0, i+1-fewGets))
	}
	g.out.Unlock()
	working.Wait()
	for i, k := range keys {
		switch {
		case k == "bad" && (errs[i] == nil || errors.Is(errs[i], store.ErrNotFound)):
			t.Errorf("what cannot be read = %q, %v", got[i].Value, errs[i])
		case k != "bad" && (errs[i] != nil || !bytes.Equal(got[i].Value, []byte(k))):
			t.Errorf("Get %q = %q, %v", k, got[i].Value, errs[i])
		}
	}
}

// Whoever gives up a Get does not wait for its statement.
func TestAGetEndsWithItsContext(t *testing.T) {
	t.Parallel()
	var g gates
	s := openWith(t, pgtest.URL(t), Options{wrap: g.wrap})
	defer s.Close()
	put(t, s, "k", "v")
	ctx, cancel := context.WithCancel(t.Context())
	g.out.Lock()
	ended := make(chan error, 1)
	go func() {
		_, err := s.Get(ctx, "k")
		ended <- err
	}()
	awaitGets(t, s, 1, 0)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Get with a context that ended = %v", err)
	}
	g.out.Unlock()
	if r, err := s.Get(t.Context(), "k"); err != nil || string(r.Value) != "v" {
		t.Errorf("the next Get = %q, %v", r.Value, err)
	}
}
