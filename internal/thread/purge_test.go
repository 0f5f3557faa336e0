package thread

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// boss runs org1, other runs org2.
var (
	boss  = access.Principal{Kind: access.User, ID: "0198aaaa-0000-7000-8000-00000000b055", OrgID: "org1", Role: access.Owner}
	other = access.Principal{Kind: access.User, ID: boss.ID, OrgID: "org2", Role: access.Owner}
)

const day = 24 * time.Hour

func (w *world) pass(d time.Duration) { w.clock.Add(int64(d)) }

// keep sets the policy of p's org.
func (w *world) keep(t testing.TB, p access.Principal, deleted, messages int) {
	t.Helper()
	if _, err := w.SetRetention(t.Context(), p, api.Retention{DeletedDays: deleted, MessageDays: messages}); err != nil {
		t.Fatal(err)
	}
	w.asked.WasDone()
}

// purging is a runner of purges over s.
func (w *world) purging(s store.Store) (*Service, *job.Runner) {
	threads := New(Config{Store: s, KMS: w.kms, Gate: w.asked, Now: func() time.Time { return time.Unix(0, w.clock.Load()) }})
	return threads, job.New(job.Config{Store: s, Kinds: []job.Kind{threads.PurgeKind()}, Holder: "test"})
}

// purge runs a purge to its end.
func (w *world) purge(t testing.TB) job.Job {
	t.Helper()
	threads, r := w.purging(w.store)
	defer r.Close()
	j, err := threads.StartPurge(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if j = await(t, r, j.ID); j.Status != job.Completed || j.Failed != 0 {
		t.Errorf("the run ended as %+v", j)
	}
	return j
}

func (w *world) preview(t testing.TB, p access.Principal) api.RetentionPreview {
	t.Helper()
	out, err := w.PreviewRetention(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// drop deletes a thread, or a message of it.
func (w *world) drop(t testing.TB, thread string, messages ...string) {
	t.Helper()
	var err error
	if len(messages) == 0 {
		err = w.Delete(t.Context(), owner, thread)
	}
	for _, id := range messages {
		err = errors.Join(err, w.DeleteMessage(t.Context(), owner, thread, id))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// touch edits a message and reacts to it.
func (w *world) touch(t testing.TB, thread, id string) {
	t.Helper()
	_, err := w.EditMessage(t.Context(), owner, thread, id, api.EditMessage{Body: quoted("edited")})
	if err == nil {
		_, err = w.React(t.Context(), owner, thread, id, api.Reaction{Reaction: "ok"})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// talk fills a thread with messages of every kind: plain, edited, reacted to,
// deleted, sent with a key.
func (w *world) talk(t testing.TB, thread string) {
	t.Helper()
	for range 3 {
		w.touch(t, thread, w.say(t, thread, "a message"))
	}
	gone := w.say(t, thread, "deleted")
	w.touch(t, thread, gone)
	w.drop(t, thread, gone)
	if _, err := w.PostWith(t.Context(), owner, thread, api.PostMessage{Body: quoted("once")}, PostOptions{IdempotencyKey: "k"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Count(t.Context(), owner, thread); err != nil {
		t.Fatal(err)
	}
}

// rowsOf are the keys of the store in which id is.
func (w *world) rowsOf(t testing.TB, id string) (keys []string) {
	t.Helper()
	for key := range w.dump(t) {
		if strings.Contains(key, id) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// whole fails the test when there is a version or a reaction without its message.
func (w *world) whole(t testing.TB) {
	t.Helper()
	all := w.dump(t)
	for key := range all {
		rest, ok := strings.CutPrefix(key, layout.Threads())
		if !ok {
			continue
		}
		thread, name, _ := strings.Cut(rest, ":")
		if all[layout.ThreadMeta(thread)] == "" {
			t.Errorf("%s: its thread has no record", key)
		}
		n := rowName(name)
		if kind, _, _ := strings.Cut(name, ":"); kind == "past" || kind == "react" {
			if all[newestRow(n.message()).key(thread)] == "" && all[deletedRow(n.message()).key(thread)] == "" {
				t.Errorf("%s: its message is gone", key)
			}
		}
	}
}

// purgedAs is what the trail was told of runs, by org: threads, messages and held.
func (w *world) purgedAs() map[string]string {
	out := map[string]string{}
	for _, e := range w.asked.WasDone() {
		if d := e.Resource.Details; e.Resource.As == "retention.purge" {
			out[e.Resource.OrgID] = strings.Join([]string{d["threads"], d["messages"], d["held"]}, " ")
		}
	}
	return out
}

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

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
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

func TestAThreadThatWasDeletedBeforeThereWasAnIndexIsPurged(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.talk(t, th.ID)
	w.drop(t, th.ID)
	deleted := decodeAs[meta](t, w.get(t, layout.ThreadMeta(th.ID))).DeletedTS
	var b store.Batch
	b.Delete(layout.Gone("org1", deleted, th.ID, ""))
	if _, err := w.store.Store.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	w.keep(t, boss, 1, 0)
	w.pass(day + time.Second)
	if w.purge(t); len(w.rowsOf(t, th.ID)) != 0 {
		t.Errorf("left are %q", w.rowsOf(t, th.ID))
	}
}

// bulk puts n rows of each kind into a thread, as the store has them, and returns
// how many rows that are.
func (w *world) bulk(t testing.TB, thread string, ts int64, n int) int {
	t.Helper()
	var b store.Batch
	for i := range n {
		id := layout.MessageID(ts, i)
		b.Put(newestRow(id).key(thread), []byte("x"))
		b.Put(pastRow(id, 1).key(thread), []byte("x"))
		b.Put(reactionsRow(id).key(thread), []byte("x"))
		b.Put(layout.ThreadRow(thread, "change:"+id), []byte("created "+id))
	}
	if _, err := w.store.Store.Commit(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return len(b.Writes)
}

// TestAPurgeSurvivesEveryCommit stops the store at every commit of a run, with its
// effect and without, and the KMS keeps a DEK that has rows as long as they are
// not marked.
func TestAPurgeSurvivesEveryCommit(t *testing.T) {
	last := 0
	for at := 2; at == 2 || last == at-1; at++ {
		for _, takes := range []bool{false, true} {
			w := newWorld(t)
			gone, aged, held := w.thread(t, owner, "gone"), w.thread(t, owner, "aged"), w.thread(t, owner, "held")
			for _, th := range []api.Thread{gone, aged, held} {
				w.talk(t, th.ID)
				w.bulk(t, th.ID, 1, 400)
			}
			w.drop(t, gone.ID)
			w.drop(t, held.ID)
			if _, err := w.Hold(t.Context(), boss, held.ID, api.PutHold{}); err != nil {
				t.Fatal(err)
			}
			keys := len(w.kms.keys)
			w.keep(t, boss, 2, 2)
			w.pass(2*day + time.Second)
			young := w.say(t, aged.ID, "young")
			dead := &storetest.DyingStore{Store: w.store.Store, At: at, Takes: takes}
			threads, r := w.purging(dead)
			j, err := threads.StartPurge(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			r.Wait(t.Context(), j.ID) // until the end, or until the store is gone
			r.Close()
			if dead.Dead() {
				last = at
			}
			if at%2 == 0 { // the job goes on, or is forgotten and another takes its place
				var b store.Batch
				job.Forget(&b, j.ID)
				if _, err := w.store.Store.Commit(t.Context(), &b); err != nil {
					t.Fatal(err)
				}
				w.purge(t)
			} else {
				_, r = w.purging(w.store)
				if err := r.Resume(t.Context()); err != nil {
					t.Fatal(err)
				}
				if j = await(t, r, j.ID); j.Status != job.Completed {
					t.Fatalf("commit %d: %+v", at, j)
				}
				r.Close()
			}
			if rows := w.rowsOf(t, gone.ID); len(rows) != 0 || len(w.kms.keys) != keys-1 {
				t.Fatalf("commit %d, took effect %v: left are %d rows, and of %d DEKs %d", at, takes, len(rows), keys, len(w.kms.keys))
			}
			if got := ids(w.list(t, owner, aged.ID, MessageQuery{IncludeDeleted: true}).Messages); !slices.Equal(got, []string{young}) {
				t.Fatalf("commit %d: of the old messages are left %d", at, len(got)-1)
			}
			if n := len(w.rowsOf(t, held.ID)); n < 3*400 {
				t.Fatalf("commit %d: of the held thread are left %d rows", at, n)
			}
			w.whole(t)
		}
	}
	if last < 12 {
		t.Errorf("the run had %d commits", last)
	}
}

// The DEK goes first: while the KMS has not destroyed it no row is removed, and a
// run that waits for the KMS goes on by itself.
func TestNoRowOfAThreadIsRemovedBeforeItsDEKIsDestroyed(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.talk(t, th.ID)
	w.bulk(t, th.ID, 1, 2*purgeRows) // more than one batch
	w.drop(t, th.ID)
	w.keep(t, boss, 1, 0)
	w.pass(day + time.Second)
	w.purgeRowsAreThere(t, th.ID)
}

// purgeRowsAreThere runs a purge while the KMS is away, and then with it.
func (w *world) purgeRowsAreThere(t *testing.T, thread string) {
	t.Helper()
	rows := func() (out []string) {
		for _, key := range w.rowsOf(t, thread) {
			if strings.Contains(key, ":msg:") || strings.Contains(key, ":past:") || strings.Contains(key, ":meta") {
				out = append(out, key)
			}
		}
		return out
	}
	before := rows()
	asked := make(chan struct{})
	w.kms.fail = fault.New(fault.Unavailable, "away")
	tries := 0
	w.kms.before = func() {
		if tries++; tries == 3 {
			close(asked)
		}
	}
	threads, r := w.purging(w.store)
	defer r.Close()
	j, err := threads.StartPurge(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	r.Close()
	if got := rows(); !slices.Equal(got, before) {
		t.Errorf("rows were removed: %d of %d are left", len(got), len(before))
	}
	m := decodeAs[meta](t, w.get(t, layout.ThreadMeta(thread)))
	if m.Purge == nil || !m.KMS.plain() || len(m.KMS.WrappedDEK) != 0 {
		t.Errorf("the record is %+v", m)
	}
	if _, err := w.Hold(t.Context(), boss, thread, api.PutHold{}); !errors.Is(err, fault.NotFound) {
		t.Errorf("a hold on a thread that is being purged: %v", err)
	}
	// The policy is withdrawn, and what was begun is ended nevertheless.
	w.keep(t, boss, 0, 0)
	w.kms.fail, w.kms.before = nil, nil
	_, r = w.purging(w.store)
	defer r.Close()
	if _, err := r.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	if w.purge(t); len(w.rowsOf(t, thread)) != 0 {
		t.Errorf("left are %q", w.rowsOf(t, thread))
	}
}

func TestAThreadThatIsReencryptedLosesBothItsDEKs(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.talk(t, th.ID)
	m, err := w.record(t.Context(), th.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.beginMoving(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.say(t, th.ID, "under the new one")
	w.drop(t, th.ID)
	w.keep(t, boss, 1, 0)
	w.pass(day + time.Second)
	if w.purge(t); len(w.kms.keys) != 0 || len(w.rowsOf(t, th.ID)) != 0 {
		t.Errorf("%d DEKs and %d rows are left", len(w.kms.keys), len(w.rowsOf(t, th.ID)))
	}
}

// meeting has do done, once, before the next commit that changes the store in which
// a write matches.
func (w *world) meeting(matches func(store.Write) bool, do func()) store.Store {
	return &betweenStore{Store: w.store.Store, matches: matches, do: do}
}

type betweenStore struct {
	store.Store
	matches func(store.Write) bool
	do      func()
}

func (s *betweenStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if s.do != nil && slices.ContainsFunc(b.Writes, s.matches) {
		do := s.do
		s.do = nil
		do()
	}
	return s.Store.Commit(ctx, b)
}

func (w *world) purgeOver(t testing.TB, s store.Store) {
	t.Helper()
	threads, r := w.purging(s)
	defer r.Close()
	j, err := threads.StartPurge(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if j = await(t, r, j.ID); j.Status != job.Completed {
		t.Errorf("%+v", j)
	}
}

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
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.say(t, th.ID, "old")
	w.drop(t, th.ID)
	w.keep(t, boss, 1, 0)
	w.pass(day + time.Second)
	before := len(w.rowsOf(t, th.ID))
	marks := func(wr store.Write) bool { return wr.Key == layout.ThreadMeta(th.ID) }
	w.purgeOver(t, w.meeting(marks, func() { w.keep(t, boss, 0, 0) }))
	if n := len(w.rowsOf(t, th.ID)); n != before {
		t.Errorf("%d of %d rows are left", n, before)
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

func TestAPreviewThatHasSeenAMillionRowsSaysSo(t *testing.T) {
	w := newWorld(t)
	s := &endlessStore{Store: w.store.Store}
	w.Service = New(Config{Store: s, KMS: w.kms, Gate: w.asked})
	if _, err := w.SetRetention(t.Context(), boss, api.Retention{DeletedDays: 1}); err != nil {
		t.Fatal(err)
	}
	if got := w.preview(t, boss); !got.Partial {
		t.Errorf("%+v", got)
	}
}

// endlessStore has deleted messages without end.
type endlessStore struct {
	store.Store
	next int
}

func (s *endlessStore) Scan(_ context.Context, r store.Range, opt store.ScanOptions) (recs []store.Record, _ error) {
	for range opt.Max() {
		s.next++
		recs = append(recs, store.Record{Key: layout.Gone("org1", int64(s.next), "0198aaaa-0000-7000-8000-000000000001", layout.MessageID(1, 0))})
	}
	return recs, nil
}

func TestAMessageWithMoreVersionsThanABatchIsPurged(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	id := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 1}).ID
	var b store.Batch
	for i := range 3*purgeRows + 7 {
		b.Put(pastRow(id, i+1).key(th.ID), []byte("x"))
	}
	if _, err := w.store.Store.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	w.keep(t, boss, 0, 1)
	if got := w.preview(t, boss); got.Messages != 1 {
		t.Errorf("%+v", got)
	}
	w.purge(t)
	if got := w.rowsOf(t, "past:"+id); len(got) != 0 || w.purgedAs()["org1"] != "0 1 0" {
		t.Errorf("left are %d versions", len(got))
	}
}

// A rewrap and a rotation of the DEK leave a thread alone that is being purged.
func TestAThreadThatIsPurgedIsNotRewrappedNorReencrypted(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.say(t, th.ID, "x")
	w.drop(t, th.ID)
	w.editMeta(t, th.ID, func(m *meta) { m.Purge, m.KMS = &purging{Since: 1, DEKs: m.deks()}, kmsMeta{} })
	before := w.get(t, layout.ThreadMeta(th.ID))
	if j := w.rewrap(t, true); j.Failed != 0 {
		t.Errorf("the rewrap says %+v", j)
	}
	if _, _, err := w.RotateDEK(t.Context(), nil, th.ID); !errors.Is(err, fault.NotFound) {
		t.Errorf("RotateDEK: %v", err)
	}
	if string(w.get(t, layout.ThreadMeta(th.ID))) != string(before) {
		t.Error("the record was changed")
	}
}

// TestAPreviewSaysWhatARunPurges compares them over many stores.
func TestAPreviewSaysWhatARunPurges(t *testing.T) {
	for seed := range 40 {
		w := newWorldOn(memstore.New())
		w.mess(t, seed)
		for _, p := range []access.Principal{boss, other} {
			w.keep(t, p, seed%3*5, (seed+1)%4*5)
		}
		before := w.dump(t)
		want := map[string]string{}
		for _, p := range []access.Principal{boss, other} {
			if v := w.preview(t, p); v.Threads+v.Messages > 0 {
				want[p.OrgID] = fmt.Sprint(v.Threads, v.Messages, v.Held)
			}
		}
		w.unchanged(t, before)
		w.asked.WasDone()
		w.purge(t)
		if got := w.purgedAs(); !maps.Equal(got, want) {
			t.Errorf("seed %d: the previews said %v, the run purged %v", seed, want, got)
		}
		w.whole(t)
	}
}

// mess makes threads and messages of many ages, deleted and held ones, by seed.
func (w *world) mess(t *testing.T, seed int) {
	for i := range 6 {
		p := owner
		if (seed+i)%3 == 0 {
			p = stranger
		}
		th := w.thread(t, p, "t")
		for k := range 3 {
			m := w.post(t, p, th.ID, api.PostMessage{Body: quoted("x")})
			if (seed>>k+i)%2 == 0 {
				if err := w.DeleteMessage(t.Context(), p, th.ID, m.ID); err != nil {
					t.Fatal(err)
				}
			}
			w.pass(time.Duration((seed+i+k)%4) * day)
		}
		if (seed+i)%2 == 0 {
			if err := w.Delete(t.Context(), p, th.ID); err != nil {
				t.Fatal(err)
			}
		}
		if (seed+i)%5 == 0 {
			if _, err := w.Hold(t.Context(), access.Principal{Kind: access.User, ID: "x", OrgID: p.OrgID, Role: access.Admin}, th.ID, api.PutHold{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
