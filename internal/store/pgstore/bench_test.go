package pgstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

const benchCallers = 32

// benchURL is of a database over its Unix socket.
func benchURL(b *testing.B) string {
	s := pgtest.Shared(b)
	return s.SocketAddress(s.NewDatabase(b)) + "&pool_max_conns=32"
}

// callers runs call b.N times from benchCallers goroutines.
func callers(b *testing.B, call func(n int64) error) {
	var n atomic.Int64
	var group sync.WaitGroup
	b.ReportAllocs()
	server, client := pgtest.Shared(b).CPU(), ownCPU(b)
	b.ResetTimer()
	for range benchCallers {
		group.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				if err := call(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(pgtest.Shared(b).CPU()-server)/float64(b.N)/1e3, "db-µs/op")
	b.ReportMetric(float64(ownCPU(b)-client)/float64(b.N)/1e3, "cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

// ownCPU is the CPU time of this process, which says more than the clock when
// other work shares the machine.
func ownCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchValue() []byte {
	v := make([]byte, 1<<10)
	for i := range v {
		v[i] = byte(rand.Uint32())
	}
	return v
}

// BenchmarkBareInsert is what pgx and the database give at best: one row of 1 KiB
// in a commit, of a statement that is prepared.
func BenchmarkBareInsert(b *testing.B) {
	url := benchURL(b)
	open(b, url).Close() // for the table
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	value := benchValue()
	callers(b, func(n int64) error {
		_, err := pool.Exec(context.Background(), stCreate.sql, fmt.Appendf(nil, "k%d", n), value, n)
		return err
	})
}

// BenchmarkCommit is of one row of 1 KiB: put blindly, created, and created while
// another record is required, as the posting of a message does.
func BenchmarkCommit(b *testing.B) {
	value := benchValue()
	for _, c := range []struct {
		name string
		fill func(batch *store.Batch, key, held string, rev store.Revision)
	}{
		{"put", func(batch *store.Batch, key, _ string, _ store.Revision) { batch.Put(key, value) }},
		{"create", func(batch *store.Batch, key, _ string, _ store.Revision) {
			batch.Put(key, value)
			batch.RequireAbsent(key)
		}},
		{"post", func(batch *store.Batch, key, held string, rev store.Revision) {
			batch.Put(key, value)
			batch.RequireRevision(held, rev)
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := open(b, benchURL(b))
			defer s.Close()
			var metas store.Batch
			for i := range 64 {
				metas.Put(fmt.Sprint("meta", i), value[:300])
			}
			rev, err := s.Commit(context.Background(), &metas)
			if err != nil {
				b.Fatal(err)
			}
			callers(b, func(n int64) error {
				var batch store.Batch
				c.fill(&batch, fmt.Sprint("msg", n), fmt.Sprint("meta", n%64), rev)
				_, err := s.Commit(context.Background(), &batch)
				return err
			})
		})
	}
}

// BenchmarkGet reads one record of 1 KiB of 2,000.
func BenchmarkGet(b *testing.B) {
	s := open(b, benchURL(b))
	defer s.Close()
	var batch store.Batch
	value := benchValue()
	for i := range 2000 {
		batch.Put(fmt.Sprint("k", i), value)
	}
	if _, err := s.Commit(context.Background(), &batch); err != nil {
		b.Fatal(err)
	}
	callers(b, func(n int64) error {
		_, err := s.Get(context.Background(), fmt.Sprint("k", n%2000))
		return err
	})
}
