package main

import (
	"os"
	"testing"

	"github.com/keyfold/keyfold/keyfoldtest"
)

// BenchmarkServer runs every operation against a server in this process, for
// its profile and its allocations; those of the generator, some ten of each
// hundred microseconds and five allocations, are in them too:
//
//	go test ./bench/load -run '^$' -bench Server/message-post -benchmem -cpuprofile cpu.out
func BenchmarkServer(b *testing.B) {
	for op, setUp := range ops {
		b.Run(op, func(b *testing.B) {
			s := keyfoldtest.Start(b, keyfoldtest.OnDisk(b.TempDir()))
			sh := shape{connections: 32, size: 1024, secrets: 2000, threads: 16, messages: 200, page: 50}
			w, err := setUp(target{s.URL, s.APIKey}, sh)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			if err := fill(s.URL, w, sh.connections, b.N/sh.connections+1); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func TestEveryOperationWorksAgainstAServer(t *testing.T) {
	s := keyfoldtest.Start(t)
	for op, setUp := range ops {
		for _, sealed := range []bool{false, true} {
			sh := shape{connections: 2, size: 100, secrets: 4, paths: 3, threads: 2, messages: 20, page: 5, sealed: sealed}
			w, err := setUp(target{s.URL, s.APIKey}, sh)
			if err != nil {
				t.Errorf("%s, setting up: %v", op, err)
				continue
			}
			if err := fill(s.URL, w, sh.connections, 10); err != nil {
				t.Errorf("%s: %v", op, err)
			}
		}
	}
}

// BenchmarkRotation rotates the key of a vault of 20,000 versions in a server in
// this process, its key process inside or, with KEYFOLD_TEST_KMS=socket, behind a
// socket in this process.
func BenchmarkRotation(b *testing.B) {
	s := keyfoldtest.Start(b, keyfoldtest.OnDisk(b.TempDir()))
	v, err := fillSealed(options{target: target{s.URL, s.APIKey}, shape: shape{connections: 32, size: 1024, secrets: 20_000}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.rotate(func() {}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(v.versions()*b.N)/b.Elapsed().Seconds(), "versions/s")
}

func TestARotationIsMeasuredUntilItsJobIsCompleted(t *testing.T) {
	s := keyfoldtest.Start(t)
	o := options{target: target{s.URL, s.APIKey}, shape: shape{connections: 2, size: 100, secrets: 250}}
	o.pid = os.Getpid()
	v, err := fillSealed(o)
	if err != nil {
		t.Fatal(err)
	}
	out := rotation{Versions: v.versions()}
	for range 2 { // the second from the key that the first brought
		if err := v.measure(&out); err != nil {
			t.Fatal(err)
		}
	}
	if out.PerSecond <= 0 || v.versions() != 250 {
		t.Errorf("%+v", out)
	}
}
