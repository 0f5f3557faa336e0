package thread

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
)

// Who follows a thread hears up to where its messages are purged, now and when he
// comes again; of what was deleted he has heard.
func TestWhoFollowsHearsOfAPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		th, held, gone := w.thread(t, owner, "t"), w.thread(t, owner, "held"), w.thread(t, owner, "gone")
		for _, id := range []string{th.ID, held.ID, gone.ID} {
			w.talk(t, id)
		}
		old := ids(w.list(t, owner, th.ID, MessageQuery{}).Messages)
		w.bulk(t, th.ID, 1, purgeRows) // more than one batch
		w.hold(t, held.ID)
		w.drop(t, gone.ID)
		w.pass(2 * day)
		young := w.say(t, th.ID, "young")
		w.keep(t, boss, 1, 1)
		from := changeAt(w.tick())
		w.pass(2 * lookBack)
		f, other := follow(t, w.Service, owner, th.ID, ""), follow(t, w.Service, owner, held.ID, "")
		w.purge(t)
		time.Sleep(pollEvery)
		synctest.Wait()
		live := next(t, f)
		if got := next(t, other); len(got) > 0 {
			t.Errorf("of a thread that is held: %v", idsOf(got))
		}
		again := next(t, follow(t, w.Service, owner, th.ID, from))
		for what, events := range map[string][]Event{"live": live, "again": again} {
			if len(events) > 0 && events[0].Kind == "created" { // from just before
				events = events[1:]
			}
			if len(events) < 2 {
				t.Fatalf("%s: %d events", what, len(events))
			}
			upTo := ""
			for _, e := range events {
				said := decodeAs[api.MessageEvent](t, e.Data)
				if e.Kind != "purged" || said.Thread != th.ID || said.Message != nil || said.MessageID <= upTo {
					t.Errorf("%s: after %q comes %s %s", what, upTo, e.Kind, e.Data)
				}
				upTo = said.MessageID
			}
			if upTo != slices.Max(old) || upTo >= young {
				t.Errorf("%s: the last one is of %s", what, upTo)
			}
		}
		if got := w.rowsOf(t, gone.ID); len(got) != 0 {
			t.Errorf("of the thread that was deleted are left %q", got)
		}
	})
}

// A thread that is deleted nobody follows any more: whoever did finds out with the
// deletion, not when it is purged.
func TestADeletedThreadIsFollowedByNobody(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.say(t, th.ID, "x")
	f := follow(t, w.Service, owner, th.ID, "")
	w.drop(t, th.ID)
	<-f.News()
	_, err := f.Next(t.Context(), owner)
	wantCode(t, err, fault.NotFound)
	_, err = w.Follow(t.Context(), owner, th.ID, "")
	wantCode(t, err, fault.NotFound)
}
