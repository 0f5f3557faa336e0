package main

import (
	"fmt"
	"sync"
	"time"
)

// workload is what the connections of a run do.
type workload struct {
	// next is the i-th request of a connection. The bytes are valid until that
	// connection asks again.
	next func(worker, i int) []byte
	// least is the fewest bytes of a complete answer's body.
	least int
	// check looks closely at an answer. It sees the first of each connection;
	// of all others only status, completeness and least are checked.
	check func(body []byte) error
}

// tally is what one connection, or all together, did in the measured time.
type tally struct {
	latency  histogram
	errors   int
	first    error // the first error
	sent     int64
	received int64
}

func (t *tally) merge(o *tally) {
	t.latency.merge(&o.latency)
	t.errors += o.errors
	if t.first == nil {
		t.first = o.first
	}
	t.sent += o.sent
	t.received += o.received
}

// window is the measured time of a run.
type window struct{ start, end time.Time }

// drive runs w on n connections in a closed loop: each sends its next request
// when the answer to the last one is there. Requests that began before the
// window are not counted. A connection that breaks counts one error and stops.
func drive(url string, w workload, n int, win window) *tally {
	return workers(n, func(worker int, t *tally) {
		if err := loop(url, w, worker, win, t); err != nil {
			t.merge(&tally{errors: 1, first: err})
		}
	})
}

// workers is what n workers, each with a tally of its own, did at once.
func workers(n int, do func(worker int, t *tally)) *tally {
	tallies := make([]tally, n)
	var wg sync.WaitGroup
	for worker := range n {
		wg.Go(func() { do(worker, &tallies[worker]) })
	}
	wg.Wait()
	var all tally
	for i := range tallies {
		all.merge(&tallies[i])
	}
	return &all
}

// patience is how long an answer may take after the window's end.
const patience = 30 * time.Second

func loop(url string, w workload, worker int, win window, t *tally) error {
	c, err := dial(url, win.end.Add(patience))
	if err != nil {
		return err
	}
	defer c.c.Close()
	for i := 0; ; i++ {
		req := w.next(worker, i)
		sent, got := c.sent, c.got
		begin := time.Now()
		if begin.After(win.end) {
			return nil
		}
		status, body, err := c.do(req)
		if err != nil {
			return err
		}
		took := time.Since(begin)
		err = verify(w, i, status, body)
		if begin.Before(win.start) && err == nil {
			continue
		}
		if err != nil {
			t.merge(&tally{errors: 1, first: err})
			continue
		}
		t.latency.add(took)
		t.sent += c.sent - sent
		t.received += c.got - got
	}
}

func verify(w workload, i, status int, body []byte) error {
	switch {
	case status < 200 || status > 299:
		return fmt.Errorf("status %d: %.300s", status, body)
	case len(body) < w.least:
		return fmt.Errorf("an answer of %d bytes, fewer than %d: %.300s", len(body), w.least, body)
	case i == 0 && w.check != nil:
		return w.check(body)
	}
	return nil
}

// fill runs w until each of n connections made per requests, for setting up.
func fill(url string, w workload, n, per int) error {
	errs := make(chan error, n)
	for worker := range n {
		go func() {
			errs <- fillOne(url, w, worker, per)
		}()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func fillOne(url string, w workload, worker, per int) error {
	c, err := dial(url, time.Now().Add(10*time.Minute))
	if err != nil {
		return err
	}
	defer c.c.Close()
	for i := range per {
		status, body, err := c.do(w.next(worker, i))
		if err == nil {
			err = verify(w, i, status, body)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
