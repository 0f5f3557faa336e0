package thread

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func (w *world) edit(t testing.TB, p access.Principal, thread, id, text string) api.Message {
	t.Helper()
	raw, err := w.EditMessage(t.Context(), p, thread, id, api.EditMessage{Body: quoted(text)})
	if err != nil {
		t.Fatal(err)
	}
	return decodeAs[api.Message](t, raw)
}

func (w *world) unsay(t testing.TB, thread, id string) {
	t.Helper()
	if err := w.DeleteMessage(t.Context(), owner, thread, id); err != nil {
		t.Fatal(err)
	}
}

func (w *world) react(t testing.TB, p access.Principal, thread, id, sign string) {
	t.Helper()
	if _, err := w.React(t.Context(), p, thread, id, api.Reaction{Reaction: sign}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) versionsOf(t testing.TB, p access.Principal, thread, id string) api.MessageVersions {
	t.Helper()
	raw, err := w.ListVersions(context.Background(), p, thread, id, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	return decodeAs[api.MessageVersions](t, raw)
}

// share lets others write in a thread.
func (w *world) share(t testing.TB, thread string, others ...access.Principal) {
	t.Helper()
	w.editMeta(t, thread, func(m *meta) {
		for _, p := range others {
			m.Parts = append(m.Parts, participant{p.ID, p.Kind == access.EndUser, access.Writer})
		}
	})
}

// texts are the bodies of messages.
func texts(msgs []api.Message) (out []string) {
	for _, m := range msgs {
		out = append(out, string(m.Body))
	}
	return out
}

func TestAnEditKeepsWhatIsNotSentToTheByte(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	to := w.say(t, th.ID, "to")
	for _, body := range bodies {
		posted, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: json.RawMessage(body), ReplyTo: to})
		if err != nil {
			t.Fatal(err)
		}
		id := decodeAs[api.Message](t, posted).ID
		edited, err := w.EditMessage(t.Context(), owner, th.ID, id, api.EditMessage{Role: "tool"})
		if err != nil {
			t.Fatalf("%.40s: %v", body, err)
		}
		m := decodeAs[api.Message](t, edited)
		want := bytes.Replace(posted[:len(posted)-1], []byte(`"role":"user"`), []byte(`"role":"tool"`), 1)
		want = fmt.Appendf(want, `,"version":2,"updated_ts":%d}`, m.UpdatedTS)
		if got, err := w.GetMessage(t.Context(), owner, th.ID, id); err != nil || !bytes.Equal(edited, want) || !bytes.Equal(got, want) {
			t.Errorf("%.40s: edited to %.200s, want %.200s, %v", body, edited, want, err)
		}
		// And back again, to any other body: the versions have the bytes of each.
		if _, err := w.EditMessage(t.Context(), owner, th.ID, id, api.EditMessage{Body: json.RawMessage(bodies[12])}); err != nil {
			t.Fatal(err)
		}
		raw, err := w.ListVersions(t.Context(), owner, th.ID, id, 0, "")
		if err != nil || !bytes.HasPrefix(raw, fmt.Appendf(nil, `{"id":"%s","versions":[%s,%s,{`, id, posted, want)) || !bytes.Contains(raw, []byte(`"body":`+bodies[12]+`,"reply_to"`)) {
			t.Errorf("%.40s: versions %.300s, %v", body, raw, err)
		}
	}
}

func TestAnEditIsANewVersion(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	first := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("a"), TS: 7})
	to := w.say(t, th.ID, "to")
	w.clock.Add(5)
	raw, err := w.EditMessage(t.Context(), owner, th.ID, first.ID, api.EditMessage{Body: quoted("b"), Role: "tool", ReplyTo: to})
	if err != nil {
		t.Fatal(err)
	}
	second := decodeAs[api.Message](t, raw)
	want := api.Message{ID: first.ID, Thread: th.ID, Author: owner.ID, Role: "tool", TS: 7, Body: quoted("b"), ReplyTo: to, Version: 2, UpdatedTS: second.UpdatedTS}
	if diff := cmp.Diff(want, second); diff != "" || second.UpdatedTS < w.clock.Load() {
		t.Error(diff)
	}
	third := w.edit(t, owner, th.ID, first.ID, "c")
	if third.Version != 3 || third.Role != "tool" || third.ReplyTo != to || third.UpdatedTS <= second.UpdatedTS {
		t.Errorf("third version: %+v", third)
	}
	if diff := cmp.Diff([]api.Message{first, second, third}, w.versionsOf(t, owner, th.ID, first.ID).Versions); diff != "" {
		t.Error(diff)
	}
	if got := w.list(t, owner, th.ID, MessageQuery{}).Messages; cmp.Diff(third, got[0]) != "" || len(got) != 2 {
		t.Errorf("the list: %v", got)
	}
}

func TestAWrongEditChangesNothing(t *testing.T) {
	w := newWorld(t)
	th, other := w.thread(t, owner, "t"), w.thread(t, owner, "other")
	w.share(t, th.ID, mate)
	id, gone, elsewhere := w.say(t, th.ID, "x"), w.say(t, th.ID, "gone"), w.say(t, other.ID, "y")
	w.unsay(t, th.ID, gone)
	before, calls := w.dump(t), w.kms.calls.Load()
	for name, c := range map[string]struct {
		id   string
		req  api.EditMessage
		want fault.Code
	}{
		"nothing":             {id, api.EditMessage{}, fault.Invalid},
		"null":                {id, api.EditMessage{Body: []byte(`null`)}, fault.Invalid},
		"no body":             {id, api.EditMessage{Body: []byte(``)}, fault.Invalid},
		"no JSON":             {id, api.EditMessage{Body: []byte(`1},"x":{"a":1`)}, fault.Invalid},
		"too large":           {id, api.EditMessage{Body: quoted(strings.Repeat("x", MaxBody-1))}, fault.TooLarge},
		"too deep":            {id, api.EditMessage{Body: nested(MaxDepth + 1)}, fault.Invalid},
		"long role":           {id, api.EditMessage{Role: strings.Repeat("r", MaxRole+1)}, fault.Invalid},
		"role not UTF-8":      {id, api.EditMessage{Role: "\xff"}, fault.Invalid},
		"reply to itself":     {id, api.EditMessage{ReplyTo: id}, fault.Invalid},
		"reply to nothing":    {id, api.EditMessage{ReplyTo: noID}, fault.Invalid},
		"reply to a deletion": {id, api.EditMessage{ReplyTo: gone}, fault.Invalid},
		"reply to elsewhere":  {id, api.EditMessage{ReplyTo: elsewhere}, fault.Invalid},
		"a deletion":          {gone, api.EditMessage{Role: "x"}, fault.NotFound},
		"of another thread":   {elsewhere, api.EditMessage{Role: "x"}, fault.NotFound},
		"no message":          {noID, api.EditMessage{Role: "x"}, fault.NotFound},
		"no ID":               {"../meta", api.EditMessage{Role: "x"}, fault.NotFound},
	} {
		raw, err := w.EditMessage(t.Context(), owner, th.ID, c.id, c.req)
		if !errorIs(err, c.want) || raw != nil {
			t.Errorf("%s: %s, %v", name, raw, err)
		}
	}
	if w.kms.calls.Load() != calls {
		t.Error("the KMS was called for what is not stored")
	}
	_, err := w.EditMessage(t.Context(), mate, th.ID, id, api.EditMessage{Role: "x"})
	wantCode(t, err, fault.Forbidden)
	w.unchanged(t, before)
}

// An org names its end users as it likes: one of the ID of a user is not he.
func TestOnlyTheAuthorEditsAndAnIDAloneIsNoAuthor(t *testing.T) {
	user := owner
	end := access.Principal{Kind: access.EndUser, Role: access.Backend, ID: owner.ID, OrgID: owner.OrgID}
	for name, c := range map[string][2]access.Principal{"a user's": {user, end}, "an end user's": {end, user}} {
		w := newWorld(t)
		mine, guest := c[0], c[1]
		th := w.thread(t, mine, name)
		w.share(t, th.ID, guest, mate)
		ofMine, ofMate := w.post(t, mine, th.ID, api.PostMessage{Body: quoted("x")}), w.post(t, mate, th.ID, api.PostMessage{Body: quoted("y")})
		if ofMine.EndUser != (mine == end) {
			t.Errorf("%s message: end_user %v", name, ofMine.EndUser)
		}
		edit := func(p access.Principal, id string) error {
			return second(w.EditMessage(t.Context(), p, th.ID, id, api.EditMessage{Role: "x"}))
		}
		for _, err := range []error{edit(guest, ofMine.ID), edit(mate, ofMine.ID), edit(mine, ofMate.ID), edit(guest, ofMate.ID), w.DeleteMessage(t.Context(), guest, th.ID, ofMine.ID), w.DeleteMessage(t.Context(), guest, th.ID, ofMate.ID)} {
			if !errorIs(err, fault.Forbidden) {
				t.Errorf("%s thread: %v", name, err)
			}
		}
		for _, err := range []error{edit(mine, ofMine.ID), edit(mate, ofMate.ID), w.DeleteMessage(t.Context(), mine, th.ID, ofMate.ID), w.DeleteMessage(t.Context(), mine, th.ID, ofMine.ID)} {
			if err != nil {
				t.Errorf("%s thread: %v", name, err)
			}
		}
	}
}

func TestAMessageOfBeforeThreadsWereSharedIsItsThreadsAuthors(t *testing.T) {
	end := access.Principal{Kind: access.EndUser, ID: "u1", OrgID: "org1"}
	m := meta{Author: end.ID, EndUser: true}
	old := api.Message{Author: end.ID} // without end_user
	if user := (access.Principal{Kind: access.User, ID: end.ID, OrgID: "org1"}); !m.wrote(end, old) || m.wrote(user, old) {
		t.Error("it is another's")
	}
}

// writes is every call that changes a message, on one that has a reaction.
var writes = map[string]func(*world, context.Context, string, string) error{
	"EditMessage": func(w *world, ctx context.Context, thread, id string) error {
		return second(w.EditMessage(ctx, owner, thread, id, api.EditMessage{Body: quoted("new")}))
	},
	"DeleteMessage": func(w *world, ctx context.Context, thread, id string) error {
		return w.DeleteMessage(ctx, owner, thread, id)
	},
	"React": func(w *world, ctx context.Context, thread, id string) error {
		return second(w.React(ctx, owner, thread, id, api.Reaction{Reaction: "new"}))
	},
	"Unreact": func(w *world, ctx context.Context, thread, id string) error {
		return w.Unreact(ctx, owner, thread, id, "")
	},
}

func TestAChangeThatFailsHasChangedNothing(t *testing.T) {
	for name, write := range writes {
		for cause, want := range map[error]fault.Code{errors.New("disk full"): fault.Internal, store.ErrLimit: fault.TooLarge, store.ErrClosed: fault.Unavailable, nil: fault.Unavailable} {
			w := newWorld(t)
			th := w.thread(t, owner, "t")
			id := w.say(t, th.ID, "x")
			w.react(t, owner, th.ID, id, "+")
			if cause == nil {
				w.kms.fail = errors.New("away")
			}
			w.store.beforeCommit = func() error { return cause }
			before := w.dump(t)
			wantCode(t, write(w, t.Context(), th.ID, id), want)
			w.unchanged(t, before)
			w.kms.fail, w.store.beforeCommit = nil, nil
			if err := write(w, t.Context(), th.ID, id); err != nil {
				t.Errorf("%s, again: %v", name, err)
			}
		}
	}
}

func TestAChangeOfADeletedThreadIsNoChange(t *testing.T) {
	for name, write := range writes {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		id := w.say(t, th.ID, "x")
		w.react(t, owner, th.ID, id, "+")
		var before map[string]string
		w.store.beforeCommit = func() error {
			w.store.beforeCommit = nil
			err := w.another().Delete(context.Background(), owner, th.ID)
			before = w.dump(t)
			return err
		}
		if err := write(w, t.Context(), th.ID, id); err != access.NotThere {
			t.Errorf("%s: %v", name, err)
		}
		w.unchanged(t, before)
	}
}

func TestAChangeOfAMessageThatIsDeletedMeanwhileIsNoChange(t *testing.T) {
	for name, write := range writes {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		id := w.say(t, th.ID, "x")
		w.react(t, owner, th.ID, id, "+")
		if name == "React" {
			if err := w.Unreact(t.Context(), owner, th.ID, id, ""); err != nil {
				t.Fatal(err)
			}
		}
		var before map[string]string
		w.store.beforeCommit = func() error {
			w.store.beforeCommit = nil
			err := w.another().DeleteMessage(context.Background(), owner, th.ID, id)
			before = w.dump(t)
			return err
		}
		if err := write(w, t.Context(), th.ID, id); !errorIs(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
		w.unchanged(t, before)
	}
}

// Each of many edits at once is a version, and each post is there.
func TestEditsPostsAndReactionsThatMeetLoseNothing(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	id := w.say(t, th.ID, "first")
	servers := []*Service{w.Service, w.another()}
	const writers, each = 8, 5
	var all sync.WaitGroup
	for i := range writers {
		s := servers[i%2]
		who := access.Principal{Kind: access.EndUser, Role: access.Backend, ID: fmt.Sprint("u", i), OrgID: owner.OrgID}
		w.share(t, th.ID, who)
		all.Go(func() {
			for j := range each {
				text := fmt.Sprint(i, ".", j)
				_, err1 := s.EditMessage(context.Background(), owner, th.ID, id, api.EditMessage{Body: quoted("edit " + text)})
				_, err2 := s.Post(context.Background(), owner, th.ID, api.PostMessage{Body: quoted("post " + text)})
				_, err3 := s.React(context.Background(), who, th.ID, id, api.Reaction{Reaction: text})
				if err := errors.Join(err1, err2, err3); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	versions := w.versionsOf(t, owner, th.ID, id).Versions
	last := decodeAs[api.Message](t, first(w.GetMessage(t.Context(), owner, th.ID, id)))
	for i, v := range versions {
		if max(v.Version, 1) != i+1 {
			t.Fatalf("version %d is number %d", i+1, v.Version)
		}
	}
	got := append(texts(versions), texts(w.list(t, owner, th.ID, MessageQuery{}).Messages)...)
	for i := range writers {
		for j := range each {
			for _, what := range []string{"edit", "post"} {
				if text := fmt.Sprintf(`"%s %d.%d"`, what, i, j); !slices.Contains(got, text) {
					t.Errorf("%s is lost", text)
				}
			}
		}
		if sign := last.Reactions[fmt.Sprint("u", i)]; sign != fmt.Sprintf("%d.%d", i, each-1) {
			t.Errorf("the reaction of u%d is %q", i, sign)
		}
	}
	if len(versions) != writers*each+1 {
		t.Errorf("%d versions", len(versions))
	}
}

func first[T any](v T, _ error) T { return v }

// Of edits and a delete that meet, all that were acknowledged are versions, and the
// delete is the last.
func TestADeleteThatMeetsEditsLosesNone(t *testing.T) {
	for range 20 {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		id := w.say(t, th.ID, "first")
		var all sync.WaitGroup
		var acked [6]bool
		for i := range acked {
			all.Go(func() {
				switch err := second(w.EditMessage(context.Background(), owner, th.ID, id, api.EditMessage{Body: quoted(fmt.Sprint(i))})); {
				case err == nil:
					acked[i] = true
				case !errorIs(err, fault.NotFound):
					t.Error(err)
				}
			})
		}
		all.Go(func() { w.unsay(t, th.ID, id) })
		all.Go(func() {
			if _, err := w.React(context.Background(), owner, th.ID, id, api.Reaction{Reaction: "+"}); err != nil && !errorIs(err, fault.NotFound) {
				t.Error(err)
			}
		})
		all.Wait()
		versions := w.versionsOf(t, owner, th.ID, id).Versions
		for i, ok := range acked {
			if ok != slices.Contains(texts(versions), fmt.Sprintf(`"%d"`, i)) {
				t.Errorf("edit %d: acknowledged %v; versions %s", i, ok, texts(versions))
			}
		}
		if last := versions[len(versions)-1]; !last.Deleted || last.Version != len(versions) {
			t.Errorf("the last version: %+v", last)
		}
		for key := range w.dump(t) {
			if strings.HasPrefix(key, layout.Messages(th.ID)) || strings.HasPrefix(key, layout.ThreadRow(th.ID, "react:")) {
				t.Errorf("%s is left", key)
			}
		}
	}
}

func TestARowOfAMessageThatIsNoMessageIsDamaged(t *testing.T) {
	for _, text := range []string{``, `{}`, `null`, `{"id":"x"}`, `{"id":"","thread":"","author":"","role":"","ts":0,"body":1,"deleted":true}`, `{"id":"","thread":"","author":"","role":"","ts":0,"body":}`, `{"id":"","thread":"","author":"","ts":0,"role":"","body":1}`, `{"id":"","thread":"","author":"","role":"","ts":0,"body":1}x`} {
		if _, err := parseMessage([]byte(text)); !errorIs(err, fault.Damaged) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, body := range bodies {
		m := api.Message{ID: "i", Thread: "t", Author: `a"`, EndUser: true, Role: "r", TS: 1, Body: json.RawMessage(body), ReplyTo: "x", Version: 3, UpdatedTS: 4}
		text, err := encodeMessage(m)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseMessage(text); err != nil || cmp.Diff(m, got) != "" {
			t.Errorf("%.40s: %v, %s", body, err, cmp.Diff(m, got))
		}
	}
}
