package throttle

import (
	"sync"
	"time"
)

// BackoffConfig says how fast a Backoff slows down. Each zero field has its
// default.
type BackoffConfig struct {
	Free  int           // attempts that may fail without a wait; 5
	First time.Duration // the wait after the next one, which doubles from then on; 1 s
	Max   time.Duration // and is never longer than this; 5 min
	Decay time.Duration // after which one failure is forgotten, then another; 2 * Max
	Keys  int           // remembered at most; DefaultKeys
	Now   func() time.Time
}

// Backoff slows down attempts to sign in: per account, or per address. It may
// be used by many goroutines.
//
//	if wait := b.Wait(account); wait > 0 {
//		// refuse, and do not look at the password
//	}
//	// look at the password; if it is right:
//	b.Succeeded(account)
//
// There is no call for a failure. Wait counts each attempt as one before it is
// decided, so that a thousand at the same moment gain nothing.
type Backoff struct {
	cfg  BackoffConfig
	most int // failures that count

	mu   sync.Mutex // guards keys
	keys recent[string, failures]
}

// failures is what is remembered of a key.
type failures struct {
	n     int
	since time.Time // when the time began after which one is forgotten
	until time.Time // no attempt before
}

// NewBackoff returns a Backoff.
func NewBackoff(cfg BackoffConfig) *Backoff {
	if cfg.Free == 0 {
		cfg.Free = 5
	}
	if cfg.First == 0 {
		cfg.First = time.Second
	}
	if cfg.Max == 0 {
		cfg.Max = 5 * time.Minute
	}
	if cfg.Decay == 0 {
		cfg.Decay = 2 * cfg.Max
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	b := &Backoff{cfg: cfg, most: cfg.Free + 1, keys: newRecent[string, failures](cfg.Keys)}
	for b.wait(b.most) < cfg.Max {
		b.most++
	}
	return b
}

// Wait returns 0 when there may be an attempt for key now, and counts it as one
// that failed until Succeeded or Undo says otherwise. It returns how long to
// wait when there may not; then nothing is counted, so that asking again and
// again makes the wait no longer. A key is what the caller bounds the length
// of: an address, or an email that has the form of one.
func (b *Backoff) Wait(key string) time.Duration {
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	f, _ := b.keys.get(key)
	if left := f.until.Sub(now); 0 < left && left <= b.cfg.Max { // more: the clock went back
		return left
	}
	f = b.decay(f, now)
	f.n = min(f.n+1, b.most)
	f.until = time.Time{} // and not now, which is later than the now of one who came to the lock after this
	if w := b.wait(f.n); w > 0 {
		f.until = now.Add(w)
	}
	b.keys.put(key, f)
	return 0
}

// Succeeded forgets all failures of key: whoever knows the password is let in
// at once the next time, too. It is for accounts: of an address that has signed
// in to one account, Undo forgets that attempt alone, or it could clear itself
// with an account of its own while it guesses at others.
func (b *Backoff) Succeeded(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys.delete(key)
}

// Undo takes back the latest attempt, which was not a failure: it succeeded, or
// could not be decided.
func (b *Backoff) Undo(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f, ok := b.keys.get(key); ok {
		f.n, f.until = max(0, f.n-1), time.Time{} // it was let in, so the wait before it was over
		b.keys.put(key, f)
	}
}

// wait is how long after the latest of n failures the next attempt may come.
func (b *Backoff) wait(n int) time.Duration {
	if n <= b.cfg.Free {
		return 0
	}
	w := b.cfg.First
	for range n - b.cfg.Free - 1 {
		if w >= b.cfg.Max {
			break
		}
		w *= 2
	}
	return min(w, b.cfg.Max)
}

// decay forgets one failure for each time that has passed.
func (b *Backoff) decay(f failures, now time.Time) failures {
	passed := now.Sub(f.since) / b.cfg.Decay
	if f.n == 0 || passed >= time.Duration(f.n) {
		return failures{since: now}
	}
	passed = max(0, passed)
	f.n -= int(passed)
	f.since = f.since.Add(passed * b.cfg.Decay)
	return f
}
