package thread

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// sharing is a store as one of several servers has it.
type sharing struct {
	store.Store
	before func(*store.Batch) // each commit; nil: nothing
}

func (sharing) Shared() bool { return true }

func (s sharing) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if s.before != nil {
		s.before(b)
	}
	return s.Store.Commit(ctx, b)
}

// oneOf is a server among others on w's store, its clock so far ahead of w's.
func (w *world) oneOf(ahead time.Duration, before func(*store.Batch)) *Service {
	return New(Config{Store: sharing{w.store, before}, KMS: w.kms, Gate: w.asked, Believe: always,
		Now: func() time.Time { return time.Unix(0, w.clock.Load()).Add(ahead) }})
}

// Three servers whose clocks differ and whose commits take long post, edit and delete in
// one thread. Every post that began after another was answered has the greater ID, and who
// pages with after, on whichever server, sees all messages, each once, in their order.
func TestMessagesOfManyServersAreInOneOrderAndNobodyWhoReadsOnMissesOne(t *testing.T) {
	w := newWorld(t)
	dawdle := func(*store.Batch) { time.Sleep(rand.N(2 * time.Millisecond)) }
	servers := []*Service{w.oneOf(0, dawdle), w.oneOf(-4*time.Second, dawdle), w.oneOf(time.Hour, dawdle)}
	th := w.thread(t, owner, "t")
	var posted atomic.Pointer[string]
	posted.Store(new(string))
	var writing, reading sync.WaitGroup
	ended := make(chan struct{})
	for n, s := range servers {
		for range 4 {
			writing.Go(func() {
				for i := range 12 {
					atLeast := *posted.Load()
					m, err := s.Post(context.Background(), owner, th.ID, api.PostMessage{Body: quoted(fmt.Sprint(n, i))})
					if err != nil {
						t.Error(err)
						return
					}
					id := decodeAs[api.Message](t, m).ID
					if id <= atLeast {
						t.Errorf("%s was posted after %s was answered", id, atLeast)
					}
					for last := posted.Load(); *last < id && !posted.CompareAndSwap(last, &id); last = posted.Load() {
					}
					if i%4 == 3 {
						if _, err := s.EditMessage(context.Background(), owner, th.ID, id, api.EditMessage{Body: quoted("x")}); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	seen := make([][]string, len(servers))
	for n, s := range servers {
		reading.Go(func() {
			last := func() string {
				if len(seen[n]) == 0 {
					return layout.MessageID(1, 0)
				}
				return seen[n][len(seen[n])-1]
			}
			for over := false; ; {
				raw, err := s.ListMessages(context.Background(), owner, th.ID, MessageQuery{After: last(), Limit: 7})
				if err != nil {
					t.Error(err)
					return
				}
				page := decodeAs[api.Messages](t, raw).Messages
				for _, m := range page {
					seen[n] = append(seen[n], m.ID)
				}
				if over && len(page) == 0 {
					return
				}
				select {
				case <-ended:
					over = true
				default:
				}
			}
		})
	}
	writing.Wait()
	close(ended)
	reading.Wait()
	var all []string
	for _, m := range w.list(t, owner, th.ID, MessageQuery{}).Messages {
		all = append(all, m.ID)
	}
	if len(all) != 3*4*12 || !slices.IsSorted(all) {
		t.Errorf("%d messages are stored, in order %v", len(all), slices.IsSorted(all))
	}
	for n, ids := range seen {
		if !slices.Equal(ids, all) {
			t.Errorf("who read on at server %d saw %d of %d messages", n, len(ids), len(all))
		}
	}
}

// A server stops in a commit for a minute. What it posts gets a place after what others
// posted meanwhile; where nobody did, who follows on another server gets it all the same.
func TestACommitThatIsAMinuteLateIsSeenByWhoFollowsElsewhere(t *testing.T) {
	for _, meanwhile := range []bool{false, true} {
		w := newWorld(t)
		arrived, goOn := make(chan struct{}), make(chan struct{})
		var armed atomic.Bool
		slow := w.oneOf(0, func(*store.Batch) {
			if armed.CompareAndSwap(true, false) {
				close(arrived)
				<-goOn
			}
		})
		other := w.oneOf(0, nil)
		th := w.thread(t, owner, "t")
		if _, err := slow.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("first")}); err != nil {
			t.Fatal(err)
		}
		f := follow(t, other, owner, th.ID, "")
		posted := make(chan string, 1)
		armed.Store(true)
		go func() {
			m, err := slow.Post(context.Background(), owner, th.ID, api.PostMessage{Body: quoted("late")})
			if err != nil {
				t.Error(err)
			}
			posted <- decodeAs[api.Message](t, m).ID
		}()
		<-arrived
		between := ""
		for range 60 {
			w.clock.Add(int64(time.Second))
			if err := other.discover(t.Context(), th.ID); err != nil {
				t.Fatal(err)
			}
		}
		if meanwhile {
			m, err := other.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("between")})
			if err != nil {
				t.Fatal(err)
			}
			between = decodeAs[api.Message](t, m).ID
		}
		close(goOn)
		late := <-posted
		if late <= between {
			t.Errorf("%s was stored after %s", late, between)
		}
		if err := other.discover(t.Context(), th.ID); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range next(t, f) {
			got = append(got, message(t, e).ID)
		}
		if want := slices.DeleteFunc([]string{between, late}, func(id string) bool { return id == "" }); !slices.Equal(got, want) {
			t.Errorf("who follows elsewhere got %v, want %v", got, want)
		}
	}
}

// late is a server that stops in a commit: begin has it post, and returns once it is there;
// end lets it go on, and returns the ID of what it posted.
func (w *world) late(t *testing.T, threadID string) (begin func(), end func() string) {
	arrived, goOn, posted := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	var armed atomic.Bool
	armed.Store(true)
	slow := w.oneOf(0, func(*store.Batch) {
		if armed.CompareAndSwap(true, false) {
			close(arrived)
			<-goOn
		}
	})
	begin = func() {
		go func() {
			m, err := slow.Post(context.Background(), owner, threadID, api.PostMessage{Body: quoted("late")})
			if err != nil {
				t.Error(err)
			}
			posted <- decodeAs[api.Message](t, m).ID
		}()
		<-arrived
	}
	return begin, func() string { close(goOn); return <-posted }
}

// minute has a minute pass, in which a server looks for what others did.
func (w *world) minute(t *testing.T, s *Service, threadID string) {
	t.Helper()
	for range 60 {
		w.clock.Add(int64(time.Second))
		if err := s.discover(t.Context(), threadID); err != nil {
			t.Fatal(err)
		}
	}
}

func toldOf(t *testing.T, events []Event) (ids []string) {
	for _, e := range events {
		ids = append(ids, message(t, e).ID)
	}
	return ids
}

// Late are a thread's first change of all and a later one; who follows takes them before
// or after the log has forgotten them.
func TestALateCommitIsSeenByWhoIsSlowHimself(t *testing.T) {
	for _, first := range []bool{false, true} {
		for _, forgotten := range []bool{false, true} {
			w := newWorld(t)
			other := w.oneOf(0, nil)
			th := w.thread(t, owner, "t")
			if first {
				if _, err := other.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("first")}); err != nil {
					t.Fatal(err)
				}
			}
			begin, end := w.late(t, th.ID)
			begin()
			f := follow(t, other, owner, th.ID, "")
			w.minute(t, other, th.ID)
			if got := next(t, f); len(got) != 0 {
				t.Fatalf("there are events: %v", got)
			}
			id := end()
			if err := other.discover(t.Context(), th.ID); err != nil {
				t.Fatal(err)
			}
			if forgotten {
				w.minute(t, other, th.ID)
			}
			if got := toldOf(t, next(t, f)); !slices.Equal(got, []string{id}) {
				t.Errorf("after a first one: %t, forgotten by the log: %t: who follows heard of %v, want %v", first, forgotten, got, id)
			}
			if got := next(t, f); len(got) != 0 {
				t.Errorf("and then of %v", toldOf(t, got))
			}
		}
	}
}

// Who comes again, to whichever server, with the place that a heartbeat told him while a
// commit was under way hears of it, and of nothing that he has heard of.
func TestWhoComesAgainHearsOfACommitThatWasLate(t *testing.T) {
	for _, first := range []string{"none", "in time", "ahead of the clock"} {
		for _, after := range []bool{false, true} {
			w := newWorld(t)
			servers := []*Service{w.oneOf(0, nil), w.oneOf(-time.Second, nil)}
			th := w.thread(t, owner, "t")
			f := follow(t, servers[0], owner, th.ID, "")
			if by := map[string]*Service{"in time": servers[0], "ahead of the clock": w.oneOf(time.Hour, nil)}[first]; by != nil {
				if _, err := by.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("first")}); err != nil {
					t.Fatal(err)
				}
			}
			w.minute(t, servers[0], th.ID)
			begin, end := w.late(t, th.ID)
			begin()
			w.minute(t, servers[0], th.ID)
			next(t, f)
			if _, err := f.Next(t.Context(), owner); err != nil { // as before each heartbeat
				t.Fatal(err)
			}
			place := f.Position()
			for _, s := range servers {
				if got := next(t, follow(t, s, owner, th.ID, place)); len(got) != 0 {
					t.Errorf("%v comes again", toldOf(t, got))
				}
			}
			want := []string{end()}
			if after {
				w.clock.Add(int64(time.Minute))
				m, err := servers[1].Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("after")})
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, decodeAs[api.Message](t, m).ID)
			}
			for _, s := range servers {
				if got := toldOf(t, next(t, follow(t, s, owner, th.ID, place))); !slices.Equal(got, want) {
					t.Errorf("after a first one, %s: who comes again heard of %v, want %v", first, got, want)
				}
			}
		}
	}
}

// In a thread in which nothing happens for days, places do not grow too old to come again with.
func TestAPlaceInAQuietThreadIsYoung(t *testing.T) {
	w := newWorld(t)
	s := w.oneOf(0, nil)
	th := w.thread(t, owner, "t")
	f := follow(t, s, owner, th.ID, "")
	if _, err := s.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")}); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(int64(3 * changesKept))
	if err := s.discover(t.Context(), th.ID); err != nil {
		t.Fatal(err)
	}
	next(t, f)
	w.clock.Add(int64(changesKept / 3))
	if got := next(t, follow(t, s, owner, th.ID, f.Position())); len(got) != 0 {
		t.Errorf("%v comes again", toldOf(t, got))
	}
}

// Who begins to follow while a commit has been on its way for long hears of it, too.
func TestACommitThatWasLateBeforeAnybodyFollowedIsSeen(t *testing.T) {
	w := newWorld(t)
	arrived, goOn := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	slow := w.oneOf(0, func(*store.Batch) {
		if armed.CompareAndSwap(true, false) {
			close(arrived)
			<-goOn
		}
	})
	other := w.oneOf(0, nil)
	th := w.thread(t, owner, "t")
	if _, err := slow.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("first")}); err != nil {
		t.Fatal(err)
	}
	posted := make(chan string, 1)
	armed.Store(true)
	go func() {
		m, err := slow.Post(context.Background(), owner, th.ID, api.PostMessage{Body: quoted("late")})
		if err != nil {
			t.Error(err)
		}
		posted <- decodeAs[api.Message](t, m).ID
	}()
	<-arrived
	w.clock.Add(int64(15 * time.Second))
	f := follow(t, other, owner, th.ID, "")
	close(goOn)
	late := <-posted
	if err := other.discover(t.Context(), th.ID); err != nil {
		t.Fatal(err)
	}
	if got := next(t, f); len(got) != 1 || message(t, got[0]).ID != late {
		t.Errorf("who follows heard of %d events, want that of %s", len(got), late)
	}
}

// One import that runs at two servers at once, since its client came again to another
// one, brings each message once, and each version.
func TestAnImportAtTwoServersAtOnceBringsEachMessageOnce(t *testing.T) {
	w := newWorld(t)
	servers := []*Service{w.oneOf(0, nil), w.oneOf(0, nil)}
	th := w.thread(t, owner, "t")
	var lines []byte
	for i := range 25 {
		for v := range 2 {
			lines = fmt.Appendf(lines, `{"id":"m%d","ts":%d,"body":"m%d","version":%d}`+"\n", i, 1000+i/2, i+100*v, v+1)
		}
	}
	var importing sync.WaitGroup
	for _, s := range servers {
		importing.Go(func() {
			if _, err := s.Import(t.Context(), owner, th.ID, lines); err != nil {
				t.Error(err)
			}
		})
	}
	importing.Wait()
	messages := w.list(t, owner, th.ID, MessageQuery{}).Messages
	if len(messages) != 25 {
		t.Errorf("25 messages were imported twice at once, %d are there", len(messages))
	}
	for _, m := range messages {
		if m.Version != 2 {
			t.Errorf("%s, a message of 2 versions, has %d", m.Body, m.Version)
		}
	}
}

// Of a thread in which nothing happens a poll reads one row.
func TestAPollOfAQuietThreadReadsItsTailAlone(t *testing.T) {
	w := newWorld(t)
	s := w.oneOf(0, nil)
	th := w.thread(t, owner, "t")
	if _, err := s.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")}); err != nil {
		t.Fatal(err)
	}
	f := follow(t, s, owner, th.ID, "")
	scans := w.store.scans.Load()
	for range 10 {
		w.clock.Add(int64(time.Second))
		if err := s.discover(t.Context(), th.ID); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.store.scans.Load() - scans; n != 0 || len(next(t, f)) != 0 {
		t.Errorf("%d scans", n)
	}
}

// far is a store that takes 10 ms to read a tail, once it is armed.
type far struct {
	store.Store
	armed atomic.Bool

	mu                 sync.Mutex // guards the counts
	reads, atOnce, top int
}

func (s *far) Get(ctx context.Context, key string) (store.Record, error) {
	if s.armed.Load() && strings.HasSuffix(key, ":"+tailName) {
		s.count(1)
		time.Sleep(10 * time.Millisecond)
		s.count(-1)
	}
	return s.Store.Get(ctx, key)
}

func (s *far) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads, s.atOnce = s.reads+max(n, 0), s.atOnce+n
	s.top = max(s.top, s.atOnce)
}

// A poll of many threads does not wait for one read after another, nor does it take all
// of the store's connections.
func TestAPollReadsSomeTailsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &far{Store: memstore.New()}
		w := newWorldOn(slow)
		s, elsewhere := w.oneOf(0, nil), w.oneOf(0, nil)
		const threads = 100
		var last *Following
		for range threads {
			last = follow(t, s, owner, w.thread(t, owner, "t").ID, "")
		}
		for range 3 { // wherever in the order of the poll the thread comes
			if _, err := elsewhere.Post(t.Context(), owner, last.threadID, api.PostMessage{Body: quoted("x")}); err != nil {
				t.Fatal(err)
			}
			slow.reads = 0
			slow.armed.Store(true)
			time.Sleep(pollEvery + (threads+pollTogether-1)/pollTogether*10*time.Millisecond)
			synctest.Wait()
			slow.armed.Store(false)
			if slow.reads != threads || slow.top != pollTogether {
				t.Errorf("a poll of %d threads read %d tails, %d at a time", threads, slow.reads, slow.top)
			}
			if got := next(t, last); len(got) != 1 {
				t.Errorf("who follows heard of %d posts", len(got))
			}
		}
	})
}

// What the order costs a post: one row more in the commit, under one condition more, and
// no read while nobody else writes to the thread.
func TestAThreadsTailIsOneWriteAndOneConditionOfACommitAndNoRead(t *testing.T) {
	w := newWorld(t)
	cost := func(shared bool) (writes, conditions int, gets int64) {
		var last store.Batch
		note := func(b *store.Batch) { last = *b }
		s := w.oneOf(0, note)
		s.shared, s.together.apart = shared, shared
		th := w.thread(t, owner, "t")
		for range 2 {
			gets = w.store.gets.Load()
			if _, err := s.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")}); err != nil {
				t.Fatal(err)
			}
		}
		return len(last.Writes), len(last.Preconditions), w.store.gets.Load() - gets
	}
	writes, conditions, gets := cost(false)
	if w, c, g := cost(true); w != writes+1 || c != conditions+1 || g != gets {
		t.Errorf("%d writes, %d conditions and %d reads; without others %d, %d and %d", w, c, g, writes, conditions, gets)
	}
}
