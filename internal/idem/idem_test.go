package idem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// rig is a service over a store in memory, and what is done with it.
type rig struct {
	*Service
	t        *testing.T
	base     store.Store
	clock    time.Time
	replays  []string // routes
	noKeys   error    // of the sealer
	noRecord error
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func newRig(t *testing.T) *rig {
	r := &rig{t: t, base: memstore.New(), clock: noon}
	r.Service = r.service(r.base)
	return r
}

// service is one more server's.
func (r *rig) service(s store.Store) *Service {
	return New(Config{Store: s, Sealer: turned{r, s}, Now: func() time.Time { return r.clock }, Replayed: func(_ context.Context, q Request) error {
		r.replays = append(r.replays, q.Route)
		return r.noRecord
	}})
}

// turned is a Sealer whose seal is to turn the bytes around.
type turned struct {
	rig   *rig
	store store.Store
}

func (s turned) Key(context.Context) ([]byte, error) {
	return []byte(strings.Repeat("k", 32)), s.rig.noKeys
}

func (s turned) Put(_ context.Context, b *store.Batch, day int64, name string, value []byte) error {
	value = slices.Clone(value)
	slices.Reverse(value)
	b.Put(layout.Sealed("idem", layout.IdemAnswer(day), name), value)
	return s.rig.noKeys
}

func (s turned) Get(ctx context.Context, day int64, name string) ([]byte, error) {
	rec, err := s.store.Get(ctx, layout.Sealed("idem", layout.IdemAnswer(day), name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.NotFound, "no such row")
	}
	slices.Reverse(rec.Value)
	return rec.Value, err
}

// ask is a request with the key "the key", as change makes it.
func (r *rig) ask(change func(*Request)) Request {
	q := Request{
		Key: "the key", Principal: access.Principal{Kind: access.User, ID: "u1", OrgID: "o1"}, Route: "POST /x", Parts: []string{"POST", "/x", ""}, Body: []byte("the body"),
		Timeout: time.Minute, Status: func() int { return 201 }, Encode: func(v any) ([]byte, error) { return fmt.Append(nil, v), nil },
	}
	if change != nil {
		change(&q)
	}
	return q
}

// put commits one more row under "done:", as a service does.
func put(ctx context.Context, s store.Store) error {
	rows, err := s.Scan(ctx, store.Prefix("done:"), store.ScanOptions{})
	if err != nil {
		return err
	}
	var b store.Batch
	key := fmt.Sprint("done:", len(rows))
	b.RequireAbsent(key)
	b.Put(key, nil)
	_, err = Wrap(s).Commit(ctx, &b)
	return store.Fault(err)
}

// answers is a handler that puts once and answers out, which is said before by say.
func (r *rig) answers(out string, say func(context.Context)) func(context.Context) (Reply, error) {
	return func(ctx context.Context) (Reply, error) {
		if say != nil {
			say(ctx)
		}
		if err := put(ctx, r.base); err != nil {
			return Reply{}, err
		}
		return Reply{Status: 201, Body: []byte(out)}, nil
	}
}

// rows is what the store has under a prefix.
func (r *rig) rows(prefix string) (out []store.Record) {
	r.t.Helper()
	for rec, err := range store.All(context.Background(), r.base, store.Prefix(prefix)) {
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, rec)
	}
	return out
}

// heard fails the test unless the request was answered so, and made n times by now.
func (r *rig) heard(what string, out Reply, err error, body string, replayed bool, n int) {
	r.t.Helper()
	if err != nil || string(out.Body) != body || out.Replayed != replayed || len(r.rows("done:")) != n {
		r.t.Errorf("%s: %d %q, replayed: %t, %v; it was made %d times", what, out.Status, out.Body, out.Replayed, err, len(r.rows("done:")))
	}
}

// refused fails the test unless the request was refused so, and made n times by now.
func (r *rig) refused(what string, err, want error, n int) {
	r.t.Helper()
	if !errors.Is(err, want) || len(r.rows("done:")) != n {
		r.t.Errorf("%s: %v, want %v; it was made %d times", what, err, want, len(r.rows("done:")))
	}
}

func TestARequestThatComesAgainHearsTheFirstAnswerAndChangesNothing(t *testing.T) {
	for _, c := range []struct {
		what    string
		say     func(context.Context)
		rows    int // in one commit
		inClear bool
	}{
		{"said before the commit", func(ctx context.Context) { Answer(ctx, "an answer") }, 1, true},
		{"said at the commit", func(ctx context.Context) { Answer(ctx, func() any { return "an answer" }) }, 1, true},
		{"an echo", func(ctx context.Context) { Echo(ctx, "an answer") }, 1, true},
		{"a secret", func(ctx context.Context) { Secret(ctx, "an answer") }, 1, false},
		{"converted", func(ctx context.Context) {
			As(ctx, func(v any) any { return "an " + v.(string) })
			Answer(ctx, "answer")
		}, 1, true},
		{"made anew", func(ctx context.Context) {
			Derive(ctx, func(context.Context) (any, error) { return "an answer", nil })
		}, 1, false},
		{"not said", nil, 2, false},
		{"of several commits", Several, 2, false},
	} {
		r := newRig(t)
		counted := &counting{Store: r.base}
		r.Service, r.base = r.service(counted), counted
		handler := r.answers("an answer", c.say)
		out, err := r.Do(t.Context(), r.ask(nil), handler)
		r.heard(c.what, out, err, "an answer", false, 1)
		if counted.commits != c.rows {
			t.Errorf("%s: %d commits, want %d", c.what, counted.commits, c.rows)
		}
		out, err = r.Do(t.Context(), r.ask(nil), handler)
		r.heard(c.what, out, err, "an answer", true, 1)
		if out.Status != 201 || !slices.Equal(r.replays, []string{"POST /x"}) {
			t.Errorf("%s: the status is %d, %v were recorded", c.what, out.Status, r.replays)
		}
		for _, rec := range r.rows("") {
			text := rec.Key + string(rec.Value)
			if strings.Contains(text, "the key") || strings.Contains(text, "the body") || !c.inClear && strings.Contains(text, "an answer") {
				t.Errorf("%s: a row is %s", c.what, text)
			}
		}
		r.noRecord = errors.New("no record")
		if _, err := r.Do(t.Context(), r.ask(nil), handler); err != r.noRecord {
			t.Errorf("%s: a replay that cannot be recorded = %v", c.what, err)
		}
	}
}

// counting is a store that counts its commits.
type counting struct {
	store.Store
	commits int
}

func (c *counting) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	c.commits++
	return c.Store.Commit(ctx, b)
}

func TestAKeyIsOneOfItsPrincipalAndStandsForOneRequest(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*Request)
		reused bool
	}{
		{"another key", func(q *Request) { q.Key = "the Key" }, false},
		{"another user", func(q *Request) { q.Principal.ID = "u2" }, false},
		{"an agent of the same ID", func(q *Request) { q.Principal.Kind = access.Agent }, false},
		{"a user of the same ID in another org", func(q *Request) { q.Principal.OrgID = "o2" }, false},
		{"another body", func(q *Request) { q.Body = []byte("the body ") }, true},
		{"another path", func(q *Request) { q.Parts = []string{"POST", "/y", ""} }, true},
		{"parts that are cut elsewhere", func(q *Request) { q.Parts = []string{"POST", "/", "x"} }, true},
		{"a part of the body", func(q *Request) { q.Parts, q.Body = append(q.Parts, "the "), []byte("body") }, true},
	} {
		r := newRig(t)
		handler := r.answers("an answer", func(ctx context.Context) { Answer(ctx, "an answer") })
		if _, err := r.Do(t.Context(), r.ask(nil), handler); err != nil {
			t.Fatal(err)
		}
		out, err := r.Do(t.Context(), r.ask(c.change), handler)
		if c.reused {
			r.refused(c.what, err, errReused, 1)
		} else {
			r.heard(c.what, out, err, "an answer", false, 2)
		}
	}
}

func TestAKeyIsOfPrintableCharacters(t *testing.T) {
	r := newRig(t)
	for key, good := range map[string]bool{
		"a": true, strings.Repeat("~", MaxKey): true, " ": true,
		"": false, strings.Repeat("a", MaxKey+1): false, "a\n": false, "\x7f": false, "é": false,
	} {
		q := r.ask(func(q *Request) { q.Key = key })
		if _, err := r.Do(t.Context(), q, r.answers("", nil)); (err == nil) != good || !good && !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

// A key is known for a day at least, over midnight and to a server whose clock is
// behind, and is forgotten with all that was kept once the day after it is over.
func TestAKeyIsForgottenWhenTheNextDayIsOver(t *testing.T) {
	late := time.Date(2026, 3, 4, 23, 50, 0, 0, time.UTC)
	for _, c := range []struct {
		what        string
		first, then time.Time
		known       bool
	}{
		{"at once", noon, noon, true},
		{"on the next day", noon, noon.Add(36*time.Hour - time.Nanosecond), true},
		{"two days later", noon, noon.Add(36 * time.Hour), false},
		{"to a clock that is behind", late.Add(15 * time.Minute), late, true},
		{"to a clock that is hours behind", late.Add(15 * time.Minute), noon, false},
	} {
		for name, say := range map[string]func(context.Context, any){"in clear": Answer, "sealed": Secret} {
			r := newRig(t)
			handler := r.answers("an answer", func(ctx context.Context) { say(ctx, "an answer") })
			r.clock = c.first
			if _, err := r.Do(t.Context(), r.ask(nil), handler); err != nil {
				t.Fatal(err)
			}
			r.clock = c.then
			if err := r.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			swept := len(r.rows(layout.Idems()))+len(r.rows(layout.IdemAnswers())) == 0
			if gone := c.then.Sub(c.first) > 24*time.Hour && !c.known; swept != gone {
				t.Errorf("%s, %s: all is swept: %t", c.what, name, swept)
			}
			out, err := r.Do(t.Context(), r.ask(nil), handler)
			n := 2
			if c.known {
				n = 1
			}
			r.heard(c.what+", "+name, out, err, "an answer", c.known, n)
		}
	}
}

// A row that bytes of were lost or changed never has its request made twice, and its
// answer has a status of a success.
func TestADamagedRowHasNothingMadeAgain(t *testing.T) {
	r := newRig(t)
	handler := r.answers("an answer", func(ctx context.Context) { Answer(ctx, "an answer") })
	if _, err := r.Do(t.Context(), r.ask(nil), handler); err != nil {
		t.Fatal(err)
	}
	whole := r.rows(layout.Idems())[0]
	try := func(what string, value []byte) {
		var b store.Batch
		b.Put(whole.Key, value)
		if _, err := r.base.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		out, err := r.Do(t.Context(), r.ask(nil), handler)
		switch known := errors.Is(err, fault.Damaged) || errors.Is(err, fault.KeyReused) || errors.Is(err, fault.Conflict); {
		case len(r.rows("done:")) != 1:
			t.Fatalf("%s: it was made %d times", what, len(r.rows("done:")))
		case err == nil && (!out.Replayed || out.Status < 200 || out.Status > 299), err != nil && !known:
			t.Errorf("%s: %+v, %v", what, out, err)
		}
	}
	head := strings.IndexByte(string(whole.Value), '\n')
	for n := range len(whole.Value) {
		try(fmt.Sprint("cut after ", n), whole.Value[:n])
		for _, bit := range []byte{1, 4, 16, 32, 128} {
			value := slices.Clone(whole.Value)
			value[n] ^= bit
			try(fmt.Sprintf("byte %d of %q", n, value[:head]), value)
		}
	}
}

// A request that fails is not kept, but for one whose first commit was made.
func TestARequestThatFailsIsDecidedAnew(t *testing.T) {
	r := newRig(t)
	no := fault.New(fault.Forbidden, "no")
	fails := func(context.Context) (Reply, error) { return Reply{}, no }
	_, err := r.Do(t.Context(), r.ask(nil), fails)
	r.refused("a refusal", err, no, 0)
	handler := r.answers("an answer", func(ctx context.Context) { Answer(ctx, "an answer") })
	out, err := r.Do(t.Context(), r.ask(nil), handler)
	r.heard("after a refusal", out, err, "an answer", false, 1)
	_, err = r.Do(t.Context(), r.ask(nil), fails) // he may not any more
	r.refused("who may not any more", err, no, 1)
	for _, c := range []struct {
		err  error
		told bool
	}{
		{fault.New(fault.Conflict, "the version is another"), true},
		{fault.New(fault.PreconditionFailed, "the version is another"), true},
		{fault.New(fault.Gone, "it is gone"), true},
		{fault.New(fault.NotFound, "there is none"), false},
		{fault.New(fault.Unavailable, "away"), false},
		{fault.New(fault.TooMany, "wait"), false},
	} {
		out, err := r.Do(t.Context(), r.ask(nil), func(context.Context) (Reply, error) { return Reply{}, c.err })
		if c.told {
			r.heard(c.err.Error(), out, err, "an answer", true, 1)
		} else {
			r.refused(c.err.Error(), err, c.err, 1)
		}
	}
}

// What says no more than the request did is answered also when its thing is gone.
func TestAnEchoAndAnAnswerOfNothingAreGivenWhenTheThingIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		say    func(context.Context)
		told   bool
	}{
		"an echo":    {200, func(ctx context.Context) { Echo(ctx, "an answer") }, true},
		"nothing":    {204, nil, true},
		"an answer":  {200, func(ctx context.Context) { Answer(ctx, "an answer") }, false},
		"a late one": {200, nil, false},
	} {
		r := newRig(t)
		q := r.ask(func(q *Request) { q.Status = func() int { return c.status } })
		body := "an answer"
		if c.status == 204 {
			body = ""
		}
		out, err := r.Do(t.Context(), q, r.answers(body, c.say))
		r.heard(name, out, err, body, false, 1)
		gone := fault.New(fault.NotFound, "there is none")
		out, err = r.Do(t.Context(), q, func(context.Context) (Reply, error) { return Reply{}, gone })
		if told := err == nil && out.Replayed && out.Status == c.status; told != c.told || !c.told && err != gone {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
}

// A request of several commits that is cut off is under way until its time is over, and
// then lost; one that failed is lost at once.
func TestARequestThatIsCutOffIsUnderWayAndThenLost(t *testing.T) {
	r := newRig(t)
	handler := r.answers("an answer", Several)
	func() {
		defer func() { _ = recover() }()
		_, _ = r.Do(t.Context(), r.ask(nil), func(ctx context.Context) (Reply, error) {
			_, _ = handler(ctx)
			panic("the process ends")
		})
	}()
	_, err := r.Do(t.Context(), r.ask(nil), handler)
	r.refused("at once", err, errUnderWay, 1)
	r.clock = r.clock.Add(time.Minute + slack - time.Nanosecond)
	_, err = r.Do(t.Context(), r.ask(nil), handler)
	r.refused("before its time is over", err, errUnderWay, 1)
	r.clock = r.clock.Add(time.Nanosecond)
	_, err = r.Do(t.Context(), r.ask(nil), handler)
	r.refused("when its time is over", err, errLost, 1)

	failing := r.ask(func(q *Request) { q.Key = "another" })
	no := errors.New("the second commit failed")
	_, err = r.Do(t.Context(), failing, func(ctx context.Context) (Reply, error) {
		_, _ = handler(ctx)
		return Reply{}, no
	})
	r.refused("one that fails", err, no, 2)
	_, err = r.Do(t.Context(), failing, handler)
	r.refused("one that failed", err, errLost, 2)
}

// The answer of a call of two commits goes with the second if it is said before that:
// cut off right after it loses nothing.
func TestAnAnswerThatIsSaidBeforeTheLastCommitGoesWithIt(t *testing.T) {
	for name, say := range map[string]func(context.Context, any){"in clear": Answer, "sealed": Secret} {
		r := newRig(t)
		var broken error // of the second commit, which takes effect
		unsure := errors.New("the connection broke")
		handler := func(ctx context.Context) (Reply, error) {
			if err := put(ctx, r.base); err != nil {
				return Reply{}, err
			}
			say(ctx, "an answer")
			if err := put(ctx, reported{r.base, broken}); err != nil {
				return Reply{}, err
			}
			panic("the process ends")
		}
		func() {
			defer func() { _ = recover() }()
			_, _ = r.Do(t.Context(), r.ask(nil), handler)
		}()
		out, err := r.Do(t.Context(), r.ask(nil), handler)
		r.heard("cut off, "+name, out, err, "an answer", true, 2)

		broken = unsure
		another := r.ask(func(q *Request) { q.Key = "another" })
		if _, err := r.Do(t.Context(), another, handler); !errors.Is(err, unsure) {
			t.Error(err)
		}
		out, err = r.Do(t.Context(), another, handler)
		r.heard("reported as failed, "+name, out, err, "an answer", true, 4)
	}
}

// reported is a store whose commits take effect and are reported so.
type reported struct {
	store.Store
	err error
}

func (s reported) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	rev, err := s.Store.Commit(ctx, b)
	if err != nil || s.err == nil {
		return rev, err
	}
	return 0, s.err
}

// What a call does after its commit is done, too, before it is answered again, and only
// for the same request. It is no part of the call: its commits carry no row.
func TestTheRestOfARequestIsDoneBeforeItIsAnsweredAgain(t *testing.T) {
	r := newRig(t)
	rests, away := 0, fault.New(fault.Unavailable, "away")
	var fails error
	handler := r.answers("an answer", func(ctx context.Context) {
		Answer(ctx, "an answer")
		Rest(ctx, func(ctx context.Context) error {
			if of(ctx) != nil {
				t.Error("the rest is part of the call")
			}
			rests++
			return fails
		})
	})
	heard := func(what string, replayed bool, n int) {
		t.Helper()
		out, err := r.Do(t.Context(), r.ask(nil), handler)
		r.heard(what, out, err, "an answer", replayed, 1)
		if rests != n {
			t.Errorf("%s: the rest was done %d times", what, rests)
		}
	}
	heard("the first", false, 0) // which does it itself
	heard("again", true, 1)
	fails = away
	_, err := r.Do(t.Context(), r.ask(nil), handler)
	r.refused("the rest fails", err, away, 1)
	if len(r.replays) != 1 {
		t.Errorf("recorded: %q", r.replays)
	}
	_, err = r.Do(t.Context(), r.ask(func(q *Request) { q.Body = []byte("another") }), handler)
	r.refused("another request", err, errReused, 1)
	if fails = nil; rests != 2 {
		t.Errorf("the rest was done %d times", rests)
	}
	heard("once more", true, 3)
}

// Who hangs up at the last moment is the one who comes again.
func TestAnAnswerIsKeptOfWhoHangsUpBeforeItIsSent(t *testing.T) {
	for name, say := range map[string]func(context.Context) error{
		"unknown": func(context.Context) error { return nil },
		"several": func(ctx context.Context) error { Several(ctx); return nil },
		"again":   Repeatable,
	} {
		r := newRig(t)
		ctx, hangUp := context.WithCancel(t.Context())
		handler := func(ctx context.Context) (Reply, error) {
			defer hangUp()
			if err := say(ctx); err != nil {
				return Reply{}, err
			}
			return r.answers("an answer", nil)(ctx)
		}
		_, _ = r.Do(ctx, r.ask(nil), handler)
		out, err := r.Do(t.Context(), r.ask(nil), handler)
		r.heard(name, out, err, "an answer", true, 1)
	}
}

// A commit that is made apart carries no row: a call that ends between it and the one
// that counts is made again.
func TestACommitApartSaysNothingOfTheCall(t *testing.T) {
	r := newRig(t)
	q := r.ask(func(q *Request) { q.Status = func() int { return 204 } })
	away := fault.New(fault.Unavailable, "away")
	_, err := r.Do(t.Context(), q, func(ctx context.Context) (Reply, error) {
		var b store.Batch
		b.Put("apart", nil)
		if _, err := Wrap(r.base).Commit(Apart(ctx), &b); err != nil {
			t.Error(err)
		}
		return Reply{}, away
	})
	r.refused("cut off", err, away, 0)
	if rows := r.rows(layout.Idems()); len(rows) != 0 {
		t.Errorf("there is a row: %s", rows[0].Value)
	}
	out, err := r.Do(t.Context(), q, r.answers("", nil))
	r.heard("made again", out, err, "", false, 1)
}

// A repeatable request leaves its row at its end: cut off it goes on, and made to its
// end it does nothing more.
func TestARepeatableRequestGoesOnUntilItsEnd(t *testing.T) {
	r := newRig(t)
	away := fault.New(fault.Unavailable, "away")
	steps := func(fails bool) func(context.Context) (Reply, error) {
		return func(ctx context.Context) (Reply, error) {
			if err := Repeatable(ctx); err != nil {
				return Reply{}, err
			}
			if err := put(ctx, r.base); err != nil || fails {
				return Reply{}, errors.Join(err, away)
			}
			return Reply{Status: 201, Body: []byte("all")}, nil
		}
	}
	_, err := r.Do(t.Context(), r.ask(nil), steps(true))
	r.refused("cut off", err, away, 1)
	out, err := r.Do(t.Context(), r.ask(nil), steps(false))
	r.heard("goes on", out, err, "all", false, 2)
	out, err = r.Do(t.Context(), r.ask(nil), steps(false))
	r.heard("at its end", out, err, "all", true, 2)
	_, err = r.Do(t.Context(), r.ask(func(q *Request) { q.Body = nil }), steps(false))
	r.refused("another body", err, errReused, 2)
}

// What a request made is gone on from, by the same request alone.
func TestOnlyTheSameRequestGoesOnFromWhatWasMade(t *testing.T) {
	r := newRig(t)
	handler := func(ctx context.Context) (Reply, error) {
		Ref(ctx, "thing-1")
		made := "thing-1"
		if err := put(ctx, r.base); err != nil {
			if made = Resume(ctx); made == "" {
				return Reply{}, err
			}
		}
		return Reply{Status: 201, Body: []byte("of " + made)}, nil
	}
	out, err := r.Do(t.Context(), r.ask(nil), handler)
	r.heard("first", out, err, "of thing-1", false, 1)
	out, err = r.Do(t.Context(), r.ask(nil), handler)
	r.heard("again", out, err, "of thing-1", true, 1)
	_, err = r.Do(t.Context(), r.ask(func(q *Request) { q.Body = nil }), handler)
	r.refused("another body", err, errReused, 1)
	if kept := r.rows(layout.IdemAnswers()); len(kept) > 0 {
		t.Errorf("its answer is kept: %v", kept)
	}
}

// What a call does beyond the store it does not do again.
func TestLookFailsForWhatWasMadeBefore(t *testing.T) {
	r := newRig(t)
	keys := 0
	handler := func(ctx context.Context) (Reply, error) {
		if err := Look(ctx); err != nil {
			return Reply{}, err
		}
		keys++
		return r.answers("an answer", func(ctx context.Context) { Answer(ctx, "an answer") })(ctx)
	}
	for i := range 3 {
		out, err := r.Do(t.Context(), r.ask(nil), handler)
		r.heard("look", out, err, "an answer", i > 0, 1)
	}
	if keys != 1 {
		t.Errorf("%d keys were made", keys)
	}
}

// A call's own row is in the way of none of its later commits.
func TestACallOfSeveralCommitsIsInItsOwnWayNowhere(t *testing.T) {
	r := newRig(t)
	handler := func(ctx context.Context) (Reply, error) {
		Several(ctx)
		err := errors.Join(put(ctx, r.base), Look(ctx), put(ctx, r.base))
		return Reply{Status: 201, Body: []byte("both")}, err
	}
	for i := range 2 {
		out, err := r.Do(t.Context(), r.ask(nil), handler)
		r.heard("both", out, err, "both", i > 0, 2)
	}
}

func TestACallThatSeesToItsKeyItselfHasNoRow(t *testing.T) {
	r := newRig(t)
	for n := range 2 {
		out, err := r.Do(t.Context(), r.ask(nil), r.answers("an answer", Skip))
		r.heard("skipped", out, err, "an answer", false, n+1)
	}
	if len(r.rows(layout.Idems())) != 0 {
		t.Error("there is a row")
	}
}

// An answer that is not there any more, or was never kept, is lost, and said to be.
func TestAnAnswerThatIsNotKeptIsLost(t *testing.T) {
	long := strings.Repeat("x", maxBody+1)
	for name, c := range map[string]struct {
		body string
		say  func(context.Context)
	}{
		"too large":        {long, func(ctx context.Context) { Answer(ctx, long) }},
		"too large, late":  {long, nil},
		"its seal is gone": {"an answer", func(ctx context.Context) { Secret(ctx, "an answer") }},
	} {
		r := newRig(t)
		out, err := r.Do(t.Context(), r.ask(nil), r.answers(c.body, c.say))
		r.heard(name, out, err, c.body, false, 1)
		var b store.Batch
		for _, rec := range r.rows(layout.IdemAnswers()) {
			b.Delete(rec.Key)
		}
		if _, err := r.base.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		_, err = r.Do(t.Context(), r.ask(nil), r.answers(c.body, c.say))
		r.refused(name, err, errLost, 1)
	}
}

// A secret that cannot be sealed is not stored in clear: the write fails.
func TestWithoutTheKMSNothingIsStored(t *testing.T) {
	r := newRig(t)
	if _, err := r.secret(t.Context()); err != nil { // the key is there
		t.Fatal(err)
	}
	r.noKeys = fault.New(fault.Unavailable, "the KMS is away")
	_, err := r.Do(t.Context(), r.ask(nil), r.answers("an answer", func(ctx context.Context) { Secret(ctx, "an answer") }))
	r.refused("a secret", err, r.noKeys, 0)
	r.Service = r.service(r.base)
	_, err = r.Do(t.Context(), r.ask(nil), r.answers("an answer", nil))
	r.refused("without the key", err, r.noKeys, 0)
	if len(r.rows("")) != 0 {
		t.Errorf("there are rows: %v", r.rows(""))
	}
}

func TestAPrincipalHasSoManyKeysADay(t *testing.T) {
	r := newRig(t)
	handler := r.answers("an answer", nil)
	r.today, r.counts = noon.Unix()/int64(day/time.Second), map[string]uint32{"o1 user:u1": maxDay - 1}
	next := func(key string, change func(*Request)) error {
		_, err := r.Do(t.Context(), r.ask(func(q *Request) {
			q.Key = key
			if change != nil {
				change(q)
			}
		}), handler)
		return err
	}
	r.refused("the last one", next("1", nil), nil, 1)
	r.refused("one more", next("2", nil), fault.TooMany, 1)
	r.refused("of another", next("2", func(q *Request) { q.Principal.ID = "u2" }), nil, 2)
	r.clock = r.clock.Add(day)
	r.refused("tomorrow", next("2", nil), nil, 3)
}

// Requests of one key that meet at two servers are one.
func TestRequestsThatMeetAreOne(t *testing.T) {
	for range 20 {
		r := newRig(t)
		servers := []*Service{r.Service, r.service(r.base)}
		var mu sync.Mutex
		for _, s := range servers {
			s.replayed = nil
		}
		fresh := 0
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				out, err := servers[i%2].Do(t.Context(), r.ask(nil), r.answers("an answer", func(ctx context.Context) { Answer(ctx, "an answer") }))
				mu.Lock()
				defer mu.Unlock()
				if err != nil || string(out.Body) != "an answer" {
					t.Errorf("%+v, %v", out, err)
				}
				if !out.Replayed {
					fresh++
				}
			})
		}
		all.Wait()
		if n := len(r.rows("done:")); n != 1 || fresh != 1 {
			t.Fatalf("it was made %d times, and %d heard that they made it", n, fresh)
		}
	}
}
