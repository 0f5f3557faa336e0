package thread

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"

	diffs "github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"pgregory.net/rapid"
)

func someBody(t *rapid.T) json.RawMessage {
	return json.RawMessage(pick(t, "body", bodies[:14]))
}

// trimmed is a body as it is kept.
func trimmed(body json.RawMessage) json.RawMessage { return json.RawMessage(bytes.TrimSpace(body)) }

func (m *model) post(t *rapid.T) {
	th := m.some(t)
	p := m.somebody(t, th)
	req := api.PostMessage{Body: someBody(t), Role: pick(t, "role", []string{"", "", "tool"})}
	switch days := between(t, "time", -8, 3); {
	case days > 0: // all together in 1970
		req.TS = int64(days)
	case days < -6:
		req.TS = m.clock.Load() + int64(days+6)*int64(day)
	}
	if len(th.messages) > 0 && rapid.Bool().Draw(t, "reply") {
		req.ReplyTo = m.one(t, th).ID
	}
	key := pick(t, "key", []string{"", "", "", "a", "b", "c"})
	if first, twice := th.sent[p.Ref()+key]; key != "" && twice && first.version == 1 && rapid.Bool().Draw(t, "retried") {
		req = first.post
	}
	m.postAs(t, p, th, req, key)
}

func (m *model) postAs(t *rapid.T, p access.Principal, th *modelThread, req api.PostMessage, key string) {
	t.Helper()
	want := th.mayWrite(p)
	first, twice := th.sent[p.Ref()+key]
	var before *modelMessage
	if twice = twice && key != "" && want == ""; twice {
		switch before = th.find(first.message); {
		case first.version > 1:
			want = fault.KeyReused
		case before == nil || before.Deleted:
			want = fault.Conflict
		case !before.madeBy(req):
			want = fault.KeyReused
		}
	} else if want == "" && req.ReplyTo != "" && !th.has(req.ReplyTo) {
		want = fault.Invalid
	}
	raw, err := m.at(t).PostWith(context.Background(), p, th.ID, req, PostOptions{IdempotencyKey: key})
	if !m.answered(t, err, want) {
		return
	}
	got := decode[api.Message](t, raw)
	if twice {
		m.equal(t, before.versions[0], got)
		return
	}
	made := api.Message{
		ID: got.ID, Thread: th.ID, Author: p.ID, EndUser: p.Kind == access.EndUser, Role: cmp.Or(req.Role, "user"),
		TS: cmp.Or(req.TS, got.TS), Body: trimmed(req.Body), ReplyTo: req.ReplyTo,
	}
	m.equal(t, made, got)
	th.add(t, got, req.Body)
	if key != "" {
		th.sent[p.Ref()+key] = modelRequest{post: req, message: got.ID, version: 1, at: m.clock.Load()}
	}
	m.changed(t, th, changeCreated, got.ID)
}

// madeBy reports whether that is the message that req asks for.
func (msg *modelMessage) madeBy(req api.PostMessage) bool {
	made := msg.versions[0]
	return bytes.Equal(req.Body, msg.posted) && cmp.Or(req.Role, "user") == made.Role && req.ReplyTo == made.ReplyTo && (req.TS == 0 || req.TS == made.TS)
}

func (m *model) edit(t *rapid.T) {
	th := m.some(t)
	msg := m.one(t, th)
	p := m.author(t, th, msg)
	req := api.EditMessage{Role: pick(t, "role", []string{"", "tool", "user"})}
	if between(t, "text", 0, 2) > 0 {
		req.Body = someBody(t)
	}
	if between(t, "reply", 0, 3) == 0 {
		req.ReplyTo = m.one(t, th).ID
	}
	key := pick(t, "key", []string{"", "", "a", "b", "c"})
	if first, twice := th.sent[p.Ref()+key]; key != "" && twice && first.version > 1 && th.find(first.message) != nil && rapid.Bool().Draw(t, "retried") {
		msg, req = th.find(first.message), first.edit
	}
	m.editAs(t, p, th, msg, req, key)
}

func (m *model) editAs(t *rapid.T, p access.Principal, th *modelThread, msg *modelMessage, req api.EditMessage, key string) {
	t.Helper()
	want := th.mayWrite(p)
	first, twice := th.sent[p.Ref()+key]
	twice = twice && key != ""
	switch {
	case want != "":
	case req.Body == nil && req.Role == "" && req.ReplyTo == "", req.ReplyTo == msg.ID, !twice && req.ReplyTo != "" && !th.has(req.ReplyTo):
		want = fault.Invalid
	case msg.Deleted:
		want = fault.NotFound
	case !wrote(p, msg.Message):
		want = fault.Forbidden
	case twice && !msg.editedBy(req, first):
		want = fault.KeyReused
	}
	raw, err := m.at(t).EditWith(context.Background(), p, th.ID, msg.ID, req, PostOptions{IdempotencyKey: key})
	if !m.answered(t, err, want) {
		return
	}
	got := decode[api.Message](t, raw)
	if twice {
		made := msg.versions[first.version-1]
		made.Reactions = msg.Reactions
		m.equal(t, made, got)
		return
	}
	m.equal(t, edit(msg.Message, req, got.UpdatedTS), got)
	m.later(t, msg, got)
	msg.next(got)
	if key != "" {
		th.sent[p.Ref()+key] = modelRequest{edit: req, message: msg.ID, version: got.Version, at: m.clock.Load()}
	}
	m.changed(t, th, changeEdited, msg.ID)
}

// edit is the version after was.
func edit(was api.Message, req api.EditMessage, now int64) api.Message {
	if req.Body != nil {
		was.Body = trimmed(req.Body)
	}
	was.Role, was.ReplyTo = cmp.Or(req.Role, was.Role), cmp.Or(req.ReplyTo, was.ReplyTo)
	was.Version, was.UpdatedTS = max(was.Version, 1)+1, now
	return was
}

// editedBy reports whether req makes of a version of msg what the first request made of it.
func (msg *modelMessage) editedBy(req api.EditMessage, first modelRequest) bool {
	if msg.ID != first.message || first.version == 1 || first.version > len(msg.versions) {
		return false
	}
	made := msg.versions[first.version-1]
	return diffs.Equal(made, edit(msg.versions[first.version-2], req, made.UpdatedTS))
}

// later fails unless a version of msg is of a later time.
func (m *model) later(t *rapid.T, msg *modelMessage, now api.Message) {
	t.Helper()
	if now.UpdatedTS <= msg.UpdatedTS {
		t.Fatalf("%s at %d, changed before at %d", m.now, now.UpdatedTS, msg.UpdatedTS)
	}
}

func (m *model) deleteMessage(t *rapid.T) {
	th := m.some(t)
	msg := m.one(t, th)
	p := m.author(t, th, msg)
	want := th.mayWrite(p)
	switch {
	case want != "":
	case msg.Deleted:
		want = fault.NotFound
	case !wrote(p, msg.Message) && th.mayOwn(p) != "":
		want = fault.Forbidden
	}
	if m.answered(t, m.at(t).DeleteMessage(context.Background(), p, th.ID, msg.ID), want) {
		m.gone(t, th, msg)
		m.changed(t, th, changeDeleted, msg.ID)
	}
}

// gone makes the newest version of a message say that it was deleted, when its thread tells.
func (m *model) gone(t *rapid.T, th *modelThread, msg *modelMessage) {
	t.Helper()
	gone := msg.Message
	gone.Body, gone.Deleted, gone.Version = nil, true, len(msg.versions)+1
	raw, err := m.at(t).ListVersions(context.Background(), th.by, th.ID, msg.ID, 0, "")
	m.answered(t, err, "")
	got := decode[api.MessageVersions](t, raw).Versions
	gone.UpdatedTS = got[len(got)-1].UpdatedTS
	m.later(t, msg, gone)
	msg.next(gone)
}

func (m *model) react(t *rapid.T) {
	th := m.some(t)
	msg := m.one(t, th)
	p := m.somebody(t, th)
	as := pick(t, "as", []string{p.ID, p.ID, p.ID, "x", people[2].ID})
	_, there := msg.Reactions[as]
	back := there && rapid.Bool().Draw(t, "back") || between(t, "in vain", 0, 9) == 0
	want := th.mayWrite(p)
	switch {
	case want != "":
	case as != p.ID && !speaksForOthers(p) && !(back && th.mayOwn(p) == ""):
		want = fault.Forbidden
	case msg.Deleted || back && !there:
		want = fault.NotFound
	}
	all := maps.Clone(msg.Reactions)
	if all == nil {
		all = map[string]string{}
	}
	var err error
	if back {
		delete(all, as)
		err = m.at(t).Unreact(context.Background(), p, th.ID, msg.ID, as)
	} else {
		all[as] = pick(t, "sign", []string{"👍", "no \"way\""})
		var raw json.RawMessage
		if raw, err = m.at(t).React(context.Background(), p, th.ID, msg.ID, api.Reaction{ID: as, Reaction: all[as]}); err == nil {
			m.equal(t, all, decode[api.Message](t, raw).Reactions)
		}
	}
	if !m.answered(t, err, want) {
		return
	}
	if msg.Reactions = all; len(all) == 0 {
		msg.Reactions = nil
	}
	m.changed(t, th, changeReactions, msg.ID)
}

// equal fails the test when got is not want.
func (m *model) equal(t *rapid.T, want, got any) {
	t.Helper()
	if diff := diffs.Diff(want, got); diff != "" {
		t.Fatalf("%s: %s", m.now, diff)
	}
}

func decode[T any](t *rapid.T, raw []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("not JSON of %T: %v", v, err)
	}
	return v
}
