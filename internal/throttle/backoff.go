package throttle

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/recent"
)

// BackoffConfig says how fast a Backoff slows down. Each zero field has its
// default.
type BackoffConfig struct {
	Free  int           // attempts that may fail without a wait; 5
	First time.Duration // the wait after the next one, which doubles from then on; 1 s
	Max   time.Duration // and is never longer than this; 5 min
	Decay time.Duration // after which one failure is forgotten, then another; 2 * Max
	Keys  int           // remembered at most; DefaultKeys
	Rows  Rows          // where failures are remembered; nil: in memory, for this process alone
	Now   func() time.Time
}

// Rows remember failures for several processes at once. A row is text of at most 64
// bytes.
type Rows interface {
	// Change puts what change makes of the row of a key in its place, as one step; nil
	// is no row. change may be called several times. An error: nothing may have changed.
	Change(key string, change func(row []byte) []byte) error
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
	keys recent.Map[string, failures]
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
	b := &Backoff{cfg: cfg, most: cfg.Free + 1, keys: recent.NewMap[string, failures](cmp.Or(cfg.Keys, DefaultKeys))}
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
//
// Where the Rows fail there is no attempt: it returns 1 s.
func (b *Backoff) Wait(key string) (left time.Duration) {
	now := b.cfg.Now()
	if rows := b.cfg.Rows; rows != nil {
		var waits time.Duration
		err := rows.Change(key, func(row []byte) []byte {
			var f failures
			f, waits = b.attempt(parseFailures(row), now)
			return f.row()
		})
		if err != nil {
			return time.Second
		}
		return waits
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f, _ := b.keys.Get(key)
	f, left = b.attempt(f, now)
	b.keys.Put(key, f)
	return left
}

// attempt returns f after one more attempt, or as it was and how long to wait.
func (b *Backoff) attempt(f failures, now time.Time) (failures, time.Duration) {
	if left := f.until.Sub(now); 0 < left && left <= b.cfg.Max { // more: the clock went back
		return f, left
	}
	f = b.decay(f, now)
	f.n = min(f.n+1, b.most)
	f.until = time.Time{} // and not now, which is later than the now of one who came to the lock after this
	if w := b.wait(f.n); w > 0 {
		f.until = now.Add(w)
	}
	return f, 0
}

// change puts what change makes of the failures of key in their place. It may call it
// several times.
func (b *Backoff) change(key string, change func(failures) failures) error {
	if b.cfg.Rows != nil {
		return b.cfg.Rows.Change(key, func(row []byte) []byte { return change(parseFailures(row)).row() })
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f, known := b.keys.Get(key)
	switch f = change(f); {
	case f == failures{}:
		b.keys.Delete(key)
	case known:
		b.keys.Put(key, f)
	}
	return nil
}

// row is f as Rows keep it: its number, and the two times in nanoseconds since 1970, 0
// for none: "6 1790000000000000000 1790000001000000000".
func (f failures) row() []byte {
	if f.n == 0 {
		return nil
	}
	until := int64(0)
	if !f.until.IsZero() {
		until = f.until.UnixNano()
	}
	return fmt.Appendf(nil, "%d %d %d", f.n, f.since.UnixNano(), until)
}

// parseFailures reads what row made. What it did not make is no failure.
func parseFailures(row []byte) (f failures) {
	var since, until int64
	if n, err := fmt.Sscanf(string(row), "%d %d %d", &f.n, &since, &until); err != nil || n != 3 || f.n < 1 {
		return failures{}
	}
	f.since = time.Unix(0, since)
	if until != 0 {
		f.until = time.Unix(0, until)
	}
	return f
}

// Over reports whether a row of Rows says nothing any more at a time.
func (b *Backoff) Over(row []byte, now time.Time) bool {
	return b.decay(parseFailures(row), now).n == 0
}

// Succeeded forgets all failures of key: whoever knows the password is let in
// at once the next time, too. It is for accounts: of an address that has signed
// in to one account, Undo forgets that attempt alone, or it could clear itself
// with an account of its own while it guesses at others.
func (b *Backoff) Succeeded(key string) {
	_ = b.change(key, func(failures) failures { return failures{} }) // in vain: he waits as if he had failed
}

// Undo takes back the latest attempt, which was not a failure: it succeeded, or
// could not be decided.
func (b *Backoff) Undo(key string) {
	_ = b.change(key, func(f failures) failures {
		f.n, f.until = max(0, f.n-1), time.Time{} // it was let in, so the wait before it was over
		return f
	})
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
