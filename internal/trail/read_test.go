package trail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

var (
	member   = access.Principal{Kind: access.User, ID: "ben", OrgID: "o", Role: access.Member}
	stranger = access.Principal{Kind: access.User, ID: "sam", OrgID: "p", Role: access.Owner}
	agent    = access.Principal{Kind: access.Agent, ID: "bot", OrgID: "o"}
	operator = access.Principal{Kind: access.Operator, ID: "op", OrgID: "o"}
)

// mixed has 600 events of two people in two vaults of org o, a second apart, and
// one of another org after each.
func mixed(t *testing.T) (*world, *Reader) {
	w := newWorld(t)
	tr := w.open()
	for i := range 600 {
		w.sleep(time.Second)
		e := event("o", fmt.Sprint("action ", i%3))
		e.ActorID = []string{"ann", "ben"}[i%2]
		e.ResourceID = fmt.Sprint("path ", i)
		e.Details["vault_id"] = fmt.Sprint("v", i/300)
		if i == 7 {
			e.ResourceType, e.ResourceID = "vault", "v1"
		}
		if err := errors.Join(tr.Record(t.Context(), e), tr.Record(t.Context(), event("p", "secret of p"))); err != nil {
			t.Fatal(err)
		}
	}
	return w, w.reader(tr)
}

func at(i int) time.Time { return t0.Add(time.Duration(i+1) * time.Second) }

func TestFiltersAndPages(t *testing.T) {
	_, r := mixed(t)
	for name, c := range map[string]struct {
		q           Query
		count       int
		first, last int // of "path n"
	}{
		"all":            {Query{}, 100, 599, 500},
		"a limit":        {Query{Limit: 7}, 7, 599, 593},
		"an offset":      {Query{Limit: 7, Offset: 590}, 7, 9, 3},
		"the last page":  {Query{Limit: 100, Offset: 550}, 50, 49, 0},
		"beyond the end": {Query{Offset: 600}, 0, 0, 0},
		"an actor":       {Query{ActorID: "ben", Limit: 2}, 2, 599, 597},
		"an action":      {Query{Action: "action 0", Limit: 2}, 2, 597, 594},
		"a resource":     {Query{ResourceID: "path 17"}, 1, 17, 17},
		"a vault":        {Query{ResourceID: "v0", Limit: 1000}, 300 - 1 + 1, 299, 0},
		"a vault itself": {Query{VaultID: "v1", Limit: 1000}, 301, 599, -1},
		"all of them":    {Query{ActorID: "ann", Action: "action 1", ResourceID: "v0", VaultID: "v0", Limit: 1}, 1, 298, 298},
		"from":           {Query{From: at(590)}, 10, 599, 590},
		"to":             {Query{To: at(590), Limit: 1}, 1, 589, 589},
		"from and to":    {Query{From: at(100), To: at(110)}, 10, 109, 100},
		"no time":        {Query{From: at(10), To: at(10)}, 0, 0, 0},
		"times far off":  {Query{From: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), Limit: 1}, 1, 599, 599},
	} {
		out, err := r.List(t.Context(), owner, c.q)
		if err != nil || len(out.Events) != c.count || out.Count != c.count || out.NextTo != nil {
			t.Errorf("%s: %d events, %v", name, len(out.Events), err)
			continue
		}
		if c.count == 0 {
			continue
		}
		if got := out.Events[0].ResourceID; got != fmt.Sprint("path ", c.first) {
			t.Errorf("%s: the first is %s", name, got)
		}
		if got := out.Events[c.count-1].ResourceID; c.last >= 0 && got != fmt.Sprint("path ", c.last) {
			t.Errorf("%s: the last is %s", name, got)
		}
	}
	for _, q := range []Query{{Limit: -1}, {Limit: MaxList + 1}, {Offset: -1}, {Offset: MaxOffset + 1}} {
		if _, err := r.List(t.Context(), owner, q); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// One call looks at so many events and no more, and says where to go on.
func TestOneCallDoesSoMuchAndNoMore(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	for i := range maxLook + 500 {
		e := event("o", []string{"rare", "often"}[min(i%2000, 1)])
		if err := tr.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	c := &counting{Store: w.mem}
	tr.store = c
	q := Query{Action: "rare", Offset: 1}
	out, err := w.reader(tr).List(t.Context(), owner, q)
	if err != nil || len(out.Events) != 4 || out.NextTo == nil || out.NextOffset != 0 || c.records > maxLook+300 {
		t.Fatalf("%d events, %v, %d, %v; %d were read", len(out.Events), out.NextTo, out.NextOffset, err, c.records)
	}
	q.To, q.Offset = *out.NextTo, out.NextOffset
	out, err = w.reader(tr).List(t.Context(), owner, q)
	if err != nil || len(out.Events) != 1 || out.NextTo != nil {
		t.Errorf("then %d events, %v, %v", len(out.Events), out.NextTo, err)
	}
	if out, err = w.reader(tr).List(t.Context(), owner, Query{Action: "rare", Offset: 8}); err != nil || out.NextOffset != 3 {
		t.Errorf("passing over: %+v, %v", out, err)
	}
}

// pairs has n pairs of events that two processes recorded at the same time, and
// one event after them.
func pairs(t *testing.T, n int, action func(i int) string) (*world, *Trail) {
	t.Helper()
	w := newWorld(t)
	tr, other := w.open(), w.open()
	for i := range n {
		w.sleep(time.Millisecond)
		for _, one := range []*Trail{tr, other} {
			if err := one.Record(t.Context(), event("o", action(i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.record(tr, "last")
	return w, tr
}

// Events of one time are on one side of where a call ends.
func TestAPageEndsBetweenTimes(t *testing.T) {
	const n = maxLook/2 + 20
	w, tr := pairs(t, n, func(i int) string {
		if i < 40 { // one of them is where the first call ends
			return "rare"
		}
		return "often"
	})
	q, found := Query{Action: "rare"}, 0
	for calls := 0; ; calls++ {
		out, err := w.reader(tr).List(t.Context(), owner, q)
		if err != nil {
			t.Fatal(err)
		}
		if found += len(out.Events); out.NextTo == nil {
			if found != 80 || calls != 1 {
				t.Errorf("%d events in %d calls", found, calls+1)
			}
			return
		}
		q.To, q.Offset = *out.NextTo, out.NextOffset
	}
}

func TestAPartOfATrailBeginsAndEndsBetweenTimes(t *testing.T) {
	w, tr := pairs(t, 12, func(int) string { return "a" })
	w.checkpoint(tr)
	for limit := 1; limit <= 26; limit++ {
		for _, from := range []time.Time{{}, t0} {
			v, err := w.reader(tr).Verify(t.Context(), owner, VerifyQuery{From: from, Limit: limit})
			if err != nil || !v.ChainValid {
				t.Errorf("%d from %v: %+v, %v", limit, from, v, err)
			}
		}
	}
}

// A checkpoint comes some time after what it names, and counts for it.
func TestEventsAreUnderTheCheckpointAfterTheirWindow(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	w.record(tr, "a", "b")
	w.sleep(time.Millisecond)
	to := w.now()
	w.checkpoint(tr)
	v, err := w.reader(tr).Verify(t.Context(), owner, VerifyQuery{To: to})
	if err != nil || v.EventsSigned != 2 {
		t.Errorf("%+v, %v", v, err)
	}
}

// What is yet to come is not in an export that was made today.
func TestAnExportEndsAtThePresent(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	w.record(tr, "a")
	w.sleep(time.Millisecond)
	var b bytes.Buffer
	if err := w.reader(tr).Export(t.Context(), owner, time.Time{}, w.now().Add(time.Hour), &b); err != nil {
		t.Fatal(err)
	}
	r, err := auditcheck.VerifyExport(&b, auditcheck.Options{})
	if err != nil || r.Events != 1 || !r.To.Equal(w.now()) {
		t.Errorf("%+v, %v", r, err)
	}
}

type counting struct {
	store.Store
	records int
}

func TestEverybodyReadsWhatIsHis(t *testing.T) {
	w, r := mixed(t)
	bot := event("o", "of an agent with his ID")
	bot.ActorType, bot.ActorID = "agent", "ben"
	if err := r.Record(t.Context(), bot); err != nil {
		t.Fatal(err)
	}
	own, err := r.List(t.Context(), member, Query{})
	if err != nil || len(own.Events) != 100 || slices.ContainsFunc(own.Events, func(e api.AuditEvent) bool { return e.ActorID != "ben" || e.ActorType != "user" }) {
		t.Errorf("a member: %d, %v", len(own.Events), err)
	}
	if _, err := r.List(t.Context(), member, Query{ActorID: "ann"}); !errors.Is(err, fault.Forbidden) {
		t.Errorf("a member reads another's: %v", err)
	}
	if _, err := r.List(t.Context(), agent, Query{}); !errors.Is(err, fault.Forbidden) {
		t.Errorf("an agent: %v", err)
	}
	if _, err := r.List(t.Context(), access.Principal{}, Query{}); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("nobody: %v", err)
	}
	out, err := r.List(t.Context(), operator, Query{})
	if err != nil || len(out.Events) != 0 {
		t.Errorf("an operator: %+v, %v", out, err)
	}
	for _, p := range []access.Principal{member, agent} {
		var b bytes.Buffer
		if _, err := r.Verify(t.Context(), p, VerifyQuery{}); !errors.Is(err, fault.Forbidden) {
			t.Errorf("%s verifies: %v", p.ID, err)
		}
		if err := r.Export(t.Context(), p, time.Time{}, time.Time{}, &b); !errors.Is(err, fault.Forbidden) || b.Len() > 0 {
			t.Errorf("%s exports: %v", p.ID, err)
		}
	}
	w.gate.Fail = fault.New(fault.Unavailable, "the trail cannot be written")
	if _, err := r.List(t.Context(), owner, Query{}); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a gate that fails: %v", err)
	}
}

// Whatever is asked for, an org has its own events alone.
func TestNoAnswerHoldsAnotherOrgsEvents(t *testing.T) {
	w, r := mixed(t)
	w.checkpoint(r.Trail)
	for _, p := range []access.Principal{stranger, {Kind: access.User, ID: "x", OrgID: "", Role: access.Owner}, {Kind: access.User, ID: "x", OrgID: "o:", Role: access.Owner}, operator} {
		var b bytes.Buffer
		if err := r.Export(t.Context(), p, time.Time{}, time.Time{}, &b); err == nil && strings.Contains(b.String(), `"o"`) {
			t.Errorf("%+v exports o's", p)
		}
		for _, q := range []Query{{}, {ActorID: "ann"}, {ResourceID: "v0"}, {VaultID: "v0", Limit: MaxList}} {
			out, _ := r.List(t.Context(), p, q)
			if slices.ContainsFunc(out.Events, func(e api.AuditEvent) bool { return e.OrgID != p.OrgID || e.OrgID == "o" }) {
				t.Errorf("%+v lists o's with %+v", p, q)
			}
		}
		if v, _ := r.Verify(t.Context(), p, VerifyQuery{}); v.EventsChecked > 0 && p.OrgID != "p" || v.Checkpoint != nil && v.Checkpoint.OrgID != p.OrgID {
			t.Errorf("%+v verifies o's", p)
		}
	}
	// A row that was moved to another org is not shown there.
	w.write(func(b *store.Batch) { moveTo(b, w.events("p")[0], "p", "o") })
	out, err := r.List(t.Context(), owner, Query{Limit: MaxList})
	if err != nil || slices.ContainsFunc(out.Events, func(e api.AuditEvent) bool { return e.OrgID != "o" }) || len(out.Events) != 600 {
		t.Errorf("%d events, %v", len(out.Events), err)
	}
	var b bytes.Buffer
	if err := r.Export(t.Context(), owner, time.Time{}, time.Time{}, &b); err != nil || strings.Contains(b.String(), "secret of p") {
		t.Errorf("the export holds it, or %v", err)
	}
}

func moveTo(b *store.Batch, r store.Record, from, to string) {
	b.Put(strings.Replace(r.Key, layout.Trail(from), layout.Trail(to), 1), r.Value)
}

// Windows of a good trail are good, whatever their bounds; one after the other
// they are all of it.
func TestEveryWindowOfAGoodTrailIsGood(t *testing.T) {
	w := newWorld(t)
	a, b := w.open(), w.open()
	for i := range 60 {
		w.record([]*Trail{a, b}[i%2], fmt.Sprint(i))
		if i%7 == 6 {
			w.checkpoint(a)
		}
		if i%11 == 10 {
			w.checkpoint(b)
		}
	}
	w.checkpoint(a)
	r := w.reader(a)
	for _, limit := range []int{1, 7, 59, 60, 61} {
		n, from := 0, time.Unix(0, 1)
		for {
			v, err := r.Verify(t.Context(), owner, VerifyQuery{From: from, Limit: limit})
			if err != nil || !v.ChainValid || v.EventsChecked != v.EventsVerified || v.EventsChecked > limit {
				t.Fatalf("limit %d from %v: %+v, %v", limit, from, v, err)
			}
			n += v.EventsChecked
			if v.NextFrom == nil {
				break
			}
			from = *v.NextFrom
		}
		if n != 60 {
			t.Errorf("limit %d: %d events", limit, n)
		}
		v, err := r.Verify(t.Context(), owner, VerifyQuery{Limit: limit})
		if err != nil || !v.ChainValid || v.EventsChecked != min(limit, 60) || v.Checkpoint == nil {
			t.Errorf("the newest %d: %+v, %v", limit, v, err)
		}
	}
	all, _ := r.List(t.Context(), owner, Query{Limit: MaxList})
	for i := 0; i < len(all.Events); i += 11 {
		for j := 0; j < i; j += 13 {
			from, to := all.Events[i].CreatedAt, all.Events[j].CreatedAt
			v, err := r.Verify(t.Context(), owner, VerifyQuery{From: from, To: to})
			if err != nil || !v.ChainValid || v.EventsChecked != i-j {
				t.Errorf("%v to %v: %+v, %v", from, to, v, err)
			}
			var buf bytes.Buffer
			if err := r.Export(t.Context(), owner, from, to, &buf); err != nil {
				t.Fatal(err)
			}
			if rep, err := auditcheck.VerifyExport(&buf, auditcheck.Options{}); err != nil || !rep.OK() || rep.Verified != i-j {
				t.Errorf("export %v to %v: %+v, %v", from, to, rep, err)
			}
		}
	}
	for _, limit := range []int{-1, MaxVerify + 1} {
		if _, err := r.Verify(t.Context(), owner, VerifyQuery{Limit: limit}); !errors.Is(err, fault.Invalid) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

// A deleted event shows in every window that has events of its chain on both
// sides, or that it is in with a checkpoint that names it.
func TestAWindowShowsWhatIsMissingInIt(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	for i := range 40 {
		w.record(tr, fmt.Sprint(i))
		if i%10 == 9 {
			w.checkpoint(tr)
		}
	}
	r := w.reader(tr)
	all, _ := r.List(t.Context(), owner, Query{Limit: MaxList})
	slices.Reverse(all.Events)
	w.write(func(b *store.Batch) { b.Delete(w.events("o")[19].Key) }) // checkpoint 2 names it
	for _, c := range []struct {
		from, to int
		shows    bool
	}{{0, 39, true}, {18, 22, true}, {15, 20, true}, {19, 25, true}, {20, 39, false}, {0, 19, false}} {
		v, err := r.Verify(t.Context(), owner, VerifyQuery{From: all.Events[c.from].CreatedAt, To: all.Events[c.to].CreatedAt})
		if err != nil || v.ChainValid == c.shows {
			t.Errorf("%d to %d: %+v, %v", c.from, c.to, v, err)
		}
		if c.shows && *v.BrokenAtEventID != all.Events[19].ID {
			t.Errorf("%d to %d names %s", c.from, c.to, *v.BrokenAtEventID)
		}
	}
	v, err := r.Verify(t.Context(), owner, VerifyQuery{Limit: 30})
	if err != nil || v.ChainValid {
		t.Errorf("the newest: %+v, %v", v, err)
	}
}

// The way to the checkpoints of a window leads past signed ones alone.
func TestASpoiledCheckpointOnTheWayShows(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	for i := range 30 {
		w.record(tr, fmt.Sprint(i))
		w.checkpoint(tr)
	}
	from := w.now().Add(-2500 * time.Millisecond)
	if v, err := w.reader(tr).Verify(t.Context(), owner, VerifyQuery{From: from}); err != nil || !v.ChainValid || v.EventsSigned != 2 || v.CheckpointsChecked > 3 {
		t.Fatalf("%+v, %v", v, err)
	}
	const first = 16 // of the search among 30
	early := VerifyQuery{From: t0.Add(1500 * time.Millisecond), To: t0.Add(3500 * time.Millisecond)}
	for name, edit := range map[string]func(*store.Batch){
		"deleted": func(b *store.Batch) { b.Delete(layout.TrailPoint("o", first)) },
		"no JSON": func(b *store.Batch) { b.Put(layout.TrailPoint("o", first), []byte("x")) },
		"edited": func(b *store.Batch) {
			p := w.point(first - 1)
			p.CreatedAt = t0 // so that it leads past those of the window
			w.putPoint(b, layout.TrailPoint("o", first), p)
		},
	} {
		s := newWorldOf(w)
		s.write(edit)
		v, err := s.reader(s.open()).Verify(t.Context(), owner, early)
		if err != nil || v.ChainValid || !strings.HasPrefix(v.Reason, "checkpoint 16:") {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

func TestAVerificationSaysHowItIsDone(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	v, err := w.reader(tr).Verify(t.Context(), owner, VerifyQuery{})
	if err != nil || !v.ChainValid || v.BrokenAtEventID != nil || v.Checkpoint != nil || v.EventsChecked != 0 || v.Scheme != scheme {
		t.Errorf("an empty trail: %+v, %v", v, err)
	}
}

func TestAnExportWhoseReaderIsGoneEnds(t *testing.T) {
	w, r := mixed(t)
	w.checkpoint(r.Trail)
	if err := r.Export(t.Context(), owner, time.Time{}, time.Time{}, broken{}); !errors.Is(err, errDisk) {
		t.Errorf("%v", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errDisk }

func (c *counting) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	recs, err := c.Store.Scan(ctx, r, opt)
	c.records += len(recs)
	return recs, err
}
