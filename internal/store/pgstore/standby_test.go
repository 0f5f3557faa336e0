package pgstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// readCall is a call that reads, and what it found: the value of a record, or nothing.
type readCall struct {
	name string
	call func(ctx context.Context, s *Store) (found string, err error)
}

// readCalls are all of a store, of the record "there" and of one that is not.
func readCalls() []readCall {
	out := []readCall{{"a check", func(ctx context.Context, s *Store) (string, error) {
		_, err := s.Commit(ctx, &store.Batch{Preconditions: []store.Precondition{{Key: "none"}}})
		return "", err
	}}, {"Snapshot", func(ctx context.Context, s *Store) (string, error) {
		n, err := s.Snapshot(ctx)
		if err == nil {
			err = n.Close()
		}
		return "", err
	}}}
	for _, key := range []string{"there", "none"} {
		out = append(out, readCall{"Get of " + key, func(ctx context.Context, s *Store) (string, error) {
			r, err := s.Get(ctx, key)
			if errors.Is(err, store.ErrNotFound) {
				err = nil
			}
			return string(r.Value), err
		}})
		for _, opt := range []store.ScanOptions{{}, {Reverse: true}, {MaxBytes: 100}, {Reverse: true, MaxBytes: 100}} {
			of := fmt.Sprintf(" of %s, %+v", key, opt)
			keys := store.Range{Start: key, End: key + "\x00"}
			out = append(out, readCall{"Scan" + of, func(ctx context.Context, s *Store) (string, error) {
				return only(s.Scan(ctx, keys, opt))
			}}, readCall{"Scan of a snapshot" + of, func(ctx context.Context, s *Store) (string, error) {
				n, err := s.Snapshot(ctx)
				if err != nil {
					return "", err
				}
				found, err := only(n.Scan(ctx, keys, opt))
				return found, errors.Join(err, n.Close())
			}})
		}
	}
	return out
}

func only(recs []store.Record, err error) (string, error) {
	if len(recs) == 0 {
		return "", err
	}
	return string(recs[0].Value), err
}

// saysStandby reports whether err is what a server that takes no writes should lead to.
func saysStandby(err error) bool {
	return errors.Is(err, fault.Unavailable) && strings.Contains(err.Error(), "it is a standby")
}

func TestAStatementThatAStandbyRefusesIsOneForElsewhere(t *testing.T) {
	for _, code := range []string{"25006", "22P02"} {
		err := &pgconn.PgError{Code: code, SeverityUnlocalized: "ERROR"}
		if k := kindOf(err); k != elsewhere || !saysStandby(named(t.Context(), "reading", k, err)) {
			t.Errorf("%s is of kind %d: %v", code, k, named(t.Context(), "reading", k, err))
		}
	}
}

// The connections to PgBouncer were checked when it led to the primary, and live on.
func TestNoReadThroughPgBouncerIsAnsweredByAStandby(t *testing.T) {
	t.Parallel()
	ctx, primary := t.Context(), pgtest.New(t)
	standby := primary.Standby(t)
	through, lead := primary.MovableBouncer(t)
	url := through(primary.Address("postgres")) + "&pool_max_conns=1"
	writer := open(t, primary.Address("postgres"))
	defer writer.Close()
	put(t, writer, "there", "old")
	all, stores := readCalls(), []*Store{}
	for _, r := range all {
		s := openWith(t, url, brief)
		defer s.Close()
		if found, err := r.call(ctx, s); err != nil || found != "" && found != "old" {
			t.Fatalf("%s = %q, %v", r.name, found, err)
		}
		stores = append(stores, s)
	}
	const value = "SELECT convert_from(value, 'UTF8') FROM keyfold_records WHERE key = 'there'"
	standby.Wait(t, value, "old")
	standby.Exec(t, "postgres", "SELECT pg_wal_replay_pause()") // it has all on its disk, and shows what is old
	put(t, writer, "there", "revoked")
	lead(standby)
	if got := standby.Exec(t, "postgres", value); got != "old" {
		t.Fatalf("the standby does not lag: %q", got)
	}
	var working sync.WaitGroup
	for i, r := range all {
		working.Go(func() {
			if found, err := r.call(ctx, stores[i]); !saysStandby(err) {
				t.Errorf("%s = %q, %v; a standby answered", r.name, found, err)
			}
		})
	}
	working.Wait()
	lead(primary)
	for i, r := range all {
		if found, err := r.call(ctx, stores[i]); err != nil || found != "" && found != "revoked" {
			t.Errorf("%s = %q, %v, after PgBouncer leads to the primary again", r.name, found, err)
		}
	}
}

// A connection has plans that were made while its server took writes.
func TestNoReadIsAnsweredByAServerThatTakesWritesNoMore(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), pgtest.New(t)
	all, stores := readCalls(), []*Store{}
	for _, r := range all {
		s := openWith(t, server.Address("postgres")+"&pool_max_conns=1", brief)
		defer s.Close()
		put(t, s, "there", "v")
		if _, err := r.call(ctx, s); err != nil {
			t.Fatalf("%s = %v", r.name, err)
		}
		stores = append(stores, s)
	}
	server.Exec(t, "postgres", "ALTER SYSTEM SET default_transaction_read_only = on")
	server.Exec(t, "postgres", "SELECT pg_reload_conf()")
	server.Wait(t, "SELECT current_setting('default_transaction_read_only')", "on")
	var working sync.WaitGroup
	for i, r := range all {
		working.Go(func() {
			for end := time.Now().Add(20 * time.Second); ; { // a process of the database reads the setting when it is next asked
				found, err := r.call(ctx, stores[i])
				if saysStandby(err) {
					return
				}
				if err != nil || time.Now().After(end) {
					t.Errorf("%s = %q, %v; the server takes no writes", r.name, found, err)
					return
				}
			}
		})
	}
	working.Wait()
}

var oneTime = regexp.MustCompile(`(?m)^.*Result .*\(actual .* loops=1\)\n *One-Time Filter: .*transaction_read_only.*$`)

// It is asked before the first row, and not again for each, by plans for some values and
// for any.
func TestAReadAsksOnceWhetherItsServerTakesWrites(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	s, ctx := open(t, url), t.Context()
	defer s.Close()
	for i := range 100 {
		put(t, s, fmt.Sprint("k", i), "v")
	}
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	conn := c.Conn().PgConn()
	prepare(ctx, conn)
	values := map[uint32]string{oidBytea: `'k'`, oidInt8: `50`, oidByteaArray: `'{k1,k2,k3}'`}
	reads := 0
	for _, st := range prepared {
		if !strings.HasPrefix(st.sql, "SELECT key") {
			continue
		}
		reads++
		var args []string
		for i, oid := range st.types {
			args = append(args, values[oid])
			if oid == oidBytea && i == 1 {
				args[i] = `'l'`
			}
		}
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			results, err := conn.Exec(ctx, fmt.Sprintf("SET plan_cache_mode = %s; EXPLAIN (ANALYZE, TIMING off) EXECUTE %s(%s)", mode, st.name, strings.Join(args, ", "))).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			var plan strings.Builder
			for _, row := range results[len(results)-1].Rows {
				fmt.Fprintf(&plan, "%s\n", row[0])
			}
			if !oneTime.MatchString(plan.String()) || strings.Count(plan.String(), "transaction_read_only") != 1 {
				t.Errorf("%s, %s:\n%s", st.name, mode, &plan)
			}
		}
	}
	if reads != 6 {
		t.Errorf("%d statements read", reads)
	}
}
