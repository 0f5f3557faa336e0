package pgstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

func open(t testing.TB, url string) *Store {
	t.Helper()
	return openWith(t, url, Options{})
}

func openWith(t testing.TB, url string, opt Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), url, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// put writes one record.
func put(t testing.TB, s *Store, key, value string) store.Revision {
	t.Helper()
	var b store.Batch
	b.Put(key, []byte(value))
	rev, err := s.Commit(context.Background(), &b)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, pgtest.URL(t)) })
}

// TestStoreThroughPgBouncer is the suite through a pooler that gives each
// transaction another connection.
func TestStoreThroughPgBouncer(t *testing.T) {
	if testing.Short() {
		t.Skip("the pooler is another process: in the run without -short")
	}
	t.Parallel()
	bounced := pgtest.Shared(t).Bouncer(t)
	storetest.Run(t, func(t *testing.T) store.Store {
		s := open(t, bounced(pgtest.URL(t)))
		c, err := s.pool.Acquire(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if sessionOf(c.Conn().PgConn()).direct {
			t.Error("PgBouncer is taken for a server")
		}
		c.Release()
		return s
	})
}

// TestStoreOnStricterIsolation is in databases where transactions are SERIALIZABLE, as in
// CockroachDB and YugabyteDB, or with KEYFOLD_LONG=1 also REPEATABLE READ, and then all
// of the suite.
func TestStoreOnStricterIsolation(t *testing.T) {
	t.Parallel()
	levels, run := []string{"serializable"}, storetest.RunAtOnce
	if os.Getenv("KEYFOLD_LONG") != "" {
		levels, run = append(levels, "repeatable read"), storetest.Run
	}
	for _, level := range levels {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			var retries int64
			run(t, func(t *testing.T) store.Store {
				url := pgtest.URL(t)
				name, _, _ := strings.Cut(url[strings.LastIndex(url, "/")+1:], "?")
				pgtest.Shared(t).Exec(t, "postgres", fmt.Sprintf("ALTER DATABASE %s SET default_transaction_isolation = '%s'", name, level))
				s := open(t, url)
				t.Cleanup(func() { retries += s.retries.Load() })
				return s
			})
			if t.Logf("%d retries", retries); retries == 0 {
				t.Error("nothing was tried again, although much met")
			}
		})
	}
}

// TestDurable kills the server, with all its processes, between a close and an
// open. What the suite takes for the directory of a store holds the URL of one.
func TestDurable(t *testing.T) {
	t.Parallel()
	server, opens := pgtest.New(t), 0
	kills := 6
	if os.Getenv("KEYFOLD_LONG") != "" {
		kills = 30
	}
	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store {
		if opens++; opens <= kills || opens%100 == 0 { // the model opens very often
			server.Kill(t)
			server.Start(t)
		}
		path := filepath.Join(dir, "url")
		url, err := os.ReadFile(path)
		if err != nil {
			url = []byte(server.Database(t))
			if err := os.WriteFile(path, url, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return open(t, string(url))
	})
}

// TestBytesComeBackAsTheyWere is for what a text column, a NULL or an escape would
// change, and for the largest of all.
func TestBytesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	ctx, s := context.Background(), open(t, pgtest.URL(t))
	defer s.Close()
	large := make([]byte, store.MaxValue)
	rand.Read(large)
	want := map[string]string{
		"\x00": "", "\x00\x00": "\x00", "\xff": "\xff\xfe", strings.Repeat("\xff", store.MaxKey): "last",
		"\\x41": "\\x00'", "\xc3\x28": "not UTF-8", "large": string(large),
	}
	for key, value := range want {
		put(t, s, key, value)
	}
	for key, value := range want {
		if r, err := s.Get(ctx, key); err != nil || string(r.Value) != value || r.Value == nil {
			t.Errorf("Get(%.20q) = %.20q, %v", key, r.Value, err)
		}
	}
	recs, err := s.Scan(ctx, store.Range{}, store.ScanOptions{})
	if err != nil || len(recs) != len(want) {
		t.Fatalf("Scan = %d records, %v", len(recs), err)
	}
	for _, r := range recs {
		if string(r.Value) != want[r.Key] {
			t.Errorf("Scan: %.20q has another value", r.Key)
		}
	}
}

// meter counts what goes over connections. The database answers all that was sent
// in one piece before it is sent more, so pieces are round trips.
type meter struct{ trips, received atomic.Int64 }

type meteredConn struct {
	net.Conn
	*meter
}

func (m *meter) wrap(c net.Conn) net.Conn { return &meteredConn{c, m} }

func (c *meteredConn) Write(b []byte) (int, error) {
	c.trips.Add(1)
	return c.Conn.Write(b)
}

func (c *meteredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}

func TestEveryCallIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, url string }{
		{"direct", pgtest.URL(t)},
		{"through PgBouncer", pgtest.Shared(t).Bouncer(t)(pgtest.URL(t))},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m meter
			s, ctx := openWith(t, c.url+"&pool_max_conns=1", Options{wrap: m.wrap}), context.Background()
			defer s.Close()
			first, second := put(t, s, "first", "v"), put(t, s, "second", "v")
			var rich, refused, check store.Batch
			for i := range 200 {
				rich.Put(fmt.Sprint("put", i), []byte("v"))
				rich.Delete(fmt.Sprint("gone", i))
				rich.RequireAbsent(fmt.Sprint("never", i))
			}
			rich.RequireRevision("first", first)
			rich.RequireRevision("second", second)
			rich.Put("second", []byte("w"))
			refused.RequireRevision("first", second)
			refused.Put("first", nil)
			check.RequireRevision("first", first)
			check.RequireAbsent("never")
			for name, call := range map[string]func() error{
				"Get":              func() error { _, err := s.Get(ctx, "first"); return err },
				"Scan":             func() error { _, err := s.Scan(ctx, store.Range{}, store.ScanOptions{}); return err },
				"a bounded Scan":   func() error { _, err := s.Scan(ctx, store.Range{}, store.ScanOptions{MaxBytes: 10}); return err },
				"a rich Commit":    func() error { _, err := s.Commit(ctx, &rich); return err },
				"a refused Commit": func() error { _, err := s.Commit(ctx, &refused); return err },
				"a check":          func() error { _, err := s.Commit(ctx, &check); return err },
			} {
				for tries := 5; ; tries-- { // an idle connection is asked whether it lives, after a second
					before := m.trips.Load()
					if err := call(); err != nil && !errors.Is(err, store.ErrConflict) {
						t.Fatalf("%s: %v", name, err)
					}
					if trips := m.trips.Load() - before; trips == 1 {
						break
					} else if tries == 0 {
						t.Errorf("%s takes %d round trips", name, trips)
						break
					}
				}
				if name == "a rich Commit" { // its second time is a conflict
					rich = store.Batch{}
				}
			}
		})
	}
}

// TestABoundedScanFetchesLittle holds how much comes over the wire.
func TestABoundedScanFetchesLittle(t *testing.T) {
	t.Parallel()
	var m meter
	s, ctx := openWith(t, pgtest.URL(t), Options{wrap: m.wrap}), context.Background()
	defer s.Close()
	for i := range 50 {
		put(t, s, fmt.Sprintf("k%02d", i), strings.Repeat("v", 200_000))
	}
	for _, reverse := range []bool{false, true} {
		before := m.received.Load()
		recs, err := s.Scan(ctx, store.Range{}, store.ScanOptions{MaxBytes: 500_000, Reverse: reverse})
		if got := m.received.Load() - before; err != nil || len(recs) != 3 || got > 650_000 {
			t.Errorf("Scan of at most 500,000 bytes = %d records, %v; %d bytes were received", len(recs), err, got)
		}
	}
	if recs, err := s.Scan(ctx, store.Range{}, store.ScanOptions{MaxBytes: 1}); err != nil || len(recs) != 1 {
		t.Errorf("Scan of at most 1 byte = %d records, %v; want one record", len(recs), err)
	}
}

// TestStatementsAreNamedWhereTheyCanBe: no other test would notice that they are not.
func TestStatementsAreNamedWhereTheyCanBe(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	for name, url := range map[string]string{"direct": url, "through PgBouncer": pgtest.Shared(t).Bouncer(t)(url)} {
		s := open(t, url)
		put(t, s, "k", "v")
		c, err := s.pool.Acquire(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if got := sessionOf(c.Conn().PgConn()).named; got != (name == "direct") {
			t.Errorf("%s: statements are named: %v", name, got)
		}
		c.Release()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Plans that were made while the table was empty are kept, and must do for a large one.
func TestNoStatementReadsTheWholeTable(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	s, ctx := openWith(t, url+"&pool_max_conns=1", Options{}), t.Context()
	const rows = 3000
	key := func(i int) string { return fmt.Sprintf("k%05d", i) }
	name, _, _ := strings.Cut(url[strings.LastIndexByte(url, '/')+1:], "?")
	put(t, s, "x", "v")
	pgtest.Shared(t).Exec(t, name, "VACUUM ANALYZE keyfold_records")
	for range 20 { // these make the plans
		readAndChange(t, s, "x", key(0))
	}
	for i := range rows {
		put(t, s, key(i), "v")
	}
	for i := range 20 {
		readAndChange(t, s, key(i), key(rows+i))
	}
	if _, err := s.Scan(ctx, store.Range{Start: key(rows / 2)}, store.ScanOptions{Limit: 3}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // a backend tells what it read when it ends
		t.Fatal(err)
	}
	pgtest.Shared(t).Wait(t, "SELECT count(*) FROM pg_stat_activity WHERE datname = '"+name+"'", "0")
	read, err := strconv.Atoi(pgtest.Shared(t).Exec(t, name, "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'keyfold_records'"))
	if err != nil || read > rows {
		t.Errorf("%d rows were read one after another, of %d: %v", read, rows, err)
	}
}

// readAndChange sends each statement of Gets and of commits, of a key that may be there
// and one that is not, and leaves both as they are.
func readAndChange(t *testing.T, s *Store, there, not string) {
	t.Helper()
	commit := func(fill func(b *store.Batch)) {
		t.Helper()
		var b store.Batch
		fill(&b)
		if _, err := s.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	commit(func(b *store.Batch) { b.RequireAbsent(not); b.RequireAbsent(not + "2") })
	commit(func(b *store.Batch) { b.RequireAbsent(not); b.Put(there, []byte("v")) })
	r, err := s.Get(t.Context(), there)
	if err != nil {
		t.Fatal(err)
	}
	commit(func(b *store.Batch) { b.RequireRevision(there, r.Revision); b.Put(not, nil); b.Put(not+"2", nil) })
	commit(func(b *store.Batch) { b.Delete(not); b.Delete(not + "2") })
	commit(func(b *store.Batch) { b.RequireRevision(there, r.Revision); b.Put(there, []byte("w")) })
}
