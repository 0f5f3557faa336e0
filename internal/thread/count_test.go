package thread

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"pgregory.net/rapid"
)

func (w *world) counted(t testing.TB, thread string, want int) {
	t.Helper()
	if n, err := w.Count(context.Background(), owner, thread); err != nil || n != want {
		t.Fatalf("counted %d, want %d, %v", n, want, err)
	}
}

// crowd puts the rows of n messages, which nobody opens, at times from 1,000,000 on,
// a thousand apart, and returns their IDs.
func (w *world) crowd(t testing.TB, thread string, n int) (ids []string) {
	t.Helper()
	var b store.Batch
	for i := range n {
		ids = append(ids, layout.MessageID(int64(1_000_000+i*1000), 0))
		b.Put(layout.Message(thread, ids[i]), []byte("x"))
	}
	w.commitAll(t, b)
	return ids
}

func (w *world) countRow(t testing.TB, thread string) count {
	t.Helper()
	c, _, err := w.readCount(context.Background(), thread)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACountReadsWhatIsNewSinceTheLastOne(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.counted(t, th.ID, 0)
	for range 3 {
		w.say(t, th.ID, "x")
	}
	before := w.dump(t)
	w.counted(t, th.ID, 3)
	w.unchanged(t, before) // few messages are counted anew each time

	ids := w.crowd(t, th.ID, 25_000)
	w.counted(t, th.ID, 25_003)
	if got := w.countRow(t, th.ID); cmp.Diff(count{ids[24_999], 25_000}, got) != "" { // the three are of now
		t.Errorf("counted up to %+v", got)
	}
	w.store.reset()
	w.counted(t, th.ID, 25_003)
	if n := w.store.scanned.Load(); n != 3 || w.store.commits.Load() != 0 {
		t.Errorf("the next count read %d messages, and made %d commits", n, w.store.commits.Load())
	}
}

func TestTheCountStaysAwayFromNow(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.crowd(t, th.ID, maxBehind+1)
	var b store.Batch
	now := w.clock.Load()
	for i := range 2000 {
		b.Put(layout.Message(th.ID, layout.MessageID(now-int64(countAge)-1000+int64(i), 0)), []byte("x"))
	}
	w.commitAll(t, b)
	w.counted(t, th.ID, maxBehind+1+2000)
	if got, want := w.countRow(t, th.ID), (count{layout.MessageID(now-int64(countAge)-1, 0), maxBehind + 1 + 1000}); got != want {
		t.Errorf("counted up to %+v, want %+v", got, want)
	}
	w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: now - int64(countAge) - 2}) // which is counted already
	w.counted(t, th.ID, maxBehind+1+2000+1)
}

// Whatever comes between the reading and the writing of a count, the next one is right.
func TestACountIsRightWhateverComesBetween(t *testing.T) {
	between := map[string]func(w *world, s *Service, thread, old string) int{
		"an old post": func(w *world, s *Service, thread, _ string) int {
			if _, err := s.Post(context.Background(), owner, thread, api.PostMessage{Body: quoted("x"), TS: 1_000_001}); err != nil {
				panic(err)
			}
			return 1
		},
		"a delete": func(w *world, s *Service, thread, old string) int {
			if err := s.DeleteMessage(context.Background(), owner, thread, old); err != nil {
				panic(err)
			}
			return -1
		},
		"a delete and an old post": func(w *world, s *Service, thread, old string) int {
			if err := s.DeleteMessage(context.Background(), owner, thread, old); err != nil {
				panic(err)
			}
			if _, err := s.Post(context.Background(), owner, thread, api.PostMessage{Body: quoted("x"), TS: 1_900_001}); err != nil {
				panic(err)
			}
			return 0
		},
		"another count": func(w *world, s *Service, thread, _ string) int {
			if _, err := s.Count(context.Background(), owner, thread); err != nil {
				panic(err)
			}
			return 0
		},
	}
	for name, do := range between {
		for _, begun := range []bool{false, true} {
			for at := 1; ; at++ { // before each scan and each commit of the count
				w := newWorld(t)
				th := w.thread(t, owner, "t")
				old := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 1_000_500}).ID
				w.crowd(t, th.ID, 2*maxBehind)
				if begun {
					if _, err := w.writeCount(t.Context(), w.metaOf(t, th.ID), count{}, 0); err != nil {
						t.Fatal(err)
					}
				}
				server, met, change := w.another(), 0, 0
				meet := func() error {
					if met++; met == at {
						change = do(w, server, th.ID, old)
					}
					return nil
				}
				counting := New(Config{Store: &beforeBoth{w.store.Store, meet}, KMS: w.kms, Gate: w.asked, Now: w.Service.now})
				if _, err := counting.Count(t.Context(), owner, th.ID); err != nil {
					t.Fatal(err)
				}
				if met < at {
					break
				}
				for range 2 {
					w.counted(t, th.ID, 2*maxBehind+1+change)
				}
				if t.Failed() {
					t.Fatalf("%s, at step %d", name, at)
				}
			}
		}
	}
}

// beforeBoth lets a test come before each scan and each commit.
type beforeBoth struct {
	store.Store
	do func() error
}

func (s *beforeBoth) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	if err := s.do(); err != nil {
		return nil, err
	}
	return s.Store.Scan(ctx, r, opt)
}

func (s *beforeBoth) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if err := s.do(); err != nil {
		return 0, err
	}
	return s.Store.Commit(ctx, b)
}

// A write that was decided before the count began, and is committed after it, is
// decided anew.
func TestAWriteThatMeetsTheFirstCountIsCounted(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	old := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 1_000_500}).ID
	w.crowd(t, th.ID, 2*maxBehind)
	server, n := w.another(), 2*maxBehind+1
	for _, c := range []struct {
		write  func() error
		change int
	}{
		{func() error {
			return second(w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 1_000_001}))
		}, 1},
		{func() error { return w.DeleteMessage(t.Context(), owner, th.ID, old) }, -1},
	} {
		w.takeAway(t, layout.ThreadRow(th.ID, countName))
		w.store.beforeCommit = func() error {
			w.store.beforeCommit = nil
			return second(server.Count(context.Background(), owner, th.ID))
		}
		if err := c.write(); err != nil {
			t.Fatal(err)
		}
		n += c.change
		w.counted(t, th.ID, n)
	}
}

func (w *world) takeAway(t testing.TB, key string) {
	t.Helper()
	var b store.Batch
	b.Delete(key)
	w.commitAll(t, b)
}

// Random posts of any time, deletes and counts, by two servers, and time that passes.
func TestTheCountIsThatOfAModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		n := 2 * maxBehind
		w.crowd(t, th.ID, n)
		live := []string{}
		servers := []*Service{w.Service, w.another()}
		s := func() *Service { return rapid.SampledFrom(servers).Draw(r, "server") }
		r.Repeat(map[string]func(*rapid.T){
			"post": func(r *rapid.T) {
				age := rapid.SampledFrom([]time.Duration{0, time.Second, youngAge, youngAge + 1, countAge, time.Hour, 500_000 * time.Hour}).Draw(r, "age")
				ts := max(1, w.clock.Load()-int64(age))
				raw, err := s().Post(context.Background(), owner, th.ID, api.PostMessage{Body: quoted("x"), TS: ts})
				if err != nil {
					r.Fatal(err)
				}
				live = append(live, decodeAs[api.Message](t, raw).ID)
				n++
			},
			"delete": func(r *rapid.T) {
				if len(live) == 0 {
					r.Skip("none")
				}
				i := rapid.IntRange(0, len(live)-1).Draw(r, "message")
				if err := s().DeleteMessage(context.Background(), owner, th.ID, live[i]); err != nil {
					r.Fatal(err)
				}
				live = append(live[:i], live[i+1:]...)
				n--
			},
			"time": func(r *rapid.T) { w.clock.Add(rapid.Int64Range(0, int64(countAge)).Draw(r, "passes")) },
			"": func(r *rapid.T) {
				got, err := s().Count(context.Background(), owner, th.ID)
				if err != nil || got != n {
					r.Fatalf("counted %d, want %d, %v", got, n, err)
				}
			},
		})
	})
}

func TestACountThatIsDamagedIsNoNumber(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.overwrite(t, layout.ThreadRow(th.ID, countName), []byte("x"))
	_, err := w.Count(t.Context(), owner, th.ID)
	wantCode(t, err, fault.Damaged)
}

func TestAPostOfNowReadsNoCount(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.store.reset()
	w.say(t, th.ID, "x")
	if n := w.store.gets.Load(); n != 1 { // the thread
		t.Errorf("%d gets", n)
	}
}
