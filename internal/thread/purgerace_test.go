package thread

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Whoever changes a message, or the thread, while it is purged, is before that or
// finds it gone; nothing of it is left over.
func TestAPurgeMeetsChangesOfWhatItPurges(t *testing.T) {
	ctx := t.Context()
	for name, do := range map[string]func(w *world, thread, id string) error{
		"edit": func(w *world, thread, id string) error {
			_, err := w.EditMessage(ctx, owner, thread, id, api.EditMessage{Body: quoted("again")})
			return err
		},
		"reaction": func(w *world, thread, id string) error {
			_, err := w.React(ctx, owner, thread, id, api.Reaction{Reaction: "late"})
			return err
		},
		"deletion": func(w *world, thread, id string) error { return w.DeleteMessage(ctx, owner, thread, id) },
		"count":    func(w *world, thread, id string) error { _, err := w.Count(ctx, owner, thread); return err },
		"post": func(w *world, thread, id string) error {
			_, err := w.Post(ctx, owner, thread, api.PostMessage{Body: quoted("a"), TS: 3})
			return err
		},
		"deleted thread": func(w *world, thread, id string) error { return w.Delete(ctx, owner, thread) },
		"policy": func(w *world, thread, id string) error {
			_, err := w.SetRetention(ctx, boss, api.Retention{MessageDays: 9000})
			return err
		},
		"DEK": func(w *world, thread, id string) error {
			m, err := w.record(ctx, thread)
			if err == nil {
				_, err = w.beginMoving(ctx, m)
			}
			return err
		},
	} {
		for _, late := range []bool{false, true} {
			w := newWorld(t)
			th := w.thread(t, owner, "t")
			id := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("old"), TS: w.clock.Load()}).ID
			w.touch(t, th.ID, id)
			w.keep(t, boss, 0, 1)
			w.pass(day + time.Second)
			takes := func(wr store.Write) bool { return wr.Delete && strings.Contains(wr.Key, id) }
			if !late {
				w.purgeOver(t, w.meeting(takes, func() {
					if err := do(w, th.ID, id); err != nil {
						t.Errorf("%s before the purge: %v", name, err)
					}
				}))
			} else { // read before, committed after
				w.store.beforeCommit = func() error {
					w.store.beforeCommit = nil
					w.purgeOver(t, w.store.Store)
					return nil
				}
				if err := do(w, th.ID, id); err != nil && !errors.Is(err, fault.NotFound) {
					t.Errorf("%s after the purge: %v", name, err)
				}
			}
			w.whole(t)
			if name == "policy" {
				continue // without the message, or with it
			}
			w.purge(t)
			if rows := slices.DeleteFunc(w.rowsOf(t, id), func(key string) bool { return strings.Contains(key, ":change:") || strings.HasPrefix(key, "gone:") }); len(rows) != 0 {
				t.Errorf("%s, late %v: left are %q", name, late, rows)
			}
		}
	}
}

func TestAPolicyThatIsWithdrawnPurgesNothingMore(t *testing.T) {
	for name, days := range map[string][2]int{"thread": {1, 0}, "message": {0, 1}, "deleted message": {1, 0}} {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		w.talk(t, th.ID)
		if name == "thread" {
			w.drop(t, th.ID)
		}
		w.keep(t, boss, days[0], days[1])
		w.pass(day + time.Second)
		before := w.rowsOf(t, th.ID)
		withdrawn := false
		takes := func(wr store.Write) bool { return strings.Contains(wr.Key, th.ID) }
		w.purgeOver(t, w.meeting(takes, func() { withdrawn = true; w.keep(t, boss, 0, 0) }))
		w.purge(t)
		if after := w.rowsOf(t, th.ID); !withdrawn || !slices.Equal(after, before) {
			t.Errorf("%s: the policy was withdrawn: %v; %d of %d rows are left", name, withdrawn, len(after), len(before))
		}
	}
}

func TestACountIsRightAfterAPurge(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	old := w.crowd(t, th.ID, maxBehind+10)
	w.say(t, th.ID, "young")
	w.counted(t, th.ID, len(old)+1)
	if c := w.countRow(t, th.ID); c.N != len(old) {
		t.Fatalf("the count is %+v; the test needs one of all that is old", c)
	}
	w.keep(t, boss, 0, 1)
	w.purge(t)
	if c := w.countRow(t, th.ID); c.N != 0 {
		t.Errorf("the count is %+v", c)
	}
	w.counted(t, th.ID, 1)
}

// Who counts while a thread is purged leaves no row of it: neither the first count of
// a thread nor one that goes on.
func TestACountThatMeetsAPurgeLeavesNothing(t *testing.T) {
	for _, counts := range []int{0, 1} {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		w.crowd(t, th.ID, maxBehind+10)
		w.keep(t, boss, 1, 0)
		for range counts {
			w.counted(t, th.ID, maxBehind+10)
			var b store.Batch
			for i := range maxBehind + 1 {
				b.Put(layout.Message(th.ID, layout.MessageID(int64(1_000_000_000+i), 0)), []byte("x"))
			}
			w.commitAll(t, b)
		}
		w.store.beforeCommit = func() error {
			w.store.beforeCommit = nil
			w.drop(t, th.ID)
			w.pass(2 * day)
			w.purgeOver(t, w.store.Store)
			return nil
		}
		w.Count(t.Context(), owner, th.ID) // whatever it answers
		if left := w.rowsOf(t, th.ID); w.store.beforeCommit != nil || len(left) > 0 {
			t.Errorf("after %d counts: left are %q", counts, left)
		}
	}
}
