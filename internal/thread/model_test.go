package thread

import (
	"bytes"
	cmp2 "cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"pgregory.net/rapid"
)

// model is what a Service should hold: threads in the order of their making.
type model struct {
	*world
	testing.TB
	threads []*modelThread
	rewraps *modelJob // of the KEK's rotation; nil: none
}

// modelJob is a job that the test takes on a step at a time.
type modelJob struct {
	job.Job
	arrived bool // it has to be done yet
}

type modelThread struct {
	api.Thread
	by       access.Principal
	shared   bool            // mate takes part, as a writer
	messages []*modelMessage // sorted by ID
	sent     map[string]sentOnce
	moves    *modelJob // of the rotation of its DEK; nil: none
}

// modelMessage is a message as it is answered now, and was: all its versions.
type modelMessage struct {
	api.Message
	versions []api.Message
}

type sentOnce struct {
	req    api.PostMessage
	answer api.Message
}

func TestTheServiceDoesWhatItsModelDoes(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		m := &model{world: newWorldOn(memstore.New()), TB: tb}
		m.restart(t)
		t.Repeat(map[string]func(*rapid.T){
			"create": m.create, "delete": m.remove, "share": m.share, "rename": m.rename, "threads": m.overview,
			"post": m.say, "post more": m.say, "edit": m.edit, "unsay": m.unsay, "react": m.react,
			"messages": m.page, "pages": m.page, "message": m.single, "versions": m.history, "count": m.number, "wait": m.wait, "restart": m.restart,
			"move": m.move, "move more": m.move, "move on": m.move, "rewrap": m.rewrapped,
		})
	})
}

func (m *model) who(t *rapid.T) access.Principal {
	return rapid.SampledFrom([]access.Principal{owner, mate, stranger}).Draw(t, "who")
}

func (m *model) some(t *rapid.T) *modelThread {
	if len(m.threads) == 0 {
		t.Skip("no thread yet")
	}
	return rapid.SampledFrom(m.threads).Draw(t, "thread")
}

// may is what the gate should say; "" is yes.
func (th *modelThread) may(p access.Principal) fault.Code {
	switch {
	case th.Deleted || p.OrgID != th.by.OrgID:
		return fault.NotFound
	case p != th.by && !(th.shared && p == mate):
		return fault.Forbidden
	}
	return ""
}

// mayOwn is may where only the owner may.
func (th *modelThread) mayOwn(p access.Principal) fault.Code {
	if code := th.may(p); code != "" || p == th.by {
		return code
	}
	return fault.Forbidden
}

// live are the messages that are not deleted.
func (th *modelThread) live() (out []*modelMessage) {
	for _, msg := range th.messages {
		if !msg.Deleted {
			out = append(out, msg)
		}
	}
	return out
}

func (th *modelThread) one(t *rapid.T) *modelMessage {
	if len(th.messages) == 0 {
		t.Skip("no message yet")
	}
	return rapid.SampledFrom(th.messages).Draw(t, "message")
}

func same(t *rapid.T, err error, want fault.Code) bool {
	if want == "" && err != nil || want != "" && !errorIs(err, want) {
		t.Fatalf("error %v, want %q", err, want)
	}
	return want == ""
}

func (m *model) create(t *rapid.T) {
	p, title := m.who(t), rapid.SampledFrom([]string{"", "Alpha", "beta alpha"}).Draw(t, "title")
	th, err := m.Create(context.Background(), p, api.CreateThread{Title: title})
	same(t, err, "")
	m.threads = append(m.threads, &modelThread{Thread: th, by: p, sent: map[string]sentOnce{}})
}

func (m *model) remove(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	if same(t, m.Delete(context.Background(), p, th.ID), th.mayOwn(p)) {
		th.Deleted = true
	}
}

func (m *model) share(t *rapid.T) {
	th := m.some(t)
	if th.may(mate) != fault.Forbidden || th.by.OrgID != mate.OrgID {
		t.Skip("mate is here")
	}
	rec, err := m.store.Get(context.Background(), layout.ThreadMeta(th.ID))
	meta, err1 := parseMeta(th.ID, rec)
	meta.Parts = []participant{{ID: mate.ID, Part: access.Writer}}
	var b store.Batch
	err2 := meta.put(&b)
	_, err3 := m.store.Commit(context.Background(), &b)
	if err := errors.Join(err, err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	th.shared = true
}

func (m *model) rename(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	got, err := m.Rename(context.Background(), p, th.ID, api.UpdateThread{Title: rapid.SampledFrom([]string{"", "Alpha", "gamma"}).Draw(t, "title")})
	if !same(t, err, th.mayOwn(p)) {
		return
	}
	want := th.Thread
	want.Title, want.Slug, want.UpdatedTS = got.Title, slug(got.Title, th.ID), got.UpdatedTS
	if diff := cmp.Diff(want, got); diff != "" || got.UpdatedTS <= th.UpdatedTS {
		t.Fatal(diff)
	}
	th.Thread = got
}

func (m *model) say(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	req := api.PostMessage{Body: json.RawMessage(rapid.SampledFrom(bodies[:14]).Draw(t, "body")), TS: rapid.Int64Range(0, 3).Draw(t, "ts")}
	want := th.may(p)
	if len(th.messages) > 0 && rapid.Bool().Draw(t, "reply") {
		to := th.one(t)
		if req.ReplyTo = to.ID; to.Deleted && want == "" {
			want = fault.Invalid
		}
	}
	key := rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(t, "key")
	first, twice := th.sent[p.ID+key]
	if key != "" && twice && th.may(p) == "" {
		if rapid.Bool().Draw(t, "retried") {
			req = first.req
		}
		other := !bytes.Equal(first.req.Body, req.Body) || first.req.ReplyTo != req.ReplyTo || req.TS != 0 && first.answer.TS != req.TS
		if want = ""; other || th.find(first.answer.ID).Deleted {
			want = fault.Conflict
		}
	}
	raw, err := m.PostWith(context.Background(), p, th.ID, req, PostOptions{IdempotencyKey: key})
	if !same(t, err, want) {
		return
	}
	got := decodeAs[api.Message](m, raw)
	if key != "" && twice {
		if diff := cmp.Diff(first.answer, got); diff != "" {
			t.Fatalf("the same request again: %s", diff)
		}
		return
	}
	made := api.Message{ID: got.ID, Thread: th.ID, Author: p.ID, Role: "user", TS: got.TS, Body: json.RawMessage(bytes.TrimSpace(req.Body)), ReplyTo: req.ReplyTo}
	if diff := cmp.Diff(made, got); diff != "" || req.TS != 0 && got.TS != req.TS {
		t.Fatalf("posted at %d, asked for %d: %s", got.TS, req.TS, diff)
	}
	at, twice := slices.BinarySearchFunc(th.messages, got.ID, func(m *modelMessage, id string) int { return strings.Compare(m.ID, id) })
	if twice {
		t.Fatalf("two messages have ID %s", got.ID)
	}
	th.messages = slices.Insert(th.messages, at, &modelMessage{got, []api.Message{got}})
	if key != "" {
		th.sent[p.ID+key] = sentOnce{req, got}
	}
}

func (th *modelThread) find(id string) *modelMessage {
	return th.messages[slices.IndexFunc(th.messages, func(m *modelMessage) bool { return m.ID == id })]
}

func (m *model) edit(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	msg := th.one(t)
	req := api.EditMessage{Role: rapid.SampledFrom([]string{"", "tool"}).Draw(t, "role")}
	if rapid.Bool().Draw(t, "body") {
		req.Body = json.RawMessage(rapid.SampledFrom(bodies[:14]).Draw(t, "text"))
	}
	want := th.may(p)
	switch {
	case want != "":
	case req.Body == nil && req.Role == "":
		want = fault.Invalid
	case msg.Deleted:
		want = fault.NotFound
	case msg.Author != p.ID:
		want = fault.Forbidden
	}
	raw, err := m.EditMessage(context.Background(), p, th.ID, msg.ID, req)
	if !same(t, err, want) {
		return
	}
	got, next := decodeAs[api.Message](m, raw), msg.Message
	if req.Body != nil {
		next.Body = json.RawMessage(bytes.TrimSpace(req.Body))
	}
	next.Role = cmp2.Or(req.Role, next.Role)
	next.Version, next.UpdatedTS = len(msg.versions)+1, got.UpdatedTS
	if diff := cmp.Diff(next, got); diff != "" || got.UpdatedTS <= msg.UpdatedTS {
		t.Fatal(diff)
	}
	msg.next(got)
}

// next makes now the newest version.
func (msg *modelMessage) next(now api.Message) {
	msg.Message = now
	if !now.Deleted {
		now.Reactions = nil
	}
	msg.versions = append(msg.versions, now)
}

func (m *model) unsay(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	msg := th.one(t)
	want := th.may(p)
	switch {
	case want != "":
	case msg.Deleted:
		want = fault.NotFound
	case msg.Author != p.ID && p != th.by:
		want = fault.Forbidden
	}
	if !same(t, m.DeleteMessage(context.Background(), p, th.ID, msg.ID), want) {
		return
	}
	gone := msg.Message
	gone.Body, gone.Deleted, gone.Version = nil, true, len(msg.versions)+1
	got := m.versionsOf(m, th.by, th.ID, msg.ID).Versions
	if gone.UpdatedTS = got[len(got)-1].UpdatedTS; gone.UpdatedTS <= msg.UpdatedTS {
		t.Fatalf("deleted at %d, changed before at %d", gone.UpdatedTS, msg.UpdatedTS)
	}
	msg.next(gone)
}

func (m *model) react(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	msg := th.one(t)
	want := th.may(p)
	_, there := msg.Reactions[p.ID]
	back := rapid.Bool().Draw(t, "back")
	if want == "" && (msg.Deleted || back && !there) {
		want = fault.NotFound
	}
	all := maps.Clone(msg.Reactions)
	if all == nil {
		all = map[string]string{}
	}
	if back {
		if !same(t, m.Unreact(context.Background(), p, th.ID, msg.ID, p.ID), want) {
			return
		}
		delete(all, p.ID)
	} else {
		sign := rapid.SampledFrom([]string{"👍", "no \"way\""}).Draw(t, "sign")
		raw, err := m.React(context.Background(), p, th.ID, msg.ID, api.Reaction{Reaction: sign})
		if !same(t, err, want) {
			return
		}
		all[p.ID] = sign
		if diff := cmp.Diff(all, decodeAs[api.Message](m, raw).Reactions); diff != "" {
			t.Fatal(diff)
		}
	}
	if msg.Reactions = all; len(all) == 0 {
		msg.Reactions = nil
	}
}

func (m *model) page(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	q := MessageQuery{Limit: rapid.IntRange(1, 4).Draw(t, "limit"), IncludeDeleted: rapid.Bool().Draw(t, "deleted")}
	all := th.live()
	if q.IncludeDeleted {
		all = th.messages
	}
	from, to := max(0, len(all)-q.Limit), len(all)
	if len(th.messages) > 0 {
		id := th.one(t).ID // perhaps deleted: a place
		at, there := slices.BinarySearchFunc(all, id, func(m *modelMessage, id string) int { return strings.Compare(m.ID, id) })
		behind := at
		if there {
			behind++
		}
		switch rapid.SampledFrom([]string{"newest", "before", "after", "anchor"}).Draw(t, "window") {
		case "before":
			q.Before, from, to = id, max(0, at-q.Limit), at
		case "after":
			q.After, from, to = id, behind, min(len(all), behind+q.Limit)
		case "anchor":
			q.Anchor, from, to = id, max(0, at-q.Limit), min(len(all), behind+q.Limit)
		}
	}
	page, err := m.Page(context.Background(), p, th.ID, q)
	if !same(t, err, th.may(p)) {
		return
	}
	if page.HasBefore != (from > 0) || page.HasAfter != (to < len(all)) {
		t.Fatalf("%+v: %d to %d of %d, has before %v, after %v", q, from, to, len(all), page.HasBefore, page.HasAfter)
	}
	got := []api.Message{}
	for _, text := range page.Messages {
		got = append(got, decodeAs[api.Message](m, text))
	}
	want := []api.Message{}
	for _, msg := range all[from:to] {
		want = append(want, msg.Message)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%+v: %s", q, diff)
	}
	if diff := cmp.Diff(want, m.list(m, p, th.ID, q).Messages); diff != "" {
		t.Fatalf("the list of %+v: %s", q, diff)
	}
}

func (m *model) single(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	msg := th.one(t)
	want := th.may(p)
	if want == "" && msg.Deleted {
		want = fault.NotFound
	}
	raw, err := m.GetMessage(context.Background(), p, th.ID, msg.ID)
	if !same(t, err, want) {
		return
	}
	if diff := cmp.Diff(msg.Message, decodeAs[api.Message](m, raw)); diff != "" {
		t.Fatal(diff)
	}
}

func (m *model) history(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	msg, limit := th.one(t), rapid.IntRange(0, 3).Draw(t, "limit")
	got, cursor := []api.Message{}, ""
	for {
		raw, err := m.ListVersions(context.Background(), p, th.ID, msg.ID, limit, cursor)
		if !same(t, err, th.may(p)) {
			return
		}
		page := decodeAs[api.MessageVersions](m, raw)
		got = append(got, page.Versions...)
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if diff := cmp.Diff(msg.versions, got); diff != "" {
		t.Fatal(diff)
	}
}

func (m *model) number(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	n, err := m.Count(context.Background(), p, th.ID)
	if same(t, err, th.may(p)) && n != len(th.live()) {
		t.Fatalf("%d messages, counted %d", len(th.live()), n)
	}
}

func (m *model) wait(t *rapid.T) {
	m.clock.Add(rapid.Int64Range(0, int64(2*countAge)).Draw(t, "time"))
}

func (m *model) restart(*rapid.T) {
	m.clock.Add(1e9)
	m.Service = m.another()
	m.moveBatch = 2
}

// move begins the rotation of a thread's DEK, or takes it a step on.
func (m *model) move(t *rapid.T) {
	th := m.some(t)
	if th.moves == nil {
		th.moves = newModelJob(MoveArgs{Thread: th.ID})
	}
	if th.moves.step(t, m.store, m.MoveKind()) {
		th.moves = nil
	}
}

// rewrapped rotates the KEK and rewraps the DEKs, a step each time.
func (m *model) rewrapped(t *rapid.T) {
	if m.rewraps == nil {
		m.rewraps = newModelJob(RewrapArgs{Rotate: true})
	}
	if m.rewraps.step(t, m.store, m.RewrapKind()) {
		m.rewraps = nil
	}
}

func newModelJob(args any) *modelJob {
	text, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	return &modelJob{Job: job.Job{ID: uuid.NewString(), Args: text}}
}

// step takes j on and reports whether it has ended.
func (j *modelJob) step(t *rapid.T, in store.Store, kind job.Kind) bool {
	if j.arrived {
		if err := kind.Done(context.Background(), j.Job); err != nil {
			t.Fatal(err)
		}
		return true
	}
	s, err := kind.Step(context.Background(), j.Job)
	if err != nil || len(s.Failed) > 0 {
		t.Fatalf("%v, %v", s.Failed, err)
	}
	if _, err := in.Commit(context.Background(), &s.Batch); err != nil {
		t.Fatal(err)
	}
	j.Cursor, j.arrived = s.Cursor, s.Done
	return s.Done && kind.Done == nil
}

func (m *model) overview(t *rapid.T) {
	p := m.who(t)
	q := ListQuery{Title: rapid.SampledFrom([]string{"", "ALPHA", "x"}).Draw(t, "title"), Limit: rapid.IntRange(0, 3).Draw(t, "limit")}
	want := []string{}
	for _, th := range slices.Backward(m.threads) {
		if p == th.by && th.may(p) == "" && strings.Contains(strings.ToLower(th.Title), strings.ToLower(q.Title)) {
			want = append(want, th.ID)
		}
	}
	got := []string{}
	for {
		page, err := m.List(context.Background(), p, q)
		same(t, err, "")
		got = append(got, threadIDs(page)...)
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%+v: %s", q, diff)
	}
}
