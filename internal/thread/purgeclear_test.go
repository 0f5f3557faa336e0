package thread

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// clearPurges are the ways in which rows in clear come to be purged, each a policy
// and what is done before, in a thread of newPlain.
var clearPurges = map[string]struct {
	deleted, messages int
	do                func(*shift)
}{
	"deleted thread":  {1, 0, func(x *shift) { x.drop(x.t, x.thread) }},
	"old messages":    {0, 1, func(*shift) {}},
	"deleted message": {1, 0, func(*shift) {}},
	"thread that is being encrypted": {1, 0, func(x *shift) {
		x.must(second(x.BeginEncrypting(x.t.Context(), nil)))
		x.drop(x.t, x.thread)
	}},
	"messages of a thread that is being encrypted": {0, 1, func(x *shift) { x.must(second(x.BeginEncrypting(x.t.Context(), nil))) }},
}

func TestAPurgeOfRowsInClearScrubsTheFilesOnceAndNoOtherDoes(t *testing.T) {
	for name, c := range clearPurges {
		x := newPlain(t, 12)
		c.do(x)
		before := x.inClear()
		x.keep(t, boss, c.deleted, c.messages)
		files := &scrubStore{Store: x.store, x: x}
		x.purgeOver(t, files)
		if len(files.calls) > 0 {
			t.Errorf("%s: a run that purges nothing scrubbed", name)
		}
		x.pass(2 * day)
		x.preview(t, boss)
		x.purgeOver(t, files)
		if want := []string{"", "one", "two"}; !slices.Equal(files.calls, want) {
			t.Errorf("%s: scrubs began at %q", name, files.calls)
		}
		if left := x.inClear(); !slices.Equal(left, files.inClear) || len(left) >= len(before) {
			t.Errorf("%s: of %d rows in clear there were %d when the scrub began, and %d in the end", name, len(before), len(files.inClear), len(left))
		}
		if x.purgeOver(t, files); len(files.calls) != 3 {
			t.Errorf("%s: the next run scrubbed again", name)
		}
	}
	w := newWorld(t)
	th, gone := w.thread(t, owner, "t"), w.thread(t, owner, "gone")
	w.talk(t, th.ID)
	w.drop(t, gone.ID)
	w.keep(t, boss, 1, 1)
	w.pass(2 * day)
	files := &scrubStore{Store: w.store, x: &shift{world: w, t: t}}
	if w.purgeOver(t, files); len(files.calls) > 0 || len(w.rowsOf(t, gone.ID)) > 0 {
		t.Errorf("a purge of what is encrypted scrubbed %d times; left are %q", len(files.calls), w.rowsOf(t, gone.ID))
	}
}

// A run that dies, or that is cancelled, owes the scrub to whoever goes on: what was
// purged in clear was gone when the last scrub began, and that came to its end.
func TestAScrubIsOwedUntilItIsDone(t *testing.T) {
	for name, c := range clearPurges {
		for at, died := 2, true; died; at++ {
			for _, takes := range []bool{false, true} {
				x := newPlain(t, 6)
				c.do(x)
				x.keep(t, boss, c.deleted, c.messages)
				x.pass(2 * day)
				var files *scrubStore
				files, died = x.diePurging(at, takes)
				if owed := x.rowsOf(t, layout.RetentionScrub()); len(owed) > 0 {
					t.Errorf("%s, commit %d, took effect %v: the scrub is owed", name, at, takes)
				}
				if n := len(files.calls); n == 0 || files.calls[n-1] != "two" || !slices.Equal(files.inClear, x.inClear()) {
					t.Errorf("%s, commit %d, took effect %v: scrubs began at %q, the last one with %q in clear", name, at, takes, files.calls, files.inClear)
				}
			}
			if !died && at < 8 {
				t.Errorf("%s: there were %d commits", name, at-1)
			}
		}
	}
}

// diePurging runs a purge in a process that dies at a commit, and goes on with it or,
// every other time, cancels it and starts another.
func (x *shift) diePurging(at int, takes bool) (files *scrubStore, died bool) {
	x.t.Helper()
	dying := &storetest.DyingStore{Store: x.store, At: at, Takes: takes}
	files = &scrubStore{Store: dying, x: x}
	threads, r := x.purging(files)
	j, err := threads.StartPurge(x.t.Context(), r)
	x.must(err)
	r.Wait(x.t.Context(), j.ID)
	r.Close()
	files.Store = x.store
	_, r = x.purging(files)
	defer r.Close()
	if at%2 == 0 {
		r.Cancel(x.t.Context(), j.ID) // in vain where it has come to its end
		x.purgeOver(x.t, files)
		return files, dying.Dead()
	}
	x.must(r.Resume(x.t.Context()))
	await(x.t, r, j.ID)
	return files, dying.Dead()
}

// A thread that is marked in one run and removed in a later one is scrubbed after then.
func TestAScrubComesAfterTheRowsHoweverLateTheyGo(t *testing.T) {
	x := newPlain(t, 6)
	x.must(second(x.BeginEncrypting(t.Context(), nil)))
	files := &scrubStore{Store: x.store, x: x}
	kms := &forbidding{x.kms, x.meta().KMS.KeyID}
	x.drop(t, x.thread)
	x.keep(t, boss, 1, 0)
	x.pass(2 * day)
	for _, want := range []int{0, 3} {
		s := New(Config{Store: files, KMS: kms, Gate: x.asked, Now: x.now})
		r := job.New(job.Config{Store: x.store, Kinds: []job.Kind{s.PurgeKind()}, Holder: "test"})
		j, err := s.StartPurge(t.Context(), r)
		x.must(err)
		await(t, r, j.ID)
		r.Close()
		if len(files.calls) != want || want > 0 && len(files.inClear) > 0 {
			t.Errorf("scrubs began at %q, with %q in clear", files.calls, files.inClear)
		}
		kms.keyID = ""
	}
}

func TestAScrubThatHasToWaitIsTriedAgain(t *testing.T) {
	x := newPlain(t, 3)
	x.drop(t, x.thread)
	x.keep(t, boss, 1, 0)
	x.pass(2 * day)
	files := &scrubStore{Store: x.store, x: x, fails: fault.New(fault.Unavailable, "in use")}
	x.purgeOver(t, files)
	if want := []string{"", "", "one", "two"}; !slices.Equal(files.calls, want) {
		t.Errorf("scrubs began at %q", files.calls)
	}
}

// TestNoFileHoldsWhatWasPurgedInClear looks for canaries in every file of a store.
func TestNoFileHoldsWhatWasPurgedInClear(t *testing.T) {
	dir := t.TempDir()
	rows, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x := &shift{world: newWorldOn(rows), t: t}
	x.Service = x.plainServer()
	var aged, gone []string
	for _, ids := range []*[]string{&aged, &gone} {
		x.thread = x.world.thread(t, owner, "t").ID
		for i := range 200 {
			id := x.say(t, x.thread, canary+strings.Repeat("x", i%10/9<<16)) // one of ten is large
			x.touch(t, x.thread, id)
			*ids = append(*ids, id)
		}
		x.drop(t, x.thread, (*ids)[0])
	}
	x.drop(t, x.thread) // the second
	if len(filesWith(t, dir, canary)) == 0 {
		t.Fatal("no file holds the canary before; the test would prove nothing")
	}
	x.keep(t, boss, 1, 1)
	x.pass(2 * day)
	x.purgeOver(t, rows)
	for what, ids := range map[string][]string{"old messages": aged, "a deleted thread": gone} {
		for _, id := range []string{ids[0], ids[len(ids)-1]} {
			if left := x.rowsOf(t, "msg:"+id); len(left) > 0 {
				t.Errorf("%s: left are %q", what, left)
			}
		}
	}
	if files := filesWith(t, dir, canary); len(files) > 0 {
		t.Errorf("%q hold the canary", files)
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	if files := filesWith(t, dir, canary); len(files) > 0 {
		t.Errorf("of the closed store %q hold the canary", files)
	}
}
