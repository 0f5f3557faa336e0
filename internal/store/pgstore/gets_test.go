package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
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

func TestGetsThatAreReadAheadAreOneRoundTrip(t *testing.T) {
	t.Parallel()
	var g gates
	url := pgtest.URL(t)
	s, other := openWith(t, url, Options{wrap: g.wrap}), open(t, url)
	defer s.Close()
	for _, key := range []string{"a", "b", "bad"} {
		put(t, s, key, "old")
	}
	warmGets(t, s)
	ctx := store.Ahead(t.Context(), s, "a")
	if joined := store.Ahead(ctx, s, "b", "none"); joined != ctx {
		t.Error("keys of which none was asked for are read apart")
	}
	sent := g.sent.Load()
	for _, key := range []string{"a", "none", "b"} {
		if r, err := s.Get(ctx, key); key == "none" && !errors.Is(err, store.ErrNotFound) || key != "none" && (err != nil || r.Key != key) {
			t.Errorf("Get %q = %q, %v", key, r.Key, err)
		}
		put(t, other, "b", "new") // after the read of all
	}
	if trips := g.sent.Load() - sent; trips != 1 {
		t.Errorf("three Gets took %d round trips", trips)
	}
	if r, err := s.Get(ctx, "b"); err != nil || string(r.Value) != "new" {
		t.Errorf("a Get that is not the first = %q, %v", r.Value, err)
	}
	elsewhere := open(t, pgtest.URL(t))
	defer elsewhere.Close()
	if r, err := elsewhere.Get(store.Ahead(ctx, s, "b"), "b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a Get of another database = %q, %v", r.Value, err)
	}
}

// A row that cannot be read fails its own Get, and none that was read ahead with it.
func TestAGetThatFailsHarmsNoneThatWasReadAhead(t *testing.T) {
	t.Parallel()
	for _, code := range rowFailures {
		t.Run(code, func(t *testing.T) {
			s := withBadRow(t, code, Options{})
			defer s.Close()
			ctx := store.Ahead(t.Context(), s, "a", "bad", "c")
			for _, key := range strings.Fields("a bad c") {
				r, err := s.Get(ctx, key)
				if bad := err != nil && !errors.Is(err, store.ErrNotFound); bad != (key == "bad") || !bad && string(r.Value) != key {
					t.Errorf("Get %q = %q, %v", key, r.Value, err)
				}
			}
		})
	}
}

// rowFailures are the SQLSTATEs of a row that is damaged, over the server's
// statement_timeout, and too large for its memory.
var rowFailures = []string{"XX001", "57014", "53200"}

// withBadRow is a store with rows a, bad and c, of which the second fails what reads it.
func withBadRow(t *testing.T, code string, opt Options) *Store {
	t.Helper()
	server := pgtest.New(t)
	s := openWith(t, server.Address("postgres"), opt)
	for _, k := range []string{"a", "bad", "c"} {
		put(t, s, k, k)
	}
	server.Exec(t, "postgres", `ALTER TABLE keyfold_records RENAME TO kept`)
	server.Exec(t, "postgres", `CREATE FUNCTION bad() RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '`+code+`'; END $$`)
	server.Exec(t, "postgres", `CREATE VIEW keyfold_records AS SELECT key, CASE WHEN key = 'bad' THEN bad() ELSE value END AS value, revision FROM kept`)
	return s
}

// A plan that is made anew for each Get costs the database more than the Get does.
func TestAStatementOfAConnectionIsPlannedOnce(t *testing.T) {
	t.Parallel()
	s, ctx := openWith(t, pgtest.URL(t), Options{}), t.Context()
	defer s.Close()
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	conn := c.Conn().PgConn()
	prepare(ctx, conn)
	for range 20 {
		if _, err := records(send(ctx, conn, &stGet, byteaArray([]string{"k"}))); err != nil {
			t.Fatal(err)
		}
	}
	plans := statement{sql: `SELECT generic_plans::text, custom_plans::text FROM pg_prepared_statements WHERE name = 'keyfold_get'`}
	row, err := one(send(ctx, conn, &plans))
	if err != nil || row == nil || string(row[0]) != "20" || string(row[1]) != "0" {
		t.Errorf("of 20 Gets so many used a plan that was there, and one of their own: %q, %v", row, err)
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
	for _, code := range rowFailures {
		t.Run(code, func(t *testing.T) { harmsNoOther(t, code) })
	}
}

func harmsNoOther(t *testing.T, code string) {
	var g gates
	s := withBadRow(t, code, Options{wrap: g.wrap})
	defer s.Close()
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

// What was answered is no longer held, though nothing comes after it.
func TestAnsweredGetsAreLetGo(t *testing.T) {
	t.Parallel()
	s := openWith(t, pgtest.URL(t), Options{})
	defer s.Close()
	put(t, s, "k", "v")
	const n = 40
	var letGo atomic.Int32
	statements := 0
	for range n {
		one := &get{keys: []string{"k"}, done: make(chan struct{})}
		runtime.AddCleanup(one, func(struct{}) { letGo.Add(1) }, struct{}{})
		if s.gets.add(one) {
			statements++
		}
	}
	for range statements {
		s.getGroups()
	}
	for until := time.Now().Add(10 * time.Second); letGo.Load() < n && time.Now().Before(until); time.Sleep(time.Millisecond) {
		runtime.GC()
	}
	if letGo.Load() < n {
		t.Errorf("%d of %d answered Gets were let go", letGo.Load(), n)
	}
}

// A Get whose caller left is tried again while the database is away, until Close.
func TestNothingIsReadAfterClose(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	s := openWith(t, server.Address("postgres"), Options{patience: 10 * time.Minute, callTimeout: 10 * time.Minute})
	server.Kill(t)
	ctx, leave := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer leave()
	if _, err := s.Get(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get = %v", err)
	}
	awaitGets(t, s, 1, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	awaitGets(t, s, 0, 0)
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
