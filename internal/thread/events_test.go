package thread

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func follow(t testing.TB, s *Service, p access.Principal, thread, after string) *Following {
	t.Helper()
	f, err := s.Follow(context.Background(), p, thread, after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// next is all that there is for f now.
func next(t testing.TB, f *Following) (all []Event) {
	t.Helper()
	for {
		select {
		case <-f.News():
		default:
			return all
		}
		events, err := f.Next(context.Background(), owner)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, events...)
	}
}

func idsOf(events []Event) []string {
	out := []string{}
	for _, e := range events {
		out = append(out, e.ID)
	}
	return out
}

// message is the message of an event.
func message(t testing.TB, e Event) *api.Message {
	t.Helper()
	return decodeAs[api.MessageEvent](t, e.Data).Message
}

// change writes what a server notes of a change of a message, some time ago.
func (w *world) change(t testing.TB, thread string, kind changeKind, message string, ago time.Duration) change {
	t.Helper()
	c := change{layout.MessageID(w.tick()-int64(ago), changeSeq), kind, message}
	w.overwrite(t, changeRow(thread, c.ID), []byte(string(kind)+" "+message))
	return c
}

func TestWhoFollowsGetsEachChangeOnceWithTheMessageAsItIs(t *testing.T) {
	w := newWorld(t)
	th, other := w.thread(t, owner, "t"), w.thread(t, owner, "other")
	w.say(t, th.ID, "before")
	f := follow(t, w.Service, owner, th.ID, "")
	if got := next(t, f); len(got) != 0 {
		t.Errorf("what was before it began: %v", idsOf(got))
	}
	a := w.say(t, th.ID, "a")
	w.say(t, other.ID, "elsewhere")
	b := w.post(t, owner, th.ID, api.PostMessage{Body: []byte(`{"deep": [1,
 2]}`), ReplyTo: a})
	got := next(t, f)
	if len(got) != 2 || got[0].Kind != "created" || got[0].ID >= got[1].ID {
		t.Fatalf("two posts: %+v", got)
	}
	want := api.MessageEvent{Thread: th.ID, MessageID: b.ID, Message: &b}
	if diff := cmp.Diff(want, decodeAs[api.MessageEvent](t, got[1].Data)); diff != "" {
		t.Error(diff)
	}
	if got := next(t, f); len(got) != 0 {
		t.Errorf("again: %v", idsOf(got))
	}
}

// sealRow puts a row of a thread that is encrypted as the thread's rows are.
func (w *world) sealRow(t testing.TB, thread string, n rowName, text string) {
	t.Helper()
	m, err := w.load(context.Background(), thread)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := w.encrypt(context.Background(), m, openRow{n, []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	w.overwrite(t, n.key(thread), sealed[0])
}

func TestAnEventHasWhatIsLeftOfTheMessage(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	kept, deleted, purged := w.say(t, th.ID, "kept"), w.say(t, th.ID, "deleted"), w.say(t, th.ID, "purged")
	w.sealRow(t, th.ID, reactionsRow(kept), `{"id":"`+kept+`","reactions":{"a:b/ü":"+1"}}`)
	w.sealRow(t, th.ID, deletedRow(deleted), `{"id":"`+deleted+`","deleted":true}`)
	var b store.Batch
	b.Delete(newestRow(deleted).key(th.ID))
	b.Delete(newestRow(purged).key(th.ID))
	w.commitAll(t, b)
	f := follow(t, w.Service, owner, th.ID, changeAt(w.tick()))
	got := map[string]*api.Message{}
	for _, e := range next(t, f) {
		m := decodeAs[api.MessageEvent](t, e.Data)
		got[m.MessageID] = m.Message
	}
	if got[kept] == nil || got[kept].Reactions["a:b/ü"] != "+1" || string(got[kept].Body) != `"kept"` {
		t.Errorf("with a reaction: %+v", got[kept])
	}
	if got[deleted] == nil || !got[deleted].Deleted || got[deleted].Body != nil {
		t.Errorf("deleted: %+v", got[deleted])
	}
	if m, there := got[purged]; !there || m != nil {
		t.Errorf("purged: %+v", m)
	}
	w.change(t, th.ID, changeThread, "", 0)
	if got := next(t, follow(t, w.Service, owner, th.ID, changeAt(w.tick()))); string(got[len(got)-1].Data) != `{"thread":"`+th.ID+`"}` {
		t.Errorf("of the thread itself: %s", got[len(got)-1].Data)
	}
}

// What another server committed is there at the next poll, a change that got its
// ID some seconds before its commit too, each once.
func TestWhatAnotherServerCommitsArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		other := w.another()
		th := w.thread(t, owner, "t")
		f := follow(t, w.Service, owner, th.ID, "")
		tell := func(what string, do func() int) {
			t.Helper()
			want := do()
			if got := next(t, f); len(got) != 0 && what != "both" {
				t.Errorf("%s: at once %v", what, idsOf(got))
			}
			time.Sleep(pollEvery)
			synctest.Wait()
			if got := next(t, f); len(got) != want {
				t.Errorf("%s: %v", what, idsOf(got))
			}
			time.Sleep(3 * pollEvery)
			synctest.Wait()
			select {
			case <-f.News():
				t.Errorf("%s: a poll that finds nothing new wakes who follows", what)
			default:
			}
			if got := next(t, f); len(got) != 0 {
				t.Errorf("%s: again %v", what, idsOf(got))
			}
		}
		tell("another's post", func() int {
			if _, err := other.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")}); err != nil {
				t.Fatal(err)
			}
			return 1
		})
		tell("a late commit", func() int { w.change(t, th.ID, changeThread, "", lookBack-2*pollEvery); return 1 })
		tell("a clock that is ahead", func() int { w.change(t, th.ID, changeThread, "", -time.Minute); return 1 })
		tell("both", func() int { w.say(t, th.ID, "mine"); return 0 })
		f.Close()
		synctest.Wait() // or the poll would outlive the bubble
		f.s.hub.join(th.ID, f.s.poll)
	})
}

func TestAResumeLosesNothingAndRepeatsOnlyWhatWasJustBefore(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	live := follow(t, w.Service, owner, th.ID, "")
	positions := []string{live.Position()}
	var all []Event
	for i := range 200 { // more than one page
		w.clock.Add(int64(rand.N(time.Second)))
		w.say(t, th.ID, fmt.Sprint(i))
		all = append(all, next(t, live)...)
		positions = append(positions, all[i].ID, live.Position())
	}
	for _, after := range positions {
		got, want := idsOf(next(t, follow(t, w.Service, owner, th.ID, after))), []string{}
		ts, _, _ := parseMessageID(after)
		for _, id := range idsOf(all) {
			if id >= before(ts) {
				want = append(want, id)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("after %s there are %d events, want %d", after, len(got), len(want))
		}
	}
	if n := len(idsOf(all)); n != 200 {
		t.Errorf("%d events", n)
	}
}

// A clock is put back by an hour: what happens after a restart has IDs before those
// that who followed the thread has seen, and would not be found behind them.
func TestWhoHasSeenAnIDOfBeforeTheClockWasPutBackIsToldSo(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.say(t, th.ID, "before")
	seen := layout.MessageID(w.last.Load(), 0)
	w.clock.Add(-int64(time.Hour))
	follow := func(s *Service) error {
		f, err := s.Follow(t.Context(), owner, th.ID, seen)
		if err == nil {
			f.Close()
		}
		return err
	}
	if err := follow(w.Service); err != nil {
		t.Errorf("the server that gave it: %v", err) // and goes on from there
	}
	wantCode(t, follow(w.another()), fault.Gone)
	w.clock.Add(int64(time.Hour - lookBack/2))
	if err := follow(w.another()); err != nil {
		t.Errorf("as far as clocks may differ: %v", err)
	}
}

func TestAPlaceThatIsNoneIsRefused(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	now := w.clock.Load()
	for _, after := range []string{"x", "0", strings.Repeat("0", 27), changeAt(now)[1:], changeAt(now) + "0", th.ID} {
		_, err := w.Follow(t.Context(), owner, th.ID, after)
		wantCode(t, err, fault.Invalid)
	}
	_, err := w.Follow(t.Context(), owner, th.ID, changeAt(now-int64(changesKept)-1))
	wantCode(t, err, fault.Gone)
	_, err = w.Follow(t.Context(), owner, "0198aaaa-0000-7000-8000-000000000001", "x")
	wantCode(t, err, fault.NotFound)
	_, err = w.Follow(t.Context(), mate, th.ID, "x")
	wantCode(t, err, fault.Forbidden)
	if len(w.hub.feeds) != 0 {
		t.Error("who was refused follows")
	}
	next(t, follow(t, w.Service, owner, th.ID, changeAt(now-int64(changesKept))))
}

// Whoever may not read any more gets nothing from that moment on, and nothing is
// opened for him.
func TestNothingIsOpenedForWhoMayNotRead(t *testing.T) {
	for what, end := range map[string]struct {
		do   func(w *world, thread string)
		want fault.Code
	}{
		"no part any more": {func(w *world, id string) { w.editMeta(t, id, func(m *meta) { m.Parts = nil }) }, fault.Forbidden},
		"deleted":          {func(w *world, id string) { w.editMeta(t, id, func(m *meta) { m.Deleted = true }) }, fault.NotFound},
		"no gate":          {func(w *world, _ string) { w.asked.Fail = fault.New(fault.Unavailable, "no trail") }, fault.Unavailable},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			th := w.thread(t, owner, "t")
			w.editMeta(t, th.ID, func(m *meta) { m.Parts = []participant{{ID: mate.ID, Part: access.Reader}} })
			f := follow(t, w.Service, mate, th.ID, "")
			w.say(t, th.ID, "for both")
			if got, err := f.Next(t.Context(), mate); err != nil || len(got) != 1 {
				t.Fatalf("a reader: %v, %v", got, err)
			}
			w.say(t, th.ID, canary)
			end.do(w, th.ID)
			asked := w.kms.calls.Load()
			got, err := f.Next(t.Context(), mate)
			if wantCode(t, err, end.want); len(got) != 0 || w.kms.calls.Load() != asked {
				t.Errorf("%d events, and the KMS was asked: %v", len(got), w.kms.calls.Load() != asked)
			}
		})
	}
}

// One who is too slow for the log gets the rest from the store, each change once.
func TestWhoIsSlowIsSentFromTheStore(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	f, quick := follow(t, w.Service, owner, th.ID, ""), follow(t, w.Service, owner, th.ID, "")
	var got, want []string
	for range 2 * maxEvents {
		w.say(t, th.ID, "x")
	}
	events, err := f.Next(t.Context(), owner)
	if err != nil || len(events) != maxEvents {
		t.Fatal(len(events), err)
	}
	got = idsOf(events)
	for range 3 * maxEvents {
		w.say(t, th.ID, "x")
	}
	want = idsOf(next(t, quick))
	w.hub.found(th.ID, changeAt(w.tick()), nil, tail{}) // the log forgets, and a poll that comes later nothing of what follows
	w.clock.Add(int64(time.Minute))
	w.say(t, th.ID, "last")
	got, want = append(got, idsOf(next(t, f))...), append(want, idsOf(next(t, quick))...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range maxLog + 10 {
		w.tell(th.ID, change{ID: changeAt(w.tick()), Kind: changeThread})
	}
	if n := len(f.feed.log); n != maxLog {
		t.Errorf("the log holds %d", n)
	}
}

func TestALargeMessageIsSentByItself(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	f := follow(t, w.Service, owner, th.ID, "")
	for range 3 {
		w.say(t, th.ID, strings.Repeat("x", maxEventBytes))
	}
	for i := range 3 {
		got, err := f.Next(t.Context(), owner)
		if err != nil || len(got) != 1 || len(message(t, got[0]).Body) != maxEventBytes+2 {
			t.Fatalf("message %d: %d events, %v", i, len(got), err)
		}
	}
}

func TestWhatDoesNotOpenIsNotSent(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	f := follow(t, w.Service, owner, th.ID, "")
	w.overwrite(t, newestRow(w.say(t, th.ID, "a")).key(th.ID), []byte("no ciphertext"))
	got, err := f.Next(t.Context(), owner)
	if wantCode(t, err, fault.Damaged); got != nil {
		t.Error("something is sent")
	}
	f = follow(t, w.Service, owner, th.ID, "")
	w.say(t, th.ID, "a")
	w.kms.fail = fault.New(fault.Unavailable, "away")
	_, err = f.Next(t.Context(), owner)
	wantCode(t, err, fault.Unavailable)
	w.overwrite(t, changeRow(th.ID, changeAt(w.tick())), []byte("created x"))
	_, err = w.Follow(t.Context(), owner, th.ID, "")
	wantCode(t, err, fault.Damaged)
}

// Whatever comes late, from wherever, in whatever order it becomes known: one who
// stays gets each change once, and one who begins after an event all that follow.
func TestEachChangeArrivesOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		w.clock.Add(int64(time.Hour))
		made := map[string]bool{}
		type reader struct {
			*Following
			from    string // what it must have: all after it
			resumed bool
			got     map[string]int
		}
		var readers []*reader
		begin := func(after string) {
			f, err := w.Follow(context.Background(), owner, th.ID, after)
			if err != nil {
				rt.Fatal(err)
			}
			r := &reader{f, after, after != "", map[string]int{}}
			if after == "" {
				r.from = changeAt(w.tick())
			}
			readers = append(readers, r)
		}
		defer func() {
			for _, r := range readers {
				r.Close()
			}
		}()
		read := func(r *reader, calls int) {
			for range calls {
				events, err := r.Next(context.Background(), owner)
				if err != nil {
					rt.Fatal(err)
				}
				for _, e := range events {
					r.got[e.ID]++
				}
			}
		}
		pick := func() *reader { return readers[rapid.IntRange(0, len(readers)-1).Draw(rt, "reader")] }
		begin("")
		rt.Repeat(map[string]func(*rapid.T){
			"ours": func(rt *rapid.T) {
				for range rapid.IntRange(1, 100).Draw(rt, "n") {
					c := w.change(t, th.ID, changeThread, "", 0)
					w.tell(th.ID, c)
					made[c.ID] = true
				}
			},
			"another's": func(rt *rapid.T) {
				late := time.Duration(rapid.IntRange(0, 6000).Draw(rt, "late")) * time.Millisecond
				for range rapid.IntRange(1, 100).Draw(rt, "n") {
					made[w.change(t, th.ID, changeThread, "", late).ID] = true
				}
			},
			"time": func(rt *rapid.T) { // with the polls that come in it
				for range rapid.IntRange(1, 15).Draw(rt, "seconds") {
					w.clock.Add(int64(time.Second))
					if err := w.discover(context.Background(), th.ID); err != nil {
						rt.Fatal(err)
					}
				}
			},
			"read": func(rt *rapid.T) { read(pick(), rapid.IntRange(1, 5).Draw(rt, "calls")) },
			"forget": func(*rapid.T) {
				w.hub.mu.Lock()
				f := w.hub.feeds[th.ID]
				f.gone += len(f.log)
				f.log = nil
				w.hub.mu.Unlock()
			},
			"begin": func(*rapid.T) { begin("") },
			"resume": func(rt *rapid.T) {
				got := slices.Sorted(maps.Keys(pick().got))
				if len(got) > 0 {
					begin(rapid.SampledFrom(got).Draw(rt, "after"))
				}
			},
		})
		if err := w.discover(context.Background(), th.ID); err != nil {
			rt.Fatal(err)
		}
		for i, r := range readers {
			read(r, 3+len(made)/maxEvents*2)
			ts, _, _ := parseMessageID(r.from)
			for id := range made {
				switch n := r.got[id]; {
				case n == 0 && id > r.from:
					rt.Errorf("reader %d of %d, from %s, misses %s", i, len(readers), r.from, id)
				case n > 1:
					rt.Errorf("reader %d, from %s, has %s %d times", i, r.from, id, n)
				case n > 0 && r.resumed && id < before(ts-int64(time.Millisecond)): // the clock stands still while IDs go on
					rt.Errorf("reader %d, from %s, has %s", i, r.from, id)
				}
			}
		}
	})
}

// Sixteen write on two servers while others come and go: each who follows has
// every message in the end, those who stayed exactly once.
func TestNobodyMissesAPostWhileOthersComeAndGo(t *testing.T) {
	defer goleak.VerifyNone(t)
	w := newWorld(t)
	servers := []*Service{New(Config{Store: w.store, KMS: w.kms, Gate: w.asked}), New(Config{Store: w.store, KMS: w.kms, Gate: w.asked})}
	th := w.thread(t, owner, "t")
	const writers, each = 16, 40
	var posted sync.Map
	var writing, reading sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	wrong := make(chan error, 100)
	// reads until it has all; one who hops begins anew now and then.
	reads := func(s *Service, hops bool, begun chan<- bool) error {
		f, err := s.Follow(ctx, owner, th.ID, "")
		if begun <- true; err != nil {
			return err
		}
		defer func() { f.Close() }()
		got, last := map[string]int{}, f.Position()
		for len(got) < writers*each {
			select {
			case <-f.News():
			case <-ctx.Done():
				return fmt.Errorf("%d of %d came", len(got), writers*each)
			}
			events, err := f.Next(ctx, owner)
			if err != nil {
				return err
			}
			for _, e := range events {
				var data api.MessageEvent
				if err := json.Unmarshal(e.Data, &data); err != nil || data.Message == nil {
					return errors.Join(err, errors.New("an event without its message"))
				}
				got[data.MessageID]++
				last = e.ID
			}
			if hops && rand.IntN(8) == 0 {
				next, err := s.Follow(ctx, owner, th.ID, last)
				if err != nil {
					return err
				}
				f.Close()
				f = next
			}
		}
		writing.Wait() // an event may come before the answer to its post
		for id, n := range got {
			if _, ok := posted.Load(id); !ok || n > 1 && !hops {
				return fmt.Errorf("%s came %d times, was posted: %v", id, n, ok)
			}
		}
		return nil
	}
	begun := make(chan bool)
	for i := range 8 {
		reading.Go(func() {
			if err := reads(servers[i%2], i >= 4, begun); err != nil {
				wrong <- err
			}
		})
		<-begun
	}
	for i := range writers {
		writing.Go(func() {
			for range each {
				raw, err := servers[i%2].Post(ctx, owner, th.ID, api.PostMessage{Body: quoted("x")})
				if err != nil {
					wrong <- err
					return
				}
				posted.Store(decodeAs[api.Message](t, raw).ID, true)
			}
		})
	}
	writing.Wait()
	reading.Wait()
	close(wrong)
	for err := range wrong {
		t.Error(err)
	}
	for _, s := range servers {
		if len(s.hub.feeds) != 0 {
			t.Error("feeds are left")
		}
	}
}

// A poll that read the store and then was slow tells what another poll has made the
// feed forget meanwhile: that is no news, or who began to follow since would get it.
func TestASlowPollTellsNothingTwice(t *testing.T) {
	var h hub
	f := h.join("t", func(context.Context) {})
	defer h.leave("t")
	place := func(f *feed) int { at, _ := h.end(f); return at }
	c := change{changeAt(5), changeCreated, changeAt(1)}
	h.found("t", changeAt(4), nil, tail{})
	h.found("t", changeAt(4), []change{c}, tail{})
	end := place(f)
	h.found("t", changeAt(6), nil, tail{})
	h.found("t", changeAt(4), []change{c}, tail{})
	if end != 1 || place(f) != end {
		t.Errorf("%d changes are news, and then %d", end, place(f))
	}
	h.tell("t", change{changeAt(3), changeCreated, changeAt(2)}) // a commit of this server that took long
	if place(f) != end+1 {
		t.Error("a change of this server is no news")
	}
}

// A commit of this server that a poll found first, and that was forgotten since, is not told again.
func TestWhatAPollFoundIsNotToldAgain(t *testing.T) {
	var h hub
	f := h.join("t", func(context.Context) {})
	defer h.leave("t")
	h.found("t", changeAt(1), nil, tail{3, 1})
	h.found("t", changeAt(4), []change{{changeAt(5), changeCreated, changeAt(5)}}, tail{5, 2})
	h.found("t", changeAt(6), nil, tail{5, 2})
	h.found("t", changeAt(1), nil, tail{3, 1}) // slow
	h.tell("t", change{changeAt(5), changeCreated, changeAt(5)})
	if at, last := h.end(f); at != 1 || last.ts != 5 {
		t.Errorf("%d changes are news, up to %d", at, last.ts)
	}
	h.tell("t", change{changeAt(7), changeCreated, changeAt(7)})
	if at, _ := h.end(f); at != 2 {
		t.Error("the next one is no news")
	}
}
