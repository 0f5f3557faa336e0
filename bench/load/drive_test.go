package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRefusalsAndShortAnswersAreErrorsAndNotThroughput(t *testing.T) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) % 3 {
		case 0:
			w.WriteHeader(http.StatusTooManyRequests)
			io.WriteString(w, "slow down")
		case 1:
			io.WriteString(w, "short")
		default:
			io.WriteString(w, strings.Repeat("x", 100))
		}
	}))
	defer s.Close()
	req := request("GET", "/", "", nil)
	w := workload{least: 100, next: func(int, int) []byte { return req }}
	got, good, total := new(tally), 0, 0
	for length := 100 * time.Millisecond; total < 10 && length < time.Minute; length *= 2 { // a slow machine needs longer
		n.Store(0)
		now := time.Now()
		got = drive(s.URL, w, 2, window{now, now.Add(length)})
		good, total = int(got.latency.total), int(n.Load())
	}
	if got.errors == 0 || good == 0 || got.first == nil || good+got.errors != total || good > total/3+1 {
		t.Errorf("%d good and %d errors (%v) of %d answers", good, got.errors, got.first, total)
	}
}

func TestABrokenConnectionIsAnError(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer s.Close()
	req := request("GET", "/", "", nil)
	now := time.Now()
	got := drive(s.URL, workload{next: func(int, int) []byte { return req }}, 3, window{now, now.Add(time.Minute)})
	if got.errors != 3 || got.latency.total != 0 {
		t.Errorf("%d errors, %d answers", got.errors, got.latency.total)
	}
}

func TestPutsWriteNewPathsOrTheSameOnesInTurn(t *testing.T) {
	for _, c := range []struct{ paths, distinct int }{{0, 25}, {3, 3}} {
		w := puts(target{key: "k"}, shape{connections: 2, paths: c.paths}, "v", "value")
		seen := map[string]bool{}
		for i := range 25 {
			line, _, _ := strings.Cut(string(w.next(1, i)), "\r\n")
			seen[line] = true
		}
		if len(seen) != c.distinct || !seen[fmt.Sprintf("PUT /v1/vaults/v/secrets/c0001/s%010d HTTP/1.1", 2)] {
			t.Errorf("-paths %d: %v", c.paths, seen)
		}
	}
}
