package thread

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
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
	return w.purgeOver(t, w.store)
}

// purgeOver runs a purge over s.
func (w *world) purgeOver(t testing.TB, s store.Store) job.Job {
	t.Helper()
	threads, r := w.purging(s)
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
	w.commitAll(t, b)
	return len(b.Writes)
}

// commitAll commits b behind the Service's back.
func (w *world) commitAll(t testing.TB, b store.Batch) {
	t.Helper()
	if _, err := w.store.Store.Commit(context.Background(), &b); err != nil {
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

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
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
