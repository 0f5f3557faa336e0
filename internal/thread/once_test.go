package thread

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestTheSameRequestAgainAnswersTheSameMessage(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	to := w.say(t, th.ID, "to")
	req := api.PostMessage{Body: []byte(` {"a" : 1 } `), ReplyTo: to}
	once := PostOptions{IdempotencyKey: "a key ~"}
	post := func(req api.PostMessage) ([]byte, error) { return w.PostWith(t.Context(), owner, th.ID, req, once) }
	answer, err := post(req)
	if err != nil {
		t.Fatal(err)
	}
	m := decodeAs[api.Message](t, answer)
	again := func(when string) {
		t.Helper()
		before := w.dump(t)
		full, user := req, req
		full.TS, user.Role = m.TS, "user" // what the first one left out
		for _, req := range []api.PostMessage{req, full, user} {
			if got, err := post(req); err != nil || !bytes.Equal(got, answer) {
				t.Errorf("%s: %s, %v", when, got, err)
			}
		}
		for name, req := range map[string]api.PostMessage{
			"body": {Body: []byte(`{"a" : 1 } `), ReplyTo: to}, "role": {Body: req.Body, ReplyTo: to, Role: "tool"},
			"reply": {Body: req.Body}, "ts": {Body: req.Body, ReplyTo: to, TS: m.TS + 1},
		} {
			if got, err := post(req); !errorIs(err, fault.KeyReused) || got != nil {
				t.Errorf("%s, another %s: %s, %v", when, name, got, err)
			}
		}
		w.unchanged(t, before)
	}
	again("at once")
	w.react(t, owner, th.ID, m.ID, "+")
	again("after a reaction")
	w.edit(t, owner, th.ID, m.ID, "b")
	w.edit(t, owner, th.ID, m.ID, "c")
	again("after edits")
	w.unsay(t, th.ID, to)
	again("when what it replies to was deleted")
	w.unsay(t, th.ID, m.ID)
	before := w.dump(t)
	_, err = post(req)
	wantCode(t, err, fault.Conflict)
	w.unchanged(t, before)
}

func TestAKeyIsOnePrincipalsInOneThread(t *testing.T) {
	w := newWorld(t)
	th, other := w.thread(t, owner, "t"), w.thread(t, owner, "other")
	end := access.Principal{Kind: access.EndUser, ID: owner.ID, OrgID: owner.OrgID}
	w.share(t, th.ID, mate, end)
	made := map[string]bool{}
	for _, c := range []struct {
		p      access.Principal
		thread string
		key    string
	}{{owner, th.ID, "k"}, {mate, th.ID, "k"}, {end, th.ID, "k"}, {owner, other.ID, "k"}, {owner, th.ID, "k2"}, {owner, th.ID, ""}, {owner, th.ID, ""}} {
		raw, err := w.PostWith(t.Context(), c.p, c.thread, api.PostMessage{Body: quoted("x")}, PostOptions{IdempotencyKey: c.key})
		if err != nil {
			t.Fatal(err)
		}
		made[c.thread+decodeAs[api.Message](t, raw).ID] = true
	}
	if len(made) != 7 {
		t.Errorf("%d messages", len(made))
	}
	before := w.dump(t)
	for _, key := range []string{strings.Repeat("k", 256), "a\nb", "ü", "\x7f", "\xff"} {
		_, err := w.PostWith(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")}, PostOptions{IdempotencyKey: key})
		wantCode(t, err, fault.Invalid)
	}
	w.unchanged(t, before)
	if _, err := w.PostWith(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")}, PostOptions{IdempotencyKey: strings.Repeat("~", 255)}); err != nil {
		t.Error(err)
	}
}

// A request that is sent many times at once makes one message, and all are told.
func TestRequestsOfOneKeyThatMeetMakeOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, ts := range []int64{0, 7} {
			w := newWorld(t)
			th := w.thread(t, owner, "t")
			servers := []*Service{w.Service, w.another()}
			answers := make([]string, 40)
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() {
					raw, err := servers[i%2].PostWith(context.Background(), owner, th.ID, api.PostMessage{Body: quoted("x"), TS: ts}, PostOptions{IdempotencyKey: "k"})
					if err != nil {
						t.Error(err)
					}
					answers[i] = string(raw)
				})
			}
			all.Wait()
			for _, a := range answers {
				if a != answers[0] {
					t.Errorf("answered %s and %s", answers[0], a)
				}
			}
			if got := w.list(t, owner, th.ID, MessageQuery{}).Messages; len(got) != 1 {
				t.Errorf("%d messages", len(got))
			}
		}
	})
}

func TestARequestWhoseAnswerWasLostIsAnsweredByTheNext(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.store.afterCommit = func() error { return errors.New("the connection broke") }
	once := PostOptions{IdempotencyKey: "k"}
	_, err := w.PostWith(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")}, once)
	wantCode(t, err, fault.Internal)
	w.store.afterCommit = nil
	raw, err := w.PostWith(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")}, once)
	if got := w.list(t, owner, th.ID, MessageQuery{}).Messages; err != nil || len(got) != 1 || got[0].ID != decodeAs[api.Message](t, raw).ID {
		t.Errorf("%s, %v; the list %v", raw, err, got)
	}
}

func TestTheRowOfARequestSaysWhenAndWhat(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	raw, err := w.PostWith(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 7}, PostOptions{IdempotencyKey: canary})
	if err != nil {
		t.Fatal(err)
	}
	id := layout.MessageID(7, 0)
	at, of, err := parseSent(w.get(t, sentTo(th.ID, owner, canary)))
	if err != nil || at != w.clock.Load() || id != decodeAs[api.Message](t, raw).ID || of != (sentOf{id, 1}) {
		t.Errorf("%d %v, %v", at, of, err)
	}
	if _, err := w.EditWith(t.Context(), owner, th.ID, id, api.EditMessage{Body: quoted("y")}, PostOptions{IdempotencyKey: canary + "2"}); err != nil {
		t.Fatal(err)
	}
	at, of, err = parseSent(w.get(t, sentTo(th.ID, owner, canary+"2")))
	if err != nil || at != w.clock.Load() || of != (sentOf{id, 2}) {
		t.Errorf("of the edit: %d %v, %v", at, of, err)
	}
	for key := range w.dump(t) {
		if strings.Contains(key, canary) {
			t.Errorf("the key lies in clear in %s", key)
		}
	}
	for _, bad := range []string{"", "7", "x " + id, "7 x", id, "7 " + id + " ", "7 " + id + " x", "7 " + id + " 1", "7 " + id + " 2 3"} {
		if _, _, err := parseSent([]byte(bad)); !errorIs(err, fault.Damaged) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTheSameEditAgainAnswersTheSameVersion(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	to := w.say(t, th.ID, "to")
	id := w.say(t, th.ID, "first")
	req := api.EditMessage{Body: []byte(` {"a" : 1 } `), ReplyTo: to}
	edit := func(req api.EditMessage) ([]byte, error) {
		return w.EditWith(t.Context(), owner, th.ID, id, req, PostOptions{IdempotencyKey: "a key ~"})
	}
	answer, err := edit(req)
	if err != nil {
		t.Fatal(err)
	}
	again := func(when string, want []byte) {
		t.Helper()
		before := w.dump(t)
		full := req
		full.Role = "user" // what it has already
		for _, req := range []api.EditMessage{req, full} {
			if got, err := edit(req); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %s, %v; want %s", when, got, err, want)
			}
		}
		for name, req := range map[string]api.EditMessage{
			"body": {Body: []byte(`{"a" : 1 } `), ReplyTo: to}, "role": {Body: req.Body, ReplyTo: to, Role: "tool"},
			"body, which is left out": {ReplyTo: to}, "reply, which is left out": {Body: req.Body},
		} {
			if got, err := edit(req); !errorIs(err, fault.KeyReused) || got != nil {
				t.Errorf("%s, another %s: %s, %v", when, name, got, err)
			}
		}
		w.unchanged(t, before)
	}
	again("at once", answer)
	w.react(t, owner, th.ID, id, "+")
	reacted := withReactions(answer, []byte(`{"id":"`+id+`","reactions":{"`+owner.ID+`":"+"}}`))
	again("after a reaction", reacted)
	w.edit(t, owner, th.ID, id, "b")
	again("after an edit", reacted)
	w.edit(t, owner, th.ID, id, "c")
	w.unsay(t, th.ID, to)
	again("after two, and when what it replies to was deleted", reacted)
	if got := w.versionsOf(t, owner, th.ID, id).Versions; len(got) != 4 {
		t.Errorf("%d versions", len(got))
	}
	w.unsay(t, th.ID, id)
	before := w.dump(t)
	_, err = edit(req)
	wantCode(t, err, fault.NotFound)
	w.unchanged(t, before)
}

// A message of many versions loses its oldest first.
func TestARequestWhoseVersionIsPurgedSaysSo(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	first := api.PostMessage{Body: quoted("1")}
	id := decodeAs[api.Message](t, must(w.PostWith(t.Context(), owner, th.ID, first, PostOptions{IdempotencyKey: "post"}))).ID
	edit := func(text, key string) error {
		_, err := w.EditWith(t.Context(), owner, th.ID, id, api.EditMessage{Body: quoted(text)}, PostOptions{IdempotencyKey: key})
		return err
	}
	for _, text := range []string{"2", "3", "4"} {
		if err := edit(text, "edit "+text); err != nil {
			t.Fatal(err)
		}
	}
	var b store.Batch
	for n := 1; n <= 2; n++ {
		b.Delete(pastRow(id, n).key(th.ID))
	}
	w.commitAll(t, b)
	_, err := w.PostWith(t.Context(), owner, th.ID, first, PostOptions{IdempotencyKey: "post"})
	for _, err := range []error{err, edit("2", "edit 2"), edit("3", "edit 3")} {
		if wantCode(t, err, fault.Conflict); err == nil || !strings.Contains(err.Error(), "was purged; send another key") {
			t.Errorf("of a purged version: %v", err)
		}
	}
	if err := edit("4", "edit 4"); err != nil {
		t.Errorf("of one that is there: %v", err)
	}
}

func TestAKeyOfOneRequestIsNoneOfAnother(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	a, b := w.say(t, th.ID, "a"), w.say(t, th.ID, "b")
	once := PostOptions{IdempotencyKey: "k"}
	x := quoted("x")
	if _, err := w.EditWith(t.Context(), owner, th.ID, a, api.EditMessage{Body: x}, once); err != nil {
		t.Fatal(err)
	}
	posted, err := w.PostWith(t.Context(), owner, th.ID, api.PostMessage{Body: x}, PostOptions{IdempotencyKey: "p"})
	if err != nil {
		t.Fatal(err)
	}
	mine := decodeAs[api.Message](t, posted).ID
	w.share(t, th.ID, mate)
	before := w.dump(t)
	for name, err := range map[string]error{
		"a post of what the edited message was": second(w.PostWith(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("a")}, once)),
		"another message":                       second(w.EditWith(t.Context(), owner, th.ID, b, api.EditMessage{Body: x}, once)),
		"a post":                                second(w.PostWith(t.Context(), owner, th.ID, api.PostMessage{Body: x}, once)),
		"an edit of a post":                     second(w.EditWith(t.Context(), owner, th.ID, mine, api.EditMessage{Body: x}, PostOptions{IdempotencyKey: "p"})),
	} {
		if !errorIs(err, fault.KeyReused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, key := range []string{strings.Repeat("k", 256), "a\nb", "ü", "\x7f"} {
		wantCode(t, second(w.EditWith(t.Context(), owner, th.ID, a, api.EditMessage{Body: x}, PostOptions{IdempotencyKey: key})), fault.Invalid)
	}
	wantCode(t, second(w.EditWith(t.Context(), mate, th.ID, a, api.EditMessage{Body: x}, once)), fault.Forbidden)
	w.unchanged(t, before)
}

// Edits of one key that meet, also of two messages, make one version.
func TestEditsOfOneKeyThatMeetMakeOneVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		ids := []string{w.say(t, th.ID, "a"), w.say(t, th.ID, "b")}
		servers := []*Service{w.Service, w.another()}
		answers := make([]string, 40)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				raw, err := servers[i%2].EditWith(context.Background(), owner, th.ID, ids[i/2%2], api.EditMessage{Body: quoted("x")}, PostOptions{IdempotencyKey: "k"})
				if err != nil && !errorIs(err, fault.KeyReused) {
					t.Error(err)
				}
				answers[i] = string(raw)
			})
		}
		all.Wait()
		made := map[string]int{}
		for _, a := range answers {
			made[a]++
		}
		if len(made) != 2 || made[""] != 20 { // of one message there is an answer, of the other a conflict
			t.Errorf("answers: %v", made)
		}
		if n := len(w.versionsOf(t, owner, th.ID, ids[0]).Versions) + len(w.versionsOf(t, owner, th.ID, ids[1]).Versions); n != 3 {
			t.Errorf("%d versions of two messages", n)
		}
	})
}

// An edit is known by what it made of the version before, not of the first one.
func TestALaterEditAgainAnswersItsVersion(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	id := w.say(t, th.ID, "a")
	if _, err := w.EditMessage(t.Context(), owner, th.ID, id, api.EditMessage{Role: "tool"}); err != nil {
		t.Fatal(err)
	}
	edit := func() ([]byte, error) {
		return w.EditWith(t.Context(), owner, th.ID, id, api.EditMessage{Body: quoted("x")}, PostOptions{IdempotencyKey: "k"})
	}
	first, err := edit()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := edit(); err != nil || !bytes.Equal(first, again) {
		t.Errorf("%s, %v; want %s", again, err, first)
	}
}

// Of edits of two messages that one key is sent with, one is made, wherever they meet.
func TestAnEditThatComesBetweenWithTheSameKeyWins(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	a, b := w.say(t, th.ID, "a"), w.say(t, th.ID, "b")
	edit := func(s *Service, id string) error {
		return second(s.EditWith(context.Background(), owner, th.ID, id, api.EditMessage{Body: quoted("x")}, PostOptions{IdempotencyKey: "k"}))
	}
	w.store.beforeCommit = func() error {
		w.store.beforeCommit = nil
		return edit(w.another(), b)
	}
	if err := edit(w.Service, a); !errorIs(err, fault.KeyReused) {
		t.Errorf("the one that came later: %v", err)
	}
	if got := w.versionsOf(t, owner, th.ID, a).Versions; len(got) != 1 {
		t.Errorf("it made %d versions", len(got))
	}
	if got := w.versionsOf(t, owner, th.ID, b).Versions; len(got) != 2 {
		t.Errorf("the other has %d", len(got))
	}
}

func TestAnEditWhoseAnswerWasLostIsAnsweredByTheNext(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	id := w.say(t, th.ID, "a")
	edit := func() ([]byte, error) {
		return w.EditWith(t.Context(), owner, th.ID, id, api.EditMessage{Body: quoted("x")}, PostOptions{IdempotencyKey: "k"})
	}
	w.store.afterCommit = func() error { return errors.New("the connection broke") }
	wantCode(t, second(edit()), fault.Internal)
	w.store.afterCommit = nil
	raw, err := edit()
	if got := w.versionsOf(t, owner, th.ID, id).Versions; err != nil || len(got) != 2 || decodeAs[api.Message](t, raw).Version != 2 {
		t.Errorf("%s, %v; versions %v", raw, err, got)
	}
}
