package kms

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/audit"
)

// use is a way to use a key.
type use int

const (
	useSeal use = iota
	useOpen
	useEncrypt
	useDecrypt
	useWrap
	useCount
)

var useNames = [useCount]string{"seal", "open", "encrypt", "decrypt", "wrap"}

// uses counts the uses of a key in the cache, failed ones included. They are
// collected once in an interval, and when the key leaves the cache.
type uses [useCount]atomic.Int64

// taken is uses, collected.
type taken [useCount]int64

func (u *uses) take() (t taken, any bool) {
	for i := range u {
		t[i] = u[i].Swap(0)
		any = any || t[i] != 0
	}
	return t, any
}

func (t taken) plus(o taken) taken {
	for i := range t {
		t[i] += o[i]
	}
	return t
}

// detail is what a record says of t: {"encrypt":12}.
func (t taken) detail() map[string]int64 {
	d := map[string]int64{}
	for i, n := range t {
		if n != 0 {
			d[useNames[i]] = n
		}
	}
	return d
}

const (
	maxTally   = 20_000 // keys; what is used beyond them is counted under otherKeys
	otherKeys  = "*"
	usesPerRow = 50 // keys in one record: 50 names of 128 bytes and their counts stay below its limit
	rowsAtOnce = 100
)

// tally is what was collected since the last record: by store key, "kek:v1".
type tally struct {
	mu     sync.Mutex // guards all below
	since  time.Time
	counts map[string]taken
	half   chan struct{} // gets a token once there is so much that it should be recorded, before the next interval
}

func newTally(now time.Time) *tally {
	return &tally{since: now, counts: map[string]taken{}, half: make(chan struct{}, 1)}
}

func (t *tally) add(key string, n taken) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.counts[key]; !ok && len(t.counts) >= maxTally {
		key = otherKeys
	}
	before := len(t.counts)
	t.counts[key] = t.counts[key].plus(n)
	if before < maxTally/2 && len(t.counts) >= maxTally/2 {
		select {
		case t.half <- struct{}{}:
		default:
		}
	}
}

// drain returns what was collected, and from when on, and begins anew.
func (t *tally) drain(now time.Time) (map[string]taken, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts, since := t.counts, t.since
	t.counts, t.since = map[string]taken{}, now
	return counts, since
}

// giveBack puts back what could not be recorded. It is tried again at the next
// interval, however much it is: not at once.
func (t *tally) giveBack(counts map[string]taken, since time.Time) {
	for key, n := range counts {
		t.add(key, n)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since = since
	select {
	case <-t.half:
	default:
	}
}

// recordUses collects and records at every interval, until Close.
func (s *Service) recordUses(interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.deks.each(s.collectDEK)
			s.keks.each(s.collectKEK)
		case <-s.tally.half:
		}
		s.flushUses()
	}
}

// flushUses records what was collected. What cannot be recorded waits for the
// next time.
func (s *Service) flushUses() {
	s.flushDenials()
	now := s.now()
	counts, since := s.tally.drain(now)
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(counts)), usesPerRow*rowsAtOnce) {
		var events []audit.Event
		for row := range slices.Chunk(keys, usesPerRow) {
			events = append(events, useEvent(row, counts, since, now))
		}
		if err := s.audit.Record(context.Background(), events...); err != nil {
			s.log.Error("the audit does not take the counts of uses; they wait", "error", err)
			s.tally.giveBack(counts, since)
			return
		}
		for _, key := range keys {
			delete(counts, key)
		}
	}
}

func useEvent(keys []string, counts map[string]taken, since, now time.Time) audit.Event {
	of := make(map[string]any, len(keys))
	for _, key := range keys {
		of[key] = counts[key].detail()
	}
	return audit.Event{Time: now, Actor: "process", Action: "key.use", Detail: map[string]any{
		"from": since.UTC().Format(time.RFC3339Nano), "to": now.UTC().Format(time.RFC3339Nano), "uses": of,
	}}
}
