package thread

import (
	"context"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"pgregory.net/rapid"
)

// page reads a page by both calls, somewhere in a thread.
func (m *model) page(t *rapid.T) {
	th := m.some(t)
	p := m.somebody(t, th)
	q := MessageQuery{Limit: between(t, "limit", 1, 6), IncludeDeleted: rapid.Bool().Draw(t, "deleted")}
	all := th.live()
	if q.IncludeDeleted {
		all = th.messages
	}
	from, to := max(0, len(all)-q.Limit), len(all)
	if len(th.messages) > 0 {
		id := m.one(t, th).ID // perhaps deleted: a place
		at, there := placeOf(all, id)
		behind := at
		if there {
			behind++
		}
		switch pick(t, "window", []string{"newest", "before", "after", "anchor"}) {
		case "before":
			q.Before, from, to = id, max(0, at-q.Limit), at
		case "after":
			q.After, from, to = id, behind, min(len(all), behind+q.Limit)
		case "anchor":
			q.Anchor, from, to = id, max(0, at-q.Limit), min(len(all), behind+q.Limit)
		}
	}
	page, err := m.at(t).Page(context.Background(), p, th.ID, q)
	if !m.answered(t, err, th.mayRead(p)) {
		return
	}
	if page.HasBefore != (from > 0) || page.HasAfter != (to < len(all)) {
		t.Fatalf("%+v: %d to %d of %d, has before %v, after %v", q, from, to, len(all), page.HasBefore, page.HasAfter)
	}
	got, want := []api.Message{}, []api.Message{}
	for _, text := range page.Messages {
		got = append(got, decode[api.Message](t, text))
	}
	for _, msg := range all[from:to] {
		want = append(want, msg.Message)
	}
	m.equal(t, want, got)
	raw, err := m.at(t).ListMessages(context.Background(), p, th.ID, q)
	m.answered(t, err, "")
	m.equal(t, want, decode[api.Messages](t, raw).Messages)
}

func (m *model) getMessage(t *rapid.T) {
	th := m.some(t)
	id := m.one(t, th).ID
	if len(th.lost) > 0 && between(t, "purged", 0, 4) == 0 {
		id = pick(t, "message", th.lost)
	}
	p, msg := m.somebody(t, th), th.find(id)
	want := th.mayRead(p)
	if want == "" && !th.has(id) {
		want = fault.NotFound
	}
	raw, err := m.at(t).GetMessage(context.Background(), p, th.ID, id)
	if !m.answered(t, err, want) {
		return
	}
	m.equal(t, msg.Message, decode[api.Message](t, raw))
	list, err := m.at(t).ListReactions(context.Background(), p, th.ID, id)
	m.answered(t, err, "")
	got := map[string]string{}
	for _, one := range list.Reactions {
		got[one.ID] = one.Reaction
	}
	if len(got) != len(msg.Reactions) || len(got) > 0 {
		m.equal(t, msg.Reactions, got)
	}
}

// history reads all versions of a message, page by page.
func (m *model) history(t *rapid.T) {
	th := m.some(t)
	msg := m.one(t, th)
	p, limit := m.somebody(t, th), between(t, "limit", 0, 3)
	if len(msg.versions) == 0 { // of a thread that is gone
		_, err := m.at(t).ListVersions(context.Background(), p, th.ID, msg.ID, limit, "")
		m.answered(t, err, fault.NotFound)
		return
	}
	got, cursor := []api.Message{}, ""
	for {
		raw, err := m.at(t).ListVersions(context.Background(), p, th.ID, msg.ID, limit, cursor)
		if !m.answered(t, err, th.mayRead(p)) {
			return
		}
		page := decode[api.MessageVersions](t, raw)
		got = append(got, page.Versions...)
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	m.equal(t, msg.versions, got)
}

func (m *model) number(t *rapid.T) {
	th := m.some(t)
	p := m.somebody(t, th)
	n, err := m.at(t).Count(context.Background(), p, th.ID)
	if m.answered(t, err, th.mayRead(p)) && n != len(th.live()) {
		t.Fatalf("%d messages, counted %d", len(th.live()), n)
	}
}

func (m *model) stats(t *rapid.T) {
	want := api.Stats{}
	for _, th := range m.threads {
		if !th.Deleted && !th.purged {
			want.Threads++
			want.Messages += len(th.live())
		}
	}
	got, err := m.at(t).Stats(context.Background())
	m.answered(t, err, "")
	m.equal(t, want, got)
}
