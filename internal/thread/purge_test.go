package thread

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestAPurgeLeavesNothingOfAThreadAndNoKeyToIt(t *testing.T) {
	w := newWorld(t)
	kept, gone := w.thread(t, owner, "kept"), w.thread(t, owner, "gone")
	w.talk(t, kept.ID)
	w.talk(t, gone.ID)
	w.drop(t, gone.ID)
	key := decodeAs[meta](t, w.get(t, layout.ThreadMeta(gone.ID))).KMS.KeyID
	w.keep(t, boss, 30, 0)

	w.pass(30*day - time.Hour)
	if w.purge(t); len(w.rowsOf(t, gone.ID)) == 0 || w.kms.keys[key] == nil {
		t.Fatal("the thread was purged an hour too early")
	}
	w.pass(time.Hour + time.Second)
	want := w.preview(t, boss)
	w.purge(t)
	if rows := w.rowsOf(t, gone.ID); len(rows) != 0 || w.kms.keys[key] != nil {
		t.Errorf("left are %q, and the DEK: %v", rows, w.kms.keys[key] != nil)
	}
	if n := len(w.list(t, owner, kept.ID, MessageQuery{IncludeDeleted: true}).Messages); n != 4 { // the deleted one was purged
		t.Errorf("the other thread has %d messages", n)
	}
	if (want != api.RetentionPreview{Threads: 1, Messages: 1}) { // the deleted message of the other
		t.Errorf("the preview said %+v", want)
	}
	if got := w.purgedAs(); got["org1"] != "1 1 0" {
		t.Errorf("the trail says %v", got)
	}
	w.whole(t)
	before := w.dump(t)
	if j := w.purge(t); j.Processed != 0 {
		t.Errorf("a second run purged %d", j.Processed)
	}
	for key, row := range before {
		if now := w.dump(t)[key]; now != row && !strings.HasPrefix(key, "retentionrun") {
			t.Errorf("a second run changed %s", key)
		}
	}
}

// Days are of 24 hours, and what is as old as the policy says is purged.
func TestTheDayOfAPurgeIsExact(t *testing.T) {
	for _, c := range []struct {
		age    time.Duration
		purged bool
	}{{7*day - 1, false}, {7 * day, true}, {7*day + 1, true}} {
		w := newWorld(t)
		th, gone := w.thread(t, owner, "t"), w.thread(t, owner, "gone")
		w.drop(t, gone.ID)
		deleted := decodeAs[meta](t, w.get(t, layout.ThreadMeta(gone.ID))).DeletedTS
		id := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("old"), TS: deleted}).ID
		w.keep(t, boss, 7, 7)
		w.clock.Store(deleted + int64(c.age))
		want := api.RetentionPreview{}
		if c.purged {
			want = api.RetentionPreview{Threads: 1, Messages: 1}
		}
		if got := w.preview(t, boss); got != want {
			t.Errorf("%v: the preview says %+v", c.age, got)
		}
		w.purge(t)
		if got := len(w.rowsOf(t, gone.ID)) == 0; got != c.purged {
			t.Errorf("%v: the thread is purged: %v", c.age, got)
		}
		_, err := w.GetMessage(t.Context(), owner, th.ID, id)
		if got := errors.Is(err, fault.NotFound); got != c.purged {
			t.Errorf("%v: the message is purged: %v (%v)", c.age, got, err)
		}
	}
}

func TestAMessageIsPurgedByItsAgeWithAllItsVersionsAndReactions(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.talk(t, th.ID) // four messages and a deleted one
	w.pass(40 * day)
	young := w.say(t, th.ID, "young")
	w.touch(t, th.ID, young)
	foreign, err := w.Create(t.Context(), stranger, api.CreateThread{})
	if err != nil {
		t.Fatal(err)
	}
	w.post(t, stranger, foreign.ID, api.PostMessage{Body: quoted("old"), TS: 1})
	w.keep(t, boss, 0, 30)
	if got := w.preview(t, boss); (got != api.RetentionPreview{Messages: 5}) {
		t.Errorf("the preview says %+v", got)
	}
	w.purge(t)
	if got := ids(w.list(t, owner, th.ID, MessageQuery{IncludeDeleted: true}).Messages); !slices.Equal(got, []string{young}) {
		t.Errorf("left are %v", got)
	}
	if v := decodeAs[api.MessageVersions](t, must(w.ListVersions(t.Context(), owner, th.ID, young, 0, ""))); len(v.Versions) != 2 {
		t.Errorf("the young one has %d versions", len(v.Versions))
	}
	if n, err := w.Count(t.Context(), owner, th.ID); n != 1 || err != nil {
		t.Errorf("the thread counts %d messages, %v", n, err)
	}
	if n := len(w.list(t, stranger, foreign.ID, MessageQuery{}).Messages); n != 1 {
		t.Error("another org's message was purged")
	}
	w.whole(t)
	if got := w.purgedAs(); !maps.Equal(got, map[string]string{"org1": "0 5 0"}) {
		t.Errorf("the trail says %v", got)
	}
}

// Under a policy for messages the messages of a deleted thread grow old, too.
func TestOldMessagesOfADeletedThreadArePurged(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.talk(t, th.ID)
	w.drop(t, th.ID)
	w.pass(31 * day)
	w.keep(t, boss, 0, 30)
	want := w.preview(t, boss)
	w.purge(t)
	for _, kind := range rowKinds {
		for _, key := range w.rowsOf(t, th.ID) {
			if strings.HasPrefix(key, layout.ThreadRow(th.ID, kind)) {
				t.Errorf("left is %s", key)
			}
		}
	}
	if (want != api.RetentionPreview{Messages: 5}) || w.purgedAs()["org1"] != "0 5 0" {
		t.Errorf("the preview said %+v", want)
	}
	if len(w.rowsOf(t, th.ID)) == 0 {
		t.Error("the thread itself was purged")
	}
}

func TestAMessageOfAnyAgeIsPurgedSomeTimeAfterItsDeletion(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	id, live := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 5}).ID, w.say(t, th.ID, "live")
	w.touch(t, th.ID, id)
	w.drop(t, th.ID, id)
	w.keep(t, boss, 10, 0)
	w.pass(10*day + time.Second)
	w.purge(t)
	if got := ids(w.list(t, owner, th.ID, MessageQuery{IncludeDeleted: true}).Messages); !slices.Equal(got, []string{live}) {
		t.Errorf("left are %v", got)
	}
	if rows := w.rowsOf(t, id); len(rows) != 0 {
		t.Errorf("left are %q", rows)
	}
}

func TestAMessageWithMoreVersionsThanABatchIsPurged(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	id := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 1}).ID
	var b store.Batch
	for i := range 3*purgeRows + 7 {
		b.Put(pastRow(id, i+1).key(th.ID), []byte("x"))
	}
	w.commitAll(t, b)
	w.keep(t, boss, 0, 1)
	if got := w.preview(t, boss); got.Messages != 1 {
		t.Errorf("%+v", got)
	}
	w.purge(t)
	if got := w.rowsOf(t, "past:"+id); len(got) != 0 || w.purgedAs()["org1"] != "0 1 0" {
		t.Errorf("left are %d versions", len(got))
	}
}

func TestAThreadThatWasDeletedBeforeThereWasAnIndexIsPurged(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.talk(t, th.ID)
	w.drop(t, th.ID)
	deleted := decodeAs[meta](t, w.get(t, layout.ThreadMeta(th.ID))).DeletedTS
	var b store.Batch
	b.Delete(layout.Gone("org1", deleted, th.ID, ""))
	w.commitAll(t, b)
	w.keep(t, boss, 1, 0)
	w.pass(day + time.Second)
	if w.purge(t); len(w.rowsOf(t, th.ID)) != 0 {
		t.Errorf("left are %q", w.rowsOf(t, th.ID))
	}
}

// An entry that somebody put into the index of his org says nothing about another's
// thread, nor about one that is not deleted.
func TestAnIndexEntryPurgesNothingThatTheRecordDoesNotSay(t *testing.T) {
	for _, days := range [][2]int{{1, 1}, {1, 0}, {0, 1}} {
		w := newWorld(t)
		th, gone := w.thread(t, owner, "t"), w.thread(t, owner, "gone")
		deleted := w.say(t, th.ID, "deleted")
		w.say(t, th.ID, "x")
		w.say(t, gone.ID, "y")
		w.drop(t, th.ID, deleted)
		w.drop(t, gone.ID)
		w.keep(t, other, days[0], days[1])
		for _, key := range []string{
			layout.Gone("org2", 1, th.ID, ""), layout.Gone("org2", 1, th.ID, deleted),
			layout.Gone("org2", 1, gone.ID, ""), layout.OrgThread("org2", "x", 1, th.ID),
		} {
			w.overwrite(t, key, nil)
		}
		w.pass(10 * day)
		if got := w.preview(t, other); (got != api.RetentionPreview{}) {
			t.Errorf("%v: the preview says %+v", days, got)
		}
		rows := func() []string {
			return slices.DeleteFunc(w.rowsOf(t, layout.Threads()), func(key string) bool { return strings.Contains(key, ":change:") })
		}
		before := rows()
		w.purge(t)
		if after := rows(); !slices.Equal(before, after) || len(w.kms.keys) != 2 {
			t.Errorf("%v: of %d rows of another org's are left %d, of 2 DEKs %d", days, len(before), len(after), len(w.kms.keys))
		}
		if m := decodeAs[meta](t, w.get(t, layout.ThreadMeta(gone.ID))); m.Purge != nil {
			t.Errorf("%v: another org's thread is being purged", days)
		}
	}
}

// What a run reads grows with what it purges, not with the messages that there are.
func TestAPurgeReadsNoMessageThatStays(t *testing.T) {
	scanned := func(young int) int64 {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		w.bulk(t, th.ID, 1, 10)
		w.bulk(t, th.ID, w.clock.Load(), young)
		w.keep(t, boss, 0, 1)
		w.store.reset()
		w.purge(t)
		return w.store.scanned.Load()
	}
	if few, many := scanned(10), scanned(5000); many > few+10 {
		t.Errorf("%d rows were read beside 10 messages, %d beside 5000", few, many)
	}
}
