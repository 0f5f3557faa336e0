package throttle

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clock is time in a test's hands.
type clock struct{ t time.Time }

func newClock() *clock                   { return &clock{time.Unix(1_790_000_000, 0)} }
func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func TestAKeyMayCallItsBurstAndThenItsRate(t *testing.T) {
	c := newClock()
	l := NewLimiter[string](Rate{PerSecond: 2, Burst: 3}, 0, c.now)
	for i := range 3 {
		if after, ok := l.Allow("a"); !ok || after != 0 {
			t.Fatalf("call %d: %v %v", i, after, ok)
		}
	}
	after, ok := l.Allow("a")
	if ok || after < 500*time.Millisecond || after > 501*time.Millisecond {
		t.Fatalf("the fourth: %v %v, want half a second", after, ok)
	}
	if _, ok := l.Allow("b"); !ok {
		t.Error("another key pays for the first")
	}
	c.advance(after - 10*time.Millisecond)
	if _, ok := l.Allow("a"); ok {
		t.Error("allowed before retryAfter had passed")
	}
	c.advance(10 * time.Millisecond)
	if _, ok := l.Allow("a"); !ok {
		t.Error("refused when retryAfter had passed")
	}
	c.advance(time.Hour)
	for i := range 4 {
		if _, ok := l.Allow("a"); ok != (i < 3) {
			t.Errorf("after a rest, call %d: %v", i, ok)
		}
	}
}

// What others let through is taken from a key, more than it has, too.
func TestWhatIsTakenIsWaitedFor(t *testing.T) {
	c := newClock()
	l := NewLimiter[string](Rate{PerSecond: 2, Burst: 3}, 0, c.now)
	l.Take("a", 2)
	for i := range 2 {
		if _, ok := l.Allow("a"); ok != (i == 0) {
			t.Errorf("call %d of one that is left: %v", i, ok)
		}
	}
	l.Take("a", 10) // 10 under nothing, and a call has half a second to wait for
	after, ok := l.Allow("a")
	if ok || after < 5500*time.Millisecond || after > 5501*time.Millisecond {
		t.Errorf("%v %v, want 5.5 s", after, ok)
	}
	c.advance(time.Hour)
	for i := range 4 {
		if _, ok := l.Allow("a"); ok != (i < 3) {
			t.Errorf("after a rest, call %d: %v", i, ok)
		}
	}
	(*Limiter[string])(nil).Take("a", 1)
}

// In no stretch of time does a key get more than its burst and its rate, and
// who waits as told is let in.
func TestNoKeyGetsMoreThanItsRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, start := newClock(), newClock().t
		r := Rate{PerSecond: rapid.Float64Range(0.01, 1000).Draw(t, "rate"), Burst: rapid.IntRange(1, 20).Draw(t, "burst")}
		l := NewLimiter[int](r, 0, c.now)
		let := 0
		for range rapid.IntRange(1, 60).Draw(t, "calls") {
			after, ok := l.Allow(1)
			if ok {
				let++
			} else if after <= 0 {
				t.Fatalf("refused, and told to come back after %v", after)
			} else if rapid.Bool().Draw(t, "wait") {
				c.advance(after)
				if again, ok := l.Allow(1); !ok {
					t.Fatalf("waited %v as told, and told to wait %v", after, again)
				}
				let++
			}
			if most := float64(r.Burst) + r.PerSecond*c.t.Sub(start).Seconds() + 0.01; float64(let) > most {
				t.Fatalf("%d calls let in, at most %v", let, most)
			}
			c.advance(time.Duration(rapid.IntRange(0, int(time.Second)).Draw(t, "pause")))
		}
	})
}

func TestNoRateIsNoLimit(t *testing.T) {
	for _, r := range []Rate{{}, {Burst: 3}, {PerSecond: -1}} {
		l := NewLimiter[string](r, 0, nil)
		for range 1000 {
			if _, ok := l.Allow("a"); !ok {
				t.Fatalf("%+v limits", r)
			}
		}
	}
	if l := NewLimiter[string](Rate{PerSecond: 0.1}, 0, nil); !first(l.Allow("a")) || first(l.Allow("a")) {
		t.Error("a rate below one a second without a burst must let in one")
	}
}

func first(_ time.Duration, ok bool) bool { return ok }

func TestMemoryIsBoundedAndTheLatestKeysAreRemembered(t *testing.T) {
	c := newClock()
	l := NewLimiter[string](Rate{PerSecond: 1, Burst: 1}, 100, c.now)
	for i := range 10_000 {
		l.Allow(fmt.Sprint(i))
		if n := l.keys.Len(); n > 100 {
			t.Fatalf("%d keys are held", n)
		}
		if _, ok := l.Allow("busy"); ok != (i == 0) { // which spends its one
			t.Fatalf("a key that is in use was forgotten after %d others", i)
		}
	}
	for i := 9_999; i > 9_950; i-- {
		if _, ok := l.Allow(fmt.Sprint(i)); ok {
			t.Fatalf("key %d of the latest fifty was forgotten", i)
		}
	}
	b := NewBackoff(BackoffConfig{Keys: 100, Now: c.now})
	for i := range 10_000 {
		if b.Wait(fmt.Sprint(i)); b.keys.Len() > 100 {
			t.Fatalf("%d keys are held", b.keys.Len())
		}
	}
}

func TestTheHotPathAllocatesNothing(t *testing.T) {
	l := NewLimiter[netip.Addr](Rate{PerSecond: 1e9, Burst: 1 << 30}, 0, nil)
	refuse := NewLimiter[netip.Addr](Rate{PerSecond: 1e-9, Burst: 1}, 0, nil)
	b := NewBackoff(BackoffConfig{})
	a := netip.MustParseAddr("203.0.113.7")
	if n := testing.AllocsPerRun(100, func() { l.Allow(a); refuse.Allow(a); b.Wait("a") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestManyCallersAtOnceGetTheBurstAndNoMore(t *testing.T) {
	c := newClock()
	l := NewLimiter[int](Rate{PerSecond: 1, Burst: 10}, 0, c.now)
	b := NewBackoff(BackoffConfig{Free: 10, Now: c.now})
	var called, tried atomic.Int64
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if _, ok := l.Allow(1); ok {
				called.Add(1)
			}
			if b.Wait("a") == 0 {
				tried.Add(1)
			}
		})
	}
	all.Wait()
	if called.Load() != 10 || tried.Load() != 11 {
		t.Errorf("%d calls of 10, %d attempts of 11", called.Load(), tried.Load())
	}
}

// Of two attempts at once the earlier may be counted after the later.
func TestAnAttemptThatIsFreeMakesNobodyWait(t *testing.T) {
	c := newClock()
	b := NewBackoff(BackoffConfig{Now: c.now})
	for n := range 5 {
		if w := b.Wait("a"); w != 0 {
			t.Errorf("attempt %d waits %v", n+1, w)
		}
		c.advance(-time.Microsecond)
	}
}

// fail makes n attempts for key as fast as b allows, and returns the waits.
func fail(b *Backoff, c *clock, key string, n int) (waits []time.Duration) {
	for range n {
		w := b.Wait(key)
		waits = append(waits, w)
		if w > 0 {
			c.advance(w)
			if again := b.Wait(key); again > 0 {
				waits = append(waits, -again) // which no test expects
			}
		}
	}
	return waits
}

func TestFailuresAreFreeAtFirstAndThenTheWaitDoublesUpToItsMost(t *testing.T) {
	c := newClock()
	b := NewBackoff(BackoffConfig{Free: 3, First: time.Second, Max: 10 * time.Second, Decay: time.Hour, Now: c.now})
	got := fmt.Sprint(fail(b, c, "a", 10))
	if want := "[0s 0s 0s 0s 1s 2s 4s 8s 10s 10s]"; got != want {
		t.Errorf("waits are %v, want %v", got, want)
	}
	if w := b.Wait("b"); w != 0 {
		t.Errorf("another key waits %v", w)
	}
}

func TestAskingDuringTheWaitMakesItNoLonger(t *testing.T) {
	c := newClock()
	b := NewBackoff(BackoffConfig{Free: 1, Now: c.now})
	fail(b, c, "a", 2)
	for range 100 {
		if w := b.Wait("a"); w != time.Second {
			t.Fatalf("the wait is %v", w)
		}
	}
	c.advance(time.Second)
	if w := b.Wait("a"); w != 0 {
		t.Errorf("the wait is over, and %v", w)
	}
}

func TestSuccessForgetsAndUndoTakesBackOne(t *testing.T) {
	c := newClock()
	b := NewBackoff(BackoffConfig{Free: 3, Now: c.now})
	fail(b, c, "a", 8)
	b.Succeeded("a")
	if got := fmt.Sprint(fail(b, c, "a", 4)); got != "[0s 0s 0s 0s]" {
		t.Errorf("after a success the waits are %v", got)
	}
	for range 50 { // people behind one address who know their passwords
		if w := b.Wait("office"); w != 0 {
			t.Fatalf("wait %v", w)
		}
		b.Undo("office")
	}
	b.Undo("unknown")
	fail(b, c, "office", 5) // waited once
	c.advance(2 * time.Second)
	if b.Wait("office") != 0 {
		t.Fatal("the wait is not over")
	}
	b.Undo("office")
	if got := fmt.Sprint(b.Wait("office"), b.Wait("office")); got != "0s 4s" {
		t.Errorf("a success among failures changed their count: %v", got)
	}
}

func TestFailuresDecayOneByOneEvenWhileOthersSucceed(t *testing.T) {
	c := newClock()
	b := NewBackoff(BackoffConfig{Free: 2, First: time.Second, Max: 8 * time.Second, Decay: time.Minute, Now: c.now})
	fail(b, c, "a", 20) // the most that counts: 6
	for range 8 {
		c.advance(29 * time.Second) // 3 min 52 s in all
		if b.Wait("a") != 0 {
			t.Fatal("told to wait after half a minute")
		}
		b.Undo("a")
	}
	if got := fmt.Sprint(fail(b, c, "a", 3)); got != "[0s 1s 2s]" { // 3, 4, 5
		t.Errorf("waits are %v", got)
	}
	c.advance(time.Hour)
	if got := fmt.Sprint(fail(b, c, "a", 4)); got != "[0s 0s 0s 1s]" {
		t.Errorf("after an hour the waits are %v", got)
	}
}

func TestAClockThatGoesBackLocksNobodyOut(t *testing.T) {
	c := newClock()
	b := NewBackoff(BackoffConfig{Free: 1, Max: time.Minute, Now: c.now})
	fail(b, c, "a", 3)
	c.advance(-24 * time.Hour)
	for _, w := range fail(b, c, "a", 20) {
		if w > time.Minute {
			t.Errorf("the wait is %v", w)
		}
	}
}

func BenchmarkAllow(b *testing.B) {
	l := NewLimiter[netip.Addr](Rate{PerSecond: 1e9, Burst: 1 << 30}, 0, nil)
	a := netip.MustParseAddr("203.0.113.7")
	b.ReportAllocs()
	for b.Loop() {
		l.Allow(a)
	}
}
