package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// BenchmarkPostgres measures the release build with its store in PostgreSQL, which
// syncs each commit, over its Unix socket, everything on one machine: rounds of 10 s, each with a database
// and a server of its own. The metrics are those of the median round.
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
			r, err := median(o, func(o options) (*result, error) {
				s, err := serve(binary, filepath.Join(b.TempDir(), "data"), "--store", db.SocketAddress(db.NewDatabase(b)))
				if err != nil {
					return nil, err
				}
				return s.measured(o, func(o options) (*result, error) { return measureTarget(o, ops[op]) })
			})
			if err != nil || r.Errors > 0 {
				b.Fatal(err, r.FirstError)
			}
			b.Logf("%.0f/s in the rounds", r.Rounds)
			b.ReportMetric(r.PerSecond, "calls/s")
			b.ReportMetric(r.P50/1e3, "p50-ms")
			b.ReportMetric(r.P99/1e3, "p99-ms")
			b.ReportMetric(r.ServerCPU, "server-µs/op")
			b.ReportMetric(r.DatabaseCPU, "db-µs/op")
			b.ReportMetric(r.GeneratorCPU, "generator-µs/op")
		})
	}
}
