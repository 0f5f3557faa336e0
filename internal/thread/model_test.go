package thread

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"pgregory.net/rapid"
)

// model is what a Service should hold: threads in the order of their making.
type model struct {
	*world
	threads []*modelThread
}

type modelThread struct {
	api.Thread
	by       access.Principal
	messages []api.Message // sorted by ID
}

func TestTheServiceDoesWhatItsModelDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{world: newWorldOn(memstore.New())}
		t.Repeat(map[string]func(*rapid.T){
			"create": m.create, "delete": m.remove, "post": m.say, "messages": m.page, "threads": m.overview, "message": m.single,
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
	case p != th.by:
		return fault.Forbidden
	}
	return ""
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
	m.threads = append(m.threads, &modelThread{Thread: th, by: p})
}

func (m *model) remove(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	if same(t, m.Delete(context.Background(), p, th.ID), th.may(p)) {
		th.Deleted = true
	}
}

func (m *model) say(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	req := api.PostMessage{Body: json.RawMessage(rapid.SampledFrom(bodies[:12]).Draw(t, "body")), TS: rapid.Int64Range(0, 3).Draw(t, "ts")}
	if len(th.messages) > 0 && rapid.Bool().Draw(t, "reply") {
		req.ReplyTo = rapid.SampledFrom(th.messages).Draw(t, "to").ID
	}
	raw, err := m.Post(context.Background(), p, th.ID, req)
	if !same(t, err, th.may(p)) {
		return
	}
	var got api.Message
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	want := api.Message{ID: got.ID, Thread: th.ID, Author: p.ID, Role: "user", TS: got.TS, Body: got.Body, ReplyTo: req.ReplyTo}
	if diff := cmp.Diff(want, got); diff != "" || req.TS != 0 && got.TS != req.TS {
		t.Fatalf("posted at %d, asked for %d: %s", got.TS, req.TS, diff)
	}
	at, twice := slices.BinarySearchFunc(th.messages, got.ID, func(m api.Message, id string) int { return strings.Compare(m.ID, id) })
	if twice {
		t.Fatalf("two messages have ID %s", got.ID)
	}
	th.messages = slices.Insert(th.messages, at, got)
}

func (m *model) page(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	q := MessageQuery{Limit: rapid.IntRange(0, 4).Draw(t, "limit")}
	want := th.messages
	if len(want) > 0 {
		at := rapid.IntRange(0, len(want)-1).Draw(t, "at")
		switch rapid.SampledFrom([]string{"newest", "before", "after"}).Draw(t, "window") {
		case "before":
			q.Before, want = want[at].ID, want[:at]
		case "after":
			q.After, want = want[at].ID, want[at+1:]
		}
	}
	if n := q.Limit; n > 0 && n < len(want) {
		if q.After != "" {
			want = want[:n]
		} else {
			want = want[len(want)-n:]
		}
	}
	raw, err := m.ListMessages(context.Background(), p, th.ID, q)
	if !same(t, err, th.may(p)) {
		return
	}
	var got api.Messages
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ids(want), ids(got.Messages)); diff != "" {
		t.Fatalf("%+v: %s", q, diff)
	}
}

func (m *model) single(t *rapid.T) {
	p, th := m.who(t), m.some(t)
	if len(th.messages) == 0 {
		t.Skip("no message yet")
	}
	want := rapid.SampledFrom(th.messages).Draw(t, "message")
	raw, err := m.GetMessage(context.Background(), p, th.ID, want.ID)
	if !same(t, err, th.may(p)) {
		return
	}
	var got api.Message
	if err := json.Unmarshal(raw, &got); err != nil || cmp.Diff(want, got) != "" {
		t.Fatalf("%v, %s", err, cmp.Diff(want, got))
	}
}

func (m *model) overview(t *rapid.T) {
	p := m.who(t)
	q := ListQuery{Title: rapid.SampledFrom([]string{"", "ALPHA", "x"}).Draw(t, "title"), Limit: rapid.IntRange(0, 3).Draw(t, "limit")}
	want := []string{}
	for _, th := range slices.Backward(m.threads) {
		if th.may(p) == "" && strings.Contains(strings.ToLower(th.Title), strings.ToLower(q.Title)) {
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
