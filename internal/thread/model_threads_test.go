package thread

import (
	"context"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
	"pgregory.net/rapid"
)

var titles = []string{"", "Alpha", "beta alpha", "gamma"}

func (m *model) create(t *rapid.T) { m.makeThread(t, m.anybody(t)) }

func (m *model) makeThread(t *rapid.T, p access.Principal) *modelThread {
	title := pick(t, "title", titles)
	got, err := m.at(t).Create(context.Background(), p, api.CreateThread{Title: title})
	m.answered(t, err, "")
	th := &modelThread{by: p, sent: map[string]modelRequest{}, Thread: api.Thread{
		ID: got.ID, Title: title, Slug: slug(title, got.ID), Author: p.ID, CreatedTS: got.CreatedTS, UpdatedTS: got.CreatedTS,
	}}
	m.threads = append(m.threads, th)
	m.sees(t, p, th, got)
	return th
}

// sees compares a thread as p got it.
func (m *model) sees(t *rapid.T, p access.Principal, th *modelThread, got api.Thread) {
	t.Helper()
	if got.KMS != nil && !speaksForOthers(p) {
		t.Fatalf("%s: %s sees the facts of the DEK", m.now, p.Ref())
	}
	want := th.Thread
	want.Part, got.KMS = th.partOf(p), nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s: %s", m.now, diff)
	}
}

func (m *model) getThread(t *rapid.T) {
	th := m.some(t)
	p := m.somebody(t, th)
	got, err := m.at(t).Get(context.Background(), p, th.ID)
	if m.answered(t, err, th.mayRead(p)) {
		m.sees(t, p, th, got)
	}
}

func (m *model) deleteThread(t *rapid.T) {
	th := m.some(t)
	p := m.somebody(t, th)
	if m.answered(t, m.at(t).Delete(context.Background(), p, th.ID), th.mayOwn(p)) {
		th.Deleted, th.DeletedTS = true, m.clock.Load()
		m.changed(t, th, changeThread, "")
	}
}

func (m *model) rename(t *rapid.T) {
	th := m.some(t)
	p, title := m.somebody(t, th), pick(t, "title", titles)
	got, err := m.at(t).Rename(context.Background(), p, th.ID, api.UpdateThread{Title: title})
	if !m.answered(t, err, th.mayOwn(p)) {
		return
	}
	th.Title, th.Slug = title, slug(title, th.ID)
	m.updated(t, th, got)
	m.sees(t, p, th, got)
	m.changed(t, th, changeThread, "")
}

// updated takes over when a thread was changed.
func (m *model) updated(t *rapid.T, th *modelThread, got api.Thread) {
	if got.UpdatedTS <= th.UpdatedTS {
		t.Fatalf("%s: updated at %d, and before at %d", m.now, got.UpdatedTS, th.UpdatedTS)
	}
	th.UpdatedTS = got.UpdatedTS
}

func (m *model) share(t *rapid.T) {
	th := m.some(t)
	p, with := m.somebody(t, th), m.anybody(t)
	part := api.Participant{ID: with.ID, EndUser: with.Kind == access.EndUser, Part: pick(t, "part", []string{"read", "write", "write", "own"})}
	want := th.mayOwn(p)
	switch {
	case want != "":
	case part.Part == "own":
		want = fault.Invalid
	case !part.EndUser && !isKnown(p.OrgID, with.ID):
		want = fault.NotFound
	case isPart(part, th.by):
		want = fault.Invalid
	}
	got, err := m.at(t).SetParticipant(context.Background(), p, th.ID, part.ID, api.PutParticipant{Part: part.Part, EndUser: part.EndUser})
	if !m.answered(t, err, want) {
		return
	}
	if got != part {
		t.Fatalf("%+v, want %+v", got, part)
	}
	at := slices.IndexFunc(th.parts, func(one api.Participant) bool { return one.ID == part.ID && one.EndUser == part.EndUser })
	if at < 0 {
		th.parts = append(th.parts, part)
	} else {
		th.parts[at] = part
	}
	m.partsChanged(t, th)
}

func (m *model) unshare(t *rapid.T) {
	th := m.some(t)
	p, who := m.somebody(t, th), m.somebody(t, th)
	if rapid.Bool().Draw(t, "leaves") {
		p = who
	}
	at := slices.IndexFunc(th.parts, func(one api.Participant) bool { return isPart(one, who) })
	want := th.mayOwn(p)
	if who.ID == p.ID && who.Kind == p.Kind { // who leaves
		want = th.mayRead(p)
	}
	if want == "" && at < 0 {
		want = fault.NotFound
	}
	err := m.at(t).RemoveParticipant(context.Background(), p, th.ID, who.ID, who.Kind == access.EndUser)
	if m.answered(t, err, want) {
		th.parts = slices.Delete(th.parts, at, at+1)
		m.partsChanged(t, th)
	}
}

func (m *model) partsChanged(t *rapid.T, th *modelThread) {
	got, err := m.at(t).Get(context.Background(), th.by, th.ID)
	m.answered(t, err, "")
	m.updated(t, th, got)
	m.changed(t, th, changeThread, "")
}

func (m *model) participants(t *rapid.T) {
	th := m.some(t)
	p := m.somebody(t, th)
	got, err := m.at(t).Participants(context.Background(), p, th.ID)
	if !m.answered(t, err, th.mayRead(p)) {
		return
	}
	if diff := cmp.Diff(append([]api.Participant{}, th.parts...), got.Participants); diff != "" {
		t.Fatal(diff)
	}
}

func (m *model) listThreads(t *rapid.T) {
	p := m.anybody(t)
	q := ListQuery{Title: pick(t, "title", []string{"", "ALPHA", "x"}), Limit: between(t, "limit", 0, 3)}
	var want []*modelThread
	for _, th := range slices.Backward(m.threads) {
		if th.mayRead(p) == "" && strings.Contains(strings.ToLower(th.Title), strings.ToLower(q.Title)) {
			want = append(want, th)
		}
	}
	got, s := []api.Thread{}, m.at(t)
	for {
		page, err := s.List(context.Background(), p, q)
		m.answered(t, err, "")
		got = append(got, page.Threads...)
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			break
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s has %d threads, got %d: %v", p.Ref(), len(want), len(got), got)
	}
	for i, th := range want {
		m.sees(t, p, th, got[i])
	}
}

// changed reads what the store notes of an operation, which made one change, and has
// the other servers find it.
func (m *model) changed(t *rapid.T, th *modelThread, kind changeKind, message string) {
	t.Helper()
	fresh := m.newChanges(t, th)
	if len(fresh) != 1 || fresh[0].Kind != kind || fresh[0].Message != message {
		t.Fatalf("%s of %q: the store notes %+v", m.now, message, fresh)
	}
}

func (m *model) newChanges(t *rapid.T, th *modelThread) []change {
	t.Helper()
	from := ""
	if len(th.changes) > 0 {
		from = th.changes[len(th.changes)-1].ID + "\x00"
	}
	recs, err := m.rows.Scan(context.Background(), changesFrom(th.ID, from), store.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := parseChanges(th.ID, recs)
	if err != nil {
		t.Fatal(err)
	}
	th.changes = append(th.changes, fresh...)
	for _, s := range m.servers {
		if err := s.discover(context.Background(), th.ID); err != nil { // as its poll does
			t.Fatal(err)
		}
	}
	return fresh
}
