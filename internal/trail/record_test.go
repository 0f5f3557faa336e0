package trail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestAnEventIsKeptAsItWasGiven(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	w.record(tr, "secret.read")
	out, err := w.reader(tr).List(t.Context(), owner, Query{})
	if err != nil || len(out.Events) != 1 || out.Count != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	e := out.Events[0]
	if e.OrgID != "o" || e.ActorType != "user" || e.ActorID != "ann" || e.Action != "secret.read" || e.ResourceType != "secret" || e.ResourceID != "db/password" ||
		e.Outcome != "allowed" || e.IPAddress != "192.0.2.1" || e.RequestID != "r1" || !e.CreatedAt.Equal(w.now()) || e.PrevEventID != "" ||
		!maps.Equal(e.Details, map[string]string{"vault_id": "v1", "path": "db/password"}) {
		t.Errorf("%+v", e)
	}
	w.record(tr, "secret.write")
	out, _ = w.reader(tr).List(t.Context(), owner, Query{})
	if out.Events[0].PrevEventID != e.ID || out.Events[0].PrevHash != e.IntegrityHash {
		t.Errorf("the second is %+v", out.Events[0])
	}
	w.good(tr, 2, 0)
}

func TestEventsFromManyGoroutinesAreAllThereAndChained(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	const callers, each = 64, 50
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for i := range each {
				if err := tr.Record(t.Context(), event([]string{"o", "p"}[c%2], fmt.Sprint(c, "-", i))); err != nil {
					t.Error(err)
				}
				if i == each/2 && c == 0 {
					if err := tr.Checkpoint(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	w.checkpoint(tr)
	w.good(tr, callers*each/2, callers*each/2)
	if marks := w.rows(layout.TrailOpens()); len(marks) != 0 {
		t.Errorf("%d marks are left", len(marks))
	}
	seen := map[string]bool{}
	for _, a := range w.actionsOf(tr, "p") {
		seen[a] = true
	}
	if len(seen) != callers*each/2 {
		t.Errorf("%d events of the other org", len(seen))
	}
}

// actionsOf lists all actions of an org.
func (w *world) actionsOf(t *Trail, org string) (all []string) {
	w.t.Helper()
	p := owner
	p.OrgID = org
	for to := (time.Time{}); ; {
		out, err := w.reader(t).List(w.t.Context(), p, Query{Limit: MaxList, To: to})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range out.Events {
			all = append(all, e.Action)
			to = e.CreatedAt
		}
		if len(out.Events) < MaxList {
			return all
		}
	}
}

// inGroup records n events that wait for one commit, and returns their errors.
func inGroup(t *testing.T, tr *Trail, f *faultyStore, name string, n int) []error {
	t.Helper()
	f.open = make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { tr.Record(context.Background(), event("q", "busy")) })
	synctest.Wait()
	errs := make([]error, n)
	for i := range n {
		all.Go(func() { errs[i] = tr.Record(context.Background(), event([]string{"o", "p"}[i%2], fmt.Sprint(name, i))) })
	}
	synctest.Wait()
	if waiting := len(tr.waiting); waiting != 1 || len(tr.waiting[0].records) != n {
		t.Errorf("%d groups wait", waiting)
	}
	close(f.open)
	all.Wait()
	return errs
}

// A commit that failed, and took effect or not, fails all of its events; the
// chains after it are whole, whatever is there of the one before.
func TestACommitThatFailsFailsItsGroupAndBreaksNoChain(t *testing.T) {
	for effect := int32(1); effect <= 2; effect++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			f := &faultyStore{Store: w.mem}
			w.store = f
			tr := w.open()
			defer tr.Close()
			w.record(tr, "before")
			f.fail.Store(effect)
			for _, err := range inGroup(t, tr, f, "lost", 10) {
				if !errors.Is(err, fault.Internal) {
					t.Errorf("an event of the group: %v", err)
				}
			}
			f.fail.Store(0)
			for _, err := range inGroup(t, tr, f, "kept", 10) {
				if err != nil {
					t.Error(err)
				}
			}
			want := 1 + 5
			if effect == 2 {
				want += 5
			}
			got := w.actions(tr)
			if len(got) != want || got[0] != "before" || strings.Contains(fmt.Sprint(got[len(got)-5:]), "lost") {
				t.Errorf("effect %d: %v", effect, got)
			}
			w.checkpoint(tr)
			w.good(tr, want, 5) // the chain that ended is signed when its mark is old
			w.sleep(3 * time.Second)
			w.checkpoint(tr)
			w.good(tr, want, want)
			if marks := w.rows(layout.TrailOpens()); len(marks) != 0 {
				t.Errorf("%d marks are left", len(marks))
			}
		})
	}
}

func TestACallerWhoLeavesIsToldThatItIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := &faultyStore{Store: w.mem}
		w.store = f
		tr := w.open()
		f.open = make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		var call sync.WaitGroup
		call.Go(func() {
			if err := tr.Record(ctx, event("o", "a")); !errors.Is(err, fault.Unavailable) {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		call.Wait()
		closed := make(chan error)
		go func() { closed <- tr.Close() }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close does not wait for the event")
		default:
		}
		close(f.open)
		<-closed
		if n := len(w.events("o")); n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

// An event is on stable storage, or its caller has an error: a copy of the store
// at any commit verifies, and has every event that was answered.
func TestACrashBetweenCommitsLosesNothingThatWasAnswered(t *testing.T) {
	for at := 1; at <= 12; at++ {
		for _, takes := range []bool{false, true} {
			w := newWorld(t)
			w.store = &dying{Store: w.mem, at: at, takes: takes}
			var answered []string
			tr, err := Open(t.Context(), Config{Store: w.store, Box: w.box(w.store), Now: w.now, Every: -1})
			for i := range 12 {
				if err != nil {
					break
				}
				w.sleep(time.Second)
				if i%4 == 3 {
					tr.Checkpoint(t.Context())
				} else if err := tr.Record(t.Context(), event("o", fmt.Sprint(i))); err == nil {
					answered = append(answered, fmt.Sprint(i))
				}
			}
			w.store = w.mem
			after := w.open()
			w.record(after, "after")
			w.sleep(10 * time.Second)
			w.checkpoint(after)
			got := w.actions(after)
			for _, a := range answered {
				if !slices.Contains(got, a) {
					t.Errorf("commit %d, takes %v: %s is lost of %v", at, takes, a, answered)
				}
			}
			w.good(after, len(got), len(got))
		}
	}
}

// dying fails from commit at on, which takes effect or not.
type dying struct {
	store.Store
	at    int
	takes bool
	n     int
}

func (d *dying) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	d.n++
	if d.n < d.at || d.n == d.at && d.takes {
		rev, err := d.Store.Commit(ctx, b)
		if d.n < d.at {
			return rev, err
		}
	}
	return 0, store.ErrClosed
}

func TestWhatIsTooLongForAnEventIsRefused(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	canary := strings.Repeat("canary", MaxText/6+1)
	many := map[string]string{}
	for i := range MaxDetails + 1 {
		many[fmt.Sprint("n_", i)] = ""
	}
	for name, edit := range map[string]func(*access.Event){
		"detail":        func(e *access.Event) { e.Details = map[string]string{"path": canary} },
		"details":       func(e *access.Event) { e.Details = many },
		"a name":        func(e *access.Event) { e.Details = map[string]string{strings.Repeat("x", 33): ""} },
		"no name":       func(e *access.Event) { e.Details = map[string]string{"": ""} },
		"a name's form": func(e *access.Event) { e.Details = map[string]string{"canary value": ""} },
		"org":           func(e *access.Event) { e.OrgID = strings.Repeat("o", 129) },
		"actor type":    func(e *access.Event) { e.ActorType = canary },
		"actor":         func(e *access.Event) { e.ActorID = canary },
		"action":        func(e *access.Event) { e.Action = canary },
		"resource type": func(e *access.Event) { e.ResourceType = canary },
		"resource":      func(e *access.Event) { e.ResourceID = canary },
		"outcome":       func(e *access.Event) { e.Outcome = access.Outcome(canary) },
		"request":       func(e *access.Event) { e.RequestID = canary },
	} {
		e := event("o", "a")
		edit(&e)
		if err := tr.Record(t.Context(), e); !errors.Is(err, fault.Invalid) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(w.rows("trail")); n != 0 {
		t.Errorf("%d rows", n)
	}
	for _, r := range w.rows("") {
		if strings.Contains(string(r.Value)+r.Key, "canary") {
			t.Errorf("%s holds what was refused", r.Key)
		}
	}
	if strings.Contains(w.log.String(), "canary") {
		t.Error("the log holds what was refused")
	}
}

func TestTextThatIsNotUTF8IsMadeSo(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	e := event("o", "a\xff")
	e.Details = map[string]string{"path": "x\xff", "vault_id": "v"}
	if err := tr.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if e.Details["path"] != "x\xff" {
		t.Error("the caller's details were changed")
	}
	w.good(tr, 1, 0)
	if got := w.actions(tr); got[0] != "a\uFFFD" {
		t.Errorf("%q", got)
	}
}

func TestAnOrgThatMadeRoomBeginsAnotherChain(t *testing.T) {
	w := newWorld(t)
	tr := w.open(8)
	for round := range 3 {
		for org := range 20 {
			w.sleep(time.Millisecond)
			if err := tr.Record(t.Context(), event(fmt.Sprint("o", org), fmt.Sprint(round))); err != nil {
				t.Fatal(err)
			}
			if len(tr.heads) > 8 {
				t.Fatalf("%d heads", len(tr.heads))
			}
		}
		w.record(tr, fmt.Sprint(round))
	}
	w.sleep(time.Minute)
	w.checkpoint(tr)
	if marks := w.rows(layout.TrailOpens()); len(marks) != 0 {
		t.Errorf("%d marks are left", len(marks))
	}
	w.good(tr, 3, 3)
}

func TestAClockThatIsPutBackStandsStill(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	w.record(tr, "a")
	w.sleep(-time.Hour)
	w.record(tr, "b", "c")
	w.checkpoint(tr)
	v, err := w.reader(tr).Verify(t.Context(), owner, VerifyQuery{})
	if err != nil || !v.ChainValid || v.EventsSigned != 3 {
		t.Errorf("%+v, %v", v, err)
	}
	if got := w.actions(tr); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("%v", got)
	}
}

// Close waits for the groups behind the one under way too: all of them are
// answered, under a checkpoint, and no key is left.
func TestCloseWaitsForAllGroupsThatWait(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			f := &faultyStore{Store: w.mem}
			w.store = f
			tr := w.open()
			f.open = make(chan struct{})
			var all sync.WaitGroup
			record := func() {
				if err := tr.Record(context.Background(), event("o", "a")); err != nil {
					t.Error(err)
				}
			}
			all.Go(record)
			synctest.Wait() // its commit is under way
			for range maxGroup + 10 {
				all.Go(record)
			}
			synctest.Wait()
			if len(tr.waiting) != 2 {
				t.Errorf("%d groups wait", len(tr.waiting))
			}
			closed := make(chan error)
			go func() { closed <- tr.Close() }()
			for began := false; !began; runtime.Gosched() {
				tr.mu.Lock()
				began = tr.closed
				tr.mu.Unlock()
			}
			close(f.open)
			if err := <-closed; err != nil {
				t.Error(err)
			}
			all.Wait()
			if tr.ring.Load() != nil {
				t.Error("keys are left")
			}
			if marks := w.rows(layout.TrailOpens()); len(marks) != 0 {
				t.Errorf("%d marks are left", len(marks))
			}
		})
	}
}

func TestAfterCloseNothingIsRecordedAndAllIsSigned(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	w.record(tr, "a", "b")
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tr.Record(t.Context(), event("o", "c")); !errors.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	w.good(w.open(), 2, 2)
}

// Without the keys no event can be recorded; with the KMS away they are read when
// it is back.
func TestATrailWaitsForTheKMSOnlyUntilItHasItsKeys(t *testing.T) {
	w := newWorld(t)
	w.kms.away.Store(true)
	tr := w.open()
	if err := tr.Record(t.Context(), event("o", "a")); !errors.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	if _, err := tr.PublicKeys(t.Context()); !errors.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	w.kms.away.Store(false)
	w.record(tr, "a")
	w.kms.away.Store(true)
	w.record(tr, "b")
	w.checkpoint(tr)
	w.good(tr, 2, 2)
}
