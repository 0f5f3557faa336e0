// Package throttle slows down whoever asks too often: Limiter bounds how many
// calls a key may make in a time, Backoff how fast passwords may be guessed.
//
// It owns its counts and nothing else; they are in memory, bounded, and gone
// with the process: after a restart everybody begins anew, and each server
// counts for itself, but for a Backoff over Rows that servers share and for what a
// Limiter is told of others (see package tally). It trusts its caller to choose keys
// that a client cannot make up at will, such as the ID of a principal or the address
// of a socket's other end.
package throttle

import (
	"cmp"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/keyfold/keyfold/internal/recent"
)

// DefaultKeys is how many keys are remembered where nothing else is said.
const DefaultKeys = 1 << 16

// Rate is how often a key may call. The zero Rate is no limit.
type Rate struct {
	PerSecond float64 // calls a second in the long run; 0: no limit
	Burst     int     // calls at once after a rest; 0: PerSecond, or 1 if that is less
}

// AtOnce is how many calls there may be at once after a rest.
func (r Rate) AtOnce() int {
	if r.Burst > 0 {
		return r.Burst
	}
	return max(1, int(r.PerSecond))
}

// Limiter holds each key to one Rate. It may be used by many goroutines.
type Limiter[K comparable] struct {
	rate Rate
	now  func() time.Time

	mu   sync.Mutex // guards keys
	keys recent.Map[K, *rate.Limiter]
}

// NewLimiter returns a Limiter. It remembers no more than so many keys (0:
// DefaultKeys) and at least the latest half of them; a key that is forgotten
// begins anew. now: nil is time.Now. A Rate that is no limit makes a nil
// Limiter, which allows everything.
func NewLimiter[K comparable](r Rate, keys int, now func() time.Time) *Limiter[K] {
	if r.PerSecond <= 0 {
		return nil
	}
	if now == nil {
		now = time.Now
	}
	return &Limiter[K]{rate: r, now: now, keys: recent.NewMap[K, *rate.Limiter](cmp.Or(keys, DefaultKeys))}
}

// Allow counts a call of key. A call that is not ok is not counted; the same
// call is ok when retryAfter, which is more than 0, has passed and no other
// came before it.
func (l *Limiter[K]) Allow(key K) (retryAfter time.Duration, ok bool) {
	if l == nil {
		return 0, true
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.of(key)
	if of.AllowN(now, 1) {
		return 0, true
	}
	wait := (1 - of.TokensAt(now)) / l.rate.PerSecond * float64(time.Second)
	return time.Duration(min(max(1, math.Ceil(wait)), 1<<62)), false
}

// Take counts n calls of key that were let through elsewhere. It leaves key as far
// over its Rate as they went.
func (l *Limiter[K]) Take(key K, n int) {
	if l == nil || n <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now, of := l.now(), l.of(key)
	of.SetBurstAt(now, max(n, l.rate.AtOnce())) // it reserves no more than that at once
	of.ReserveN(now, n)
	of.SetBurstAt(now, l.rate.AtOnce())
}

// of returns what is left of key. l.mu is held.
func (l *Limiter[K]) of(key K) *rate.Limiter {
	of, found := l.keys.Get(key)
	if !found {
		of = rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.AtOnce())
		l.keys.Put(key, of)
	}
	return of
}
