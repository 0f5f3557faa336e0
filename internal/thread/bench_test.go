package thread

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/job"
)

// kib is a body of 1 KiB.
var kib = json.RawMessage(`"` + strings.Repeat("k", 1022) + `"`)

// benchSites runs f on the twins in memory and on the real KMS and engine.
func benchSites(b *testing.B, f func(*testing.B, *Service)) {
	b.Run("memory", func(b *testing.B) { f(b, newWorld(b).Service) })
	b.Run("disk", func(b *testing.B) {
		s := openSite(b, b.TempDir())
		defer s.close()
		f(b, s.Service)
	})
}

func benchThread(b *testing.B, s *Service, messages int) string {
	th, err := s.Create(b.Context(), owner, api.CreateThread{Title: "t"})
	for range messages {
		if err == nil {
			_, err = s.Post(b.Context(), owner, th.ID, api.PostMessage{Body: kib})
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	return th.ID
}

// longThread is benchThread with many posts at once, and the ID of a message in its middle.
func longThread(b *testing.B, s *Service, messages int) (thread, middle string) {
	thread = benchThread(b, s, 0)
	var posting sync.WaitGroup
	for w := range 32 {
		posting.Go(func() {
			for i := w; i < messages; i += 32 {
				text, err := s.Post(context.Background(), owner, thread, api.PostMessage{Body: kib})
				var m api.Message
				if err == nil && i == messages/2 {
					err = json.Unmarshal(text, &m)
					middle = m.ID
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	posting.Wait()
	return thread, middle
}

func BenchmarkPost(b *testing.B) {
	benchSites(b, func(b *testing.B, s *Service) {
		thread := benchThread(b, s, 0)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Post(b.Context(), owner, thread, api.PostMessage{Body: kib}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPostByManyAtOnce(b *testing.B) {
	benchSites(b, func(b *testing.B, s *Service) {
		thread := benchThread(b, s, 0)
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := s.Post(context.Background(), owner, thread, api.PostMessage{Body: kib}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func BenchmarkListMessages50(b *testing.B) {
	benchSites(b, func(b *testing.B, s *Service) {
		thread := benchThread(b, s, 200)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.ListMessages(b.Context(), owner, thread, MessageQuery{Limit: 50}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPageOfALongThread reads the same page, 50 messages, of a thread of 1,000 and of one of
// 1,000,000 messages in turn, and reports how many times the first's time the second takes: of the
// newest, and of those before the middle. It fills the disk with 1.3 GB, for minutes, before it begins.
func BenchmarkPageOfALongThread(b *testing.B) {
	dir := b.TempDir()
	s := openSite(b, dir)
	long, longMiddle := longThread(b, s.Service, 1_000_000)
	short, shortMiddle := longThread(b, s.Service, 1000)
	s.close()
	s = openSite(b, dir) // nothing is left in memory, of either
	defer s.close()
	read := func(b *testing.B, thread, before string) time.Duration {
		begin := time.Now()
		if _, err := s.ListMessages(b.Context(), owner, thread, MessageQuery{Limit: 50, Before: before}); err != nil {
			b.Fatal(err)
		}
		return time.Since(begin)
	}
	for name, before := range map[string][2]string{"newest": {}, "middle": {longMiddle, shortMiddle}} {
		b.Run(name, func(b *testing.B) {
			var inLong, inShort time.Duration
			for b.Loop() {
				inLong += read(b, long, before[0])
				inShort += read(b, short, before[1])
			}
			b.ReportMetric(float64(inLong)/float64(inShort), "times")
		})
	}
}

// BenchmarkMove rotates the DEK of a thread of 20,000 messages; one operation is one
// message.
func BenchmarkMove(b *testing.B) {
	s := openSite(b, b.TempDir())
	defer s.close()
	thread, _ := longThread(b, s.Service, 20_000)
	jobs := s.jobs()
	defer jobs.Close()
	b.ReportAllocs()
	b.ResetTimer()
	moved := 0
	for moved < b.N {
		_, j, err := s.RotateDEK(b.Context(), jobs, thread)
		if err != nil {
			b.Fatal(err)
		}
		if j = await(b, jobs, j.ID); j.Status != job.Completed {
			b.Fatalf("it ended as %+v", j)
		}
		moved += j.Processed
	}
	b.ReportMetric(float64(moved)/b.Elapsed().Seconds(), "messages/s")
}

func BenchmarkListThreads50(b *testing.B) {
	w := newWorld(b)
	for range 200 {
		w.thread(b, owner, "a title")
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.List(b.Context(), owner, ListQuery{Limit: 50}); err != nil {
			b.Fatal(err)
		}
	}
}
