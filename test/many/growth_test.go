package many

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkGrowth measures what a call costs each part, with 1, 2 and 3 servers over
// one database and 32 connections. On one machine more servers are not faster: all of
// them, the database and the callers share its processors. What tells is the processor
// time of a call in each part, from which docs/growth.md goes on.
//
//	go test -run '^$' -bench Growth -benchtime 20000x ./test/many
func BenchmarkGrowth(b *testing.B) {
	for _, servers := range []int{1, 2, 3} {
		b.Run(fmt.Sprint("servers=", servers), func(b *testing.B) {
			s := newSite(b, plan{servers: servers, keys: 1})
			c := s.caller(new(waits))
			l := s.load(c, 16, 0)
			s.each(1_000, func(i int) {
				if a := c.call(b.Context(), "PUT", fmt.Sprintf("%s/secrets/g%d", l.vault, i), `{"value":"`+kilobyte+`"}`); !a.ok() {
					b.Errorf("a put = %d %s", a.status, a.text)
				}
			})
			post := `{"body":"` + kilobyte + `"}`
			s.measure(b, "message-post", func(c *caller, i int) answer {
				return c.call(b.Context(), "POST", l.threads[i%len(l.threads)], post)
			})
			s.measure(b, "message-page", func(c *caller, i int) answer {
				return c.call(b.Context(), "GET", l.threads[i%len(l.threads)]+"?limit=50", "")
			})
			s.measure(b, "secret-put", func(c *caller, i int) answer {
				return c.call(b.Context(), "PUT", fmt.Sprintf("%s/secrets/p%d", l.vault, i), `{"value":"`+kilobyte+`"}`)
			})
			s.measure(b, "secret-get", func(c *caller, i int) answer {
				return c.call(b.Context(), "GET", fmt.Sprintf("%s/secrets/g%d", l.vault, i%1_000), "")
			})
		})
	}
}

var kilobyte = strings.Repeat("k", 1024)

// connections is how many calls are under way at once.
const connections = 32

// measure makes b.N calls, spread over the servers, and reports the processor time of
// each part in a call.
func (s *site) measure(b *testing.B, name string, do func(c *caller, i int) answer) {
	b.Run(name, func(b *testing.B) {
		base := s.caller(new(waits))
		for i := range 200 { // the first calls of a server cost more
			do(base, i)
		}
		before, began := s.cpu(b), time.Now()
		b.ResetTimer()
		var next atomic.Int64
		var wg sync.WaitGroup
		for w := range connections {
			wg.Go(func() {
				mine := *base
				mine.urls = []string{base.urls[w%len(base.urls)]}
				for {
					i := int(next.Add(1)) - 1
					if i >= b.N {
						return
					}
					if a := do(&mine, i); !a.ok() {
						b.Errorf("%d %s", a.status, a.text)
						return
					}
				}
			})
		}
		wg.Wait()
		b.StopTimer()
		after, took := s.cpu(b), time.Since(began)
		for part := range after {
			b.ReportMetric(float64((after[part]-before[part]).Microseconds())/float64(b.N), part+"-µs/op")
		}
		b.ReportMetric(float64(b.N)/took.Seconds(), "calls/s")
	})
}

// cpu is the processor time of each part so far.
func (s *site) cpu(b *testing.B) map[string]time.Duration {
	b.Helper()
	all := map[string]time.Duration{"db": s.primary.CPU(), "client": processorTime(b, os.Getpid())}
	for _, srv := range s.servers {
		all["server"] += processorTime(b, srv.cmd.Process.Pid)
	}
	for _, k := range s.keys {
		all["kms"] += processorTime(b, k.cmd.Process.Pid)
	}
	return all
}

// processorTime is what /proc says that a process has used, which it counts in
// hundredths of a second. "ip netns exec" becomes the program that it starts.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
