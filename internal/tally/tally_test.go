package tally

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/throttle"
)

// slow is a store whose calls take a time, and that can fail.
type slow struct {
	store.Store
	commit, scan time.Duration
	down         atomic.Bool
}

var errDown = errors.New("down")

func (s *slow) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	time.Sleep(s.commit)
	if s.down.Load() {
		return 0, errDown
	}
	return s.Store.Commit(ctx, b)
}

func (s *slow) Scan(ctx context.Context, r store.Range, o store.ScanOptions) ([]store.Record, error) {
	time.Sleep(s.scan)
	if s.down.Load() {
		return nil, errDown
	}
	return s.Store.Scan(ctx, r, o)
}

func siteKey(context.Context) ([]byte, error) { return make([]byte, 32), nil }

// server starts one that ends with the test, or when its end is called.
func server(t *testing.T, s store.Store, r throttle.Rate) (l *Limiter, end func()) {
	return run(t, New(Config{Store: s, Key: siteKey}), r)
}

func run(t *testing.T, s *Service, r throttle.Rate) (l *Limiter, end func()) {
	l = s.Limiter('p', r)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	end = func() { stop(); <-ended }
	t.Cleanup(end)
	return l, end
}

func hash(text string) (h [32]byte) {
	copy(h[:], text)
	return h
}

// all is how many calls of one caller are let through at once.
func all(l *Limiter, who string) (n int) {
	for {
		if _, ok := l.Allow(hash(who)); !ok {
			return n
		}
		n++
	}
}

// Whoever calls three servers all the time has, in any time, no more than the package
// says, and in the long run as much as at one.
func TestThreeServersLetThroughHardlyMoreThanOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{Store: memstore.New(), commit: 60 * time.Millisecond, scan: 40 * time.Millisecond}
		r := throttle.Rate{PerSecond: 200, Burst: 400}
		const n, d, seconds = 3, 0.6, 30.
		var servers []*Limiter
		for range n {
			l, _ := server(t, s, r)
			servers = append(servers, l)
			time.Sleep(90 * time.Millisecond) // no two tick together
		}
		start, calls := time.Now(), []float64(nil)
		for time.Since(start).Seconds() < seconds {
			at := time.Since(start).Seconds()
			for _, l := range servers {
				for range all(l, "a") {
					calls = append(calls, at)
				}
			}
			if at > 14 && at < 17 { // a rest
				time.Sleep(3 * time.Second)
			}
			time.Sleep(5 * time.Millisecond)
		}
		burst := float64(r.Burst)
		for i, from := range calls {
			for j := i; j < len(calls); j += 7 {
				if most := r.PerSecond*(calls[j]-from) + burst + (n-1)*(burst+r.PerSecond*d+burst/32); float64(j-i+1) > most {
					t.Fatalf("%d calls from %v s to %v s, want %v", j-i+1, from, calls[j], most)
				}
			}
		}
		late, _ := slices.BinarySearch(calls, 20)
		if got := float64(len(calls) - late); got < 0.8*r.PerSecond*10 || got > 1.2*r.PerSecond*10 {
			t.Errorf("%v calls in the last 10 s, at 200 a second", got)
		}
	})
}

// What one server let through is gone at the others 500 ms and the time of a commit and a
// scan later, at whatever moment between ticks it was.
func TestWhatOneServerLetThroughIsKnownWithinHalfASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{Store: memstore.New(), commit: 30 * time.Millisecond, scan: 20 * time.Millisecond}
		r := throttle.Rate{PerSecond: 0.001, Burst: 320}
		a, _ := server(t, s, r)
		time.Sleep(110 * time.Millisecond)
		b, _ := server(t, s, r)
		for i := range 40 {
			time.Sleep(time.Second + 13*time.Millisecond)
			who := strconv.Itoa(i)
			if n := all(a, who); n != 320 {
				t.Fatalf("%d calls at the first server", n)
			}
			time.Sleep(551 * time.Millisecond)
			if n := all(b, who); n != 0 {
				t.Errorf("%d calls more, 551 ms later", n)
			}
		}
	})
}

// Of calls that are too few to be told none is lost: the caller is let through 320 times
// and, at each of the other servers, less than ten times more.
func TestFewCallsAreToldWhenTheyAreMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memstore.New()
		var servers []*Limiter
		for range 3 {
			l, _ := server(t, mem, throttle.Rate{PerSecond: 0.0001, Burst: 320})
			servers = append(servers, l)
		}
		time.Sleep(time.Second)
		n := 0
		for i := range 1000 {
			if _, ok := servers[i%3].Allow(hash("a")); ok {
				n++
			}
			if i == 20 {
				if recs, _ := mem.Scan(t.Context(), store.Prefix(layout.Tally("")), store.ScanOptions{}); len(recs) != 0 {
					t.Errorf("%d rows of calls that are few", len(recs))
				}
			}
			time.Sleep(700 * time.Millisecond)
		}
		if n < 310 || n > 320+2*9 {
			t.Errorf("%d calls of 320", n)
		}
	})
}

// What is told is taken once, whether the store answered the first time or not.
func TestEachCallIsTakenOnceAlsoAfterAShortFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{Store: memstore.New()}
		r := throttle.Rate{PerSecond: 0.0001, Burst: 320}
		a, _ := server(t, s, r)
		b, _ := server(t, s, r)
		time.Sleep(1100 * time.Millisecond)
		for i := range 6 {
			s.down.Store(i >= 4)
			for range 40 {
				a.Allow(hash("a"))
			}
			time.Sleep(400 * time.Millisecond) // a row holds what is told in several
		}
		s.down.Store(false)
		time.Sleep(time.Second)
		if n := all(b, "a"); n != 320-6*40 {
			t.Errorf("%d calls are left at the other server, of 320 less 240", n)
		}
	})
}

func TestWithoutTheStoreOrTheKeyEachServerHasItsOwnLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{Store: memstore.New()}
		r := throttle.Rate{PerSecond: 0.001, Burst: 32}
		l, _ := run(t, New(Config{Store: s, Key: func(context.Context) ([]byte, error) { return nil, errDown }}), r)
		a, _ := server(t, s, r)
		b, _ := server(t, s, r)
		time.Sleep(time.Second)
		s.down.Store(true)
		for i, l := range []*Limiter{l, a, b} {
			if n := all(l, "a"); n != 32 {
				t.Errorf("server %d let through %d", i, n)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Second)
		s.down.Store(false)
		time.Sleep(time.Second)
		if all(a, "b"); len(l.s.others) != 0 {
			t.Error("without the key it heard others")
		}
		time.Sleep(time.Second)
		if n := all(b, "b"); n != 0 {
			t.Errorf("when the store is back, %d calls more", n)
		}
	})
}

// A row whose server is gone is removed, and who starts beside it takes nothing of it.
func TestARowOfAServerThatIsGoneCountsForNobodyAndIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memstore.New()
		r := throttle.Rate{PerSecond: 0.001, Burst: 32}
		a, end := server(t, mem, r)
		time.Sleep(time.Second)
		all(a, "a")
		time.Sleep(time.Second)
		end()
		rows := func() int {
			recs, err := mem.Scan(t.Context(), store.Prefix(layout.Tally("")), store.ScanOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return len(recs)
		}
		if rows() != 1 {
			t.Fatalf("%d rows", rows())
		}
		b, _ := server(t, mem, r)
		time.Sleep(9 * time.Second)
		if rows() != 1 {
			t.Error("the row was removed early")
		}
		if n := all(b, "a"); n != 32 {
			t.Errorf("a server that started later let through %d", n)
		}
		time.Sleep(2 * time.Second)
		if rows() != 1 { // that of b
			t.Errorf("%d rows", rows())
		}
		c, _ := server(t, mem, r)
		time.Sleep(time.Minute) // the row of b, which is alive, is removed
		if rows() != 0 {
			t.Errorf("%d rows of servers that have nothing to tell", rows())
		}
		all(b, "b")
		time.Sleep(time.Second)
		if n := all(c, "b"); n != 0 {
			t.Errorf("%d calls more, after a row was removed and came again", n)
		}
	})
}

// A row holds so many counts at most; the others come later.
func TestARowIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memstore.New()
		r := throttle.Rate{PerSecond: 0.001, Burst: 1}
		a, _ := server(t, mem, r)
		b, _ := server(t, mem, r)
		time.Sleep(time.Second)
		for i := range 10_000 {
			all(a, strconv.Itoa(i))
		}
		time.Sleep(300 * time.Millisecond)
		recs, err := mem.Scan(t.Context(), store.Prefix(layout.Tally("")), store.ScanOptions{})
		if err != nil || len(recs) != 1 || len(recs[0].Value) > 50_000 || len(recs[0].Value) < 40_000 {
			t.Fatalf("%d rows, %v", len(recs), err)
		}
		time.Sleep(10 * time.Second)
		for i := range 10_000 {
			if n := all(b, strconv.Itoa(i)); n != 0 {
				t.Fatalf("of caller %d, %d calls more", i, n)
			}
		}
	})
}

// Names depend on the key and on all of the hash, and on nothing else.
func TestNamesAreOfTheKey(t *testing.T) {
	a, b := New(Config{}), New(Config{})
	if a.name(hash("a")) == b.name(hash("a")) {
		t.Error("servers without a key have the same names")
	}
	a.key.Store(b.key.Load())
	if a.name(hash("a")) != b.name(hash("a")) || a.name(hash("a")) == a.name(hash("b")) {
		t.Error("servers with one key have other names, or all the same")
	}
}

func TestALimiterRemembersNoMoreCountsThanKeys(t *testing.T) {
	l := New(Config{}).Limiter('p', throttle.Rate{PerSecond: 1, Burst: 320})
	for range 10 {
		l.Allow(hash("busy"))
	}
	for i := range throttle.DefaultKeys + 1000 {
		l.Allow(hash(strconv.Itoa(i)))
	}
	if len(l.counts) > throttle.DefaultKeys {
		t.Errorf("%d counts", len(l.counts))
	}
	if got := l.take(nil, 10); len(got) != 1 || got[0].calls != 10 {
		t.Errorf("what is worth telling is %v", got)
	}
}

func TestAllowCostsNoAllocation(t *testing.T) {
	l := New(Config{}).Limiter('p', throttle.Rate{PerSecond: 1e9, Burst: 1 << 30})
	if n := testing.AllocsPerRun(100, func() { l.Allow(hash("a")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAllow(b *testing.B) {
	l := New(Config{}).Limiter('p', throttle.Rate{PerSecond: 1e9, Burst: 1 << 30})
	for b.Loop() {
		l.Allow(hash("a"))
	}
}

func TestARowIsReadAsItWasWritten(t *testing.T) {
	ticks := []tick{
		{41, []count{{'p', name{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77}, 300}}},
		{42, []count{{'p', name{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77}, 2}}},
	}
	row := appendRow(nil, ticks)
	if want := "\x01\x29\x01p\x00\x11\x22\x33\x44\x55\x66\x77\xac\x02\x2a\x01p\x00\x11\x22\x33\x44\x55\x66\x77\x02"; string(row) != want {
		t.Errorf("%x", row)
	}
	got, err := parseRow(row)
	if err != nil || !slices.EqualFunc(got, ticks, func(a, b tick) bool { return a.n == b.n && slices.Equal(a.counts, b.counts) }) {
		t.Errorf("%v %v", got, err)
	}
}

func FuzzParseRow(f *testing.F) {
	f.Add([]byte("\x01\x29\x01p\x00\x11\x22\x33\x44\x55\x66\x77\xac\x02"))
	f.Add([]byte("\x01\x29\xff\xff\xff\xff\x0fp"))
	f.Fuzz(func(t *testing.T, row []byte) {
		ticks, err := parseRow(row)
		if err != nil && ticks != nil {
			t.Error("ticks beside an error")
		}
		s := New(Config{})
		s.Limiter('p', throttle.Rate{PerSecond: 1})
		s.hear(new(other), row, false)
	})
}
