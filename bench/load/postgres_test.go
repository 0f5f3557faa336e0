package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// BenchmarkPostgres measures the release build with its store in PostgreSQL, which
// syncs each commit, over its Unix socket, everything on one machine: rounds of 10 s, each with a database
// and a server of its own. The metrics are those of the median round.
//
// Before and after each round as many connections insert bare rows, each in a commit of its own that is
// synced, which says how fast the machine is at that moment: of-bare is the calls a second beside them, in the
// median round by that.
//
//	go test ./bench/load -run '^$' -bench Postgres -benchtime 1x
func BenchmarkPostgres(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "keyfold")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../../cmd/keyfold")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	db := pgtest.New(b, "shared_buffers = 1GB")
	for _, op := range []string{"message-post", "message-list", "secret-put", "secret-get"} {
		b.Run(op, func(b *testing.B) {
			o := options{shape: shape{connections: 32, size: 1024, secrets: 10_000, threads: 16, messages: 2000, page: 50},
				op: op, rounds: 3, duration: 10 * time.Second, warmup: 2 * time.Second, dbCPU: db.CPU}
			bare := db.SocketAddress(db.NewDatabase(b))
			var ofBare, bares []float64
			r, err := median(o, func(o options) (*result, error) {
				s, err := serve(binary, filepath.Join(b.TempDir(), "data"), "--store", db.SocketAddress(db.NewDatabase(b)))
				if err != nil {
					return nil, err
				}
				return s.measured(o, func(o options) (*result, error) {
					var before float64
					r, err := measureTarget(o, func(t target, s shape) (w workload, err error) {
						if w, err = ops[op](t, s); err == nil {
							before, err = bareInserts(bare, s.connections)
						}
						return w, err
					})
					if err != nil {
						return nil, err
					}
					after, err := bareInserts(bare, o.connections)
					around := (before + after) / 2
					bares, ofBare = append(bares, around), append(ofBare, r.PerSecond/around)
					return r, err
				})
			})
			if err != nil {
				b.Fatal(err)
			}
			if r.Errors > 0 {
				b.Fatal(r.FirstError)
			}
			b.Logf("%.0f/s in the rounds, beside %.0f bare inserts: %.2f", r.Rounds, bares, ofBare)
			slices.Sort(ofBare)
			b.ReportMetric(ofBare[len(ofBare)/2], "of-bare")
			b.ReportMetric(r.PerSecond, "calls/s")
			b.ReportMetric(r.P50/1e3, "p50-ms")
			b.ReportMetric(r.P99/1e3, "p99-ms")
			b.ReportMetric(r.ServerCPU, "server-µs/op")
			b.ReportMetric(r.DatabaseCPU, "db-µs/op")
			b.ReportMetric(r.GeneratorCPU, "generator-µs/op")
		})
	}
}

// bareInserts is how many rows a second so many connections insert, one after another by their keys, each in
// a commit of its own. A value has 1,052 bytes, as one of 1 KiB that is sealed.
func bareInserts(url string, connections int) (float64, error) {
	const duration = 4 * time.Second
	ctx := context.Background()
	conns := make([]*pgx.Conn, connections)
	for i := range conns {
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			return 0, err
		}
		defer c.Close(ctx)
		conns[i] = c
	}
	if _, err := conns[0].Exec(ctx, "CREATE TABLE IF NOT EXISTS bare (key bytea PRIMARY KEY, value bytea NOT NULL)"); err != nil {
		return 0, err
	}
	var rows atomic.Int64
	begin := time.Now()
	all := workers(connections, func(i int, t *tally) {
		value := make([]byte, 1052)
		rand.Read(value)
		for time.Since(begin) < duration && t.first == nil {
			key := fmt.Appendf(nil, "%037d", begin.UnixNano()+rows.Add(1))
			_, t.first = conns[i].Exec(ctx, "INSERT INTO bare (key, value) VALUES ($1, $2)", key, value)
		}
	})
	return float64(rows.Load()) / time.Since(begin).Seconds(), all.first
}
