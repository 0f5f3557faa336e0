// Package tally makes limits of calls hold across servers that share a store,
// without a call of the store for a call of a client.
//
// Each server lets through what its own buckets allow, at once. Every 250 ms it tells
// the others in one row what it let through (see row.go), reads their rows by one
// scan, and takes what they let through out of its own buckets. So of one key, in any
// time T, n servers together let through no more than
//
//	PerSecond * T + Burst                             what one server does
//	+ (n-1) * (Burst + PerSecond * D + Burst/32)      what the others did and had not told
//
// where D is 500 ms and the time of one commit and one scan; more only where those two
// take longer than 250 ms, or where a server has more than maxCounts to tell in 2 s. The bursts of the others count once after each rest of the
// key, for only then their buckets are full. A server that starts has full buckets,
// and one that ends may leave untold what it let through in its last 250 ms.
//
// Where the store fails, each server goes on with its own buckets, as if it were alone;
// what is older than 2 s by the time the store answers again is not told any more.
//
// It owns the rows tally:*, which hold numbers, and names that say nothing without a
// key: see Config.Key. It trusts who can write the store. A row whose server is gone is
// removed by any other after 10 s; nothing else has to survive a crash.
package tally

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/throttle"
)

const (
	every     = 250 * time.Millisecond
	kept      = 8                // ticks that a row holds: who reads every other one misses none
	stale     = 10 * time.Second // a row that did not change for so long is nobody's
	maxCounts = 4096             // in a row; what does not fit is told later
	maxRows   = 1000             // that are read
	stepTime  = 2 * time.Second  // for the calls of the store in one tick
	small     = 32               // less than this part of a Burst is not worth telling
)

// Config is what a Service stands on.
type Config struct {
	Store store.Store
	// Key returns 32 bytes that all servers over the store have and whoever steals the
	// store has not. It is asked until it answers; until then the server is alone.
	Key func(context.Context) ([]byte, error)
	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // nil: nothing is logged
}

// Service tells and hears. Its Limiters may be used by many goroutines.
type Service struct {
	cfg      Config
	self     string // this server's name
	key      atomic.Pointer[[32]byte]
	limiters []*Limiter

	// These are Run's.
	keyed  bool   // key is everybody's
	n      uint64 // of ticks so far
	ticks  []tick // told, or to be told; the latest kept at most
	untold bool   // the row is not what ticks say
	others map[string]*other
	failed bool // the last tick did
}

// other is what is known of another server.
type other struct {
	revision store.Revision
	since    time.Time // when it was first seen
	heard    uint64    // the last tick that was taken
}

// New returns a Service, which is alone until Run.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var self [8]byte
	rand.Read(self[:]) // never fails: see crypto/rand
	s := &Service{cfg: cfg, self: hex.EncodeToString(self[:])}
	var own [32]byte
	rand.Read(own[:])
	s.key.Store(&own)
	return s
}

// Limiter holds each key to one Rate, together with those of the same kind of other
// servers.
type Limiter struct {
	kind  byte
	s     *Service
	rate  throttle.Rate
	of    *throttle.Limiter[name]
	least int // calls that are worth telling

	mu     sync.Mutex // guards the rest
	counts map[name]int
	busy   []name // those of at least least
}

// Limiter returns one. The Rate is a limit, and all are made before Run.
func (s *Service) Limiter(kind byte, r throttle.Rate) *Limiter {
	l := &Limiter{kind: kind, s: s, rate: r, of: throttle.NewLimiter[name](r, 0, s.cfg.Now), least: max(1, r.AtOnce()/small), counts: map[name]int{}}
	s.limiters = append(s.limiters, l)
	return l
}

// Allow is throttle.Limiter's, for what has this hash.
func (l *Limiter) Allow(hash [32]byte) (retryAfter time.Duration, ok bool) {
	n := l.s.name(hash)
	if retryAfter, ok = l.of.Allow(n); ok {
		l.count(n)
	}
	return retryAfter, ok
}

// name is the first 8 bytes of the SHA-256 of the key and a hash.
func (s *Service) name(hash [32]byte) name {
	var b [64]byte
	copy(b[:], s.key.Load()[:])
	copy(b[32:], hash[:])
	sum := sha256.Sum256(b[:])
	return name(sum[:8])
}

func (l *Limiter) count(n name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts[n] + 1
	if c == 1 && len(l.counts) >= throttle.DefaultKeys {
		l.forget()
	}
	if l.counts[n] = c; c == l.least {
		l.busy = append(l.busy, n)
	}
}

// forget drops the counts that are not worth telling. l.mu is held.
func (l *Limiter) forget() {
	kept := make(map[name]int, len(l.busy))
	for _, n := range l.busy {
		kept[n] = l.counts[n]
	}
	l.counts = kept
}

// take appends what is worth telling to counts, no more than maxCounts in all, and
// forgets it.
func (l *Limiter) take(counts []count, most int) []count {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.busy) > 0 && len(counts) < most {
		n := l.busy[0]
		l.busy = l.busy[1:]
		counts = append(counts, count{l.kind, n, uint64(l.counts[n])})
		delete(l.counts, n)
	}
	return counts
}

// hear takes what another server let through. It believes no more than a server can let
// through while a row is kept, twice over.
func (l *Limiter) hear(c count) {
	most := uint64(l.rate.AtOnce()) + uint64(l.rate.PerSecond*(2*kept*every).Seconds())
	l.of.Take(c.name, int(min(c.calls, most)))
}

// Run tells and hears until ctx is done.
func (s *Service) Run(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		s.step(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// step is one tick.
func (s *Service) step(ctx context.Context) {
	bound, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	err := s.findKey(bound)
	if err == nil {
		err = s.tell(bound)
	}
	if err == nil {
		err = s.listen(bound)
	}
	switch failed := err != nil; {
	case ctx.Err() != nil || failed == s.failed:
	case failed:
		s.cfg.Log.WarnContext(ctx, "limits of calls do not count what other servers let through, until the store and the keys answer", "error", err)
		s.failed = true
	default:
		s.cfg.Log.InfoContext(ctx, "limits of calls count what other servers let through")
		s.failed = false
	}
}

// findKey finds the key that all servers have. Buckets and counts before it are under
// other names, and forgotten.
func (s *Service) findKey(ctx context.Context) error {
	if s.keyed {
		return nil
	}
	key, err := s.cfg.Key(ctx)
	if err != nil {
		return err
	}
	s.key.Store((*[32]byte)(key))
	s.keyed = true
	for _, l := range s.limiters {
		l.mu.Lock()
		l.counts, l.busy = map[name]int{}, nil
		l.mu.Unlock()
	}
	return nil
}

// tell writes this server's row if there is something new.
func (s *Service) tell(ctx context.Context) error {
	s.n++
	room := maxCounts
	for len(s.ticks) > 0 && s.ticks[0].n+kept <= s.n {
		s.ticks = s.ticks[1:]
	}
	for _, t := range s.ticks {
		room -= len(t.counts)
	}
	var counts []count
	for _, l := range s.limiters {
		counts = l.take(counts, room)
	}
	if len(counts) > 0 {
		s.ticks, s.untold = append(s.ticks, tick{s.n, counts}), true
	}
	if !s.untold {
		return nil
	}
	var b store.Batch
	b.Put(layout.Tally(s.self), appendRow(nil, s.ticks))
	_, err := s.cfg.Store.Commit(ctx, &b)
	s.untold = err != nil
	return err
}

// listen takes what is new in the rows of the others. What is there at the first time
// may be of any age, and is not new.
func (s *Service) listen(ctx context.Context) error {
	recs, err := s.cfg.Store.Scan(ctx, store.Prefix(layout.Tally("")), store.ScanOptions{Limit: maxRows})
	if err != nil {
		return err
	}
	first, others := s.others == nil, map[string]*other{}
	for _, rec := range recs {
		if rec.Key == layout.Tally(s.self) {
			continue
		}
		o := s.others[rec.Key]
		if o == nil {
			o = new(other)
		}
		others[rec.Key] = o
		switch now := s.cfg.Now(); {
		case o.revision != rec.Revision:
			o.revision, o.since = rec.Revision, now
			s.hear(o, rec.Value, first)
		case now.Sub(o.since) > stale:
			s.remove(ctx, rec)
		}
	}
	s.others = others
	return nil
}

// hear takes the ticks of a row that were not taken before, or only notes them. A row
// that is none says nothing.
func (s *Service) hear(o *other, row []byte, noteOnly bool) {
	ticks, _ := parseRow(row)
	for _, t := range ticks {
		if t.n <= o.heard {
			continue
		}
		o.heard = t.n
		for _, c := range t.counts {
			for _, l := range s.limiters {
				if l.kind == c.kind && !noteOnly {
					l.hear(c)
				}
			}
		}
	}
}

// remove removes a row that is nobody's. What it leaves is removed the next time.
func (s *Service) remove(ctx context.Context, rec store.Record) {
	var b store.Batch
	b.RequireRevision(rec.Key, rec.Revision)
	b.Delete(rec.Key)
	_, _ = s.cfg.Store.Commit(ctx, &b)
}
