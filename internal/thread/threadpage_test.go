package thread

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// An end user whose ID is no user's, one who has a user's, and that user.
var (
	visitor = access.Principal{Kind: access.EndUser, ID: "shop:7/ü", OrgID: "org1", Role: access.Frontend}
	twin    = access.Principal{Kind: access.EndUser, ID: owner.ID, OrgID: "org1", Role: access.Frontend}
)

// listed is the page of q as IDs.
func (w *world) listed(t testing.TB, p access.Principal, q ThreadQuery) (ids []string, page ThreadPage) {
	t.Helper()
	page, err := w.PageThreads(t.Context(), p, q)
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	for _, th := range page.Threads {
		ids = append(ids, th.ID)
	}
	return ids, page
}

// threadModel is the threads that there are, and what becomes of them.
type threadModel struct {
	w    *world
	all  map[string]listedThread // by ID
	made []string                // IDs in the order of their making
}

type listedThread struct {
	api.Thread
	by, part access.Principal // who made it, and who was let in
	gone     bool
}

// of is p's threads, newest first.
func (m *threadModel) of(p access.Principal, byUpdated bool) (out []listedThread) {
	for _, th := range m.all {
		if !th.gone && (samePerson(th.by, p) || samePerson(th.part, p)) {
			out = append(out, th)
		}
	}
	slices.SortFunc(out, func(a, b listedThread) int { return newestFirst(a, b, byUpdated) })
	return out
}

func samePerson(a, b access.Principal) bool {
	return a.ID == b.ID && a.Kind == b.Kind && a.OrgID == b.OrgID
}

func newestFirst(a, b listedThread, byUpdated bool) int {
	if byUpdated {
		return cmp.Or(cmp.Compare(b.UpdatedTS, a.UpdatedTS), cmp.Compare(b.ID, a.ID))
	}
	return cmp.Or(cmp.Compare(b.CreatedTS, a.CreatedTS), cmp.Compare(b.ID, a.ID))
}

// page is what the table of paging says of q, from p's whole list.
func (m *threadModel) page(p access.Principal, q ThreadQuery) (ids []string, before, after bool, total int) {
	list := m.of(p, q.ByUpdated)
	at := m.all[cmp.Or(q.Before, q.After, q.Anchor)]
	newer, self, older := 0, 0, len(list) // how many
	if at.ID != "" {
		newer = slices.IndexFunc(append(slices.Clip(list), listedThread{}), func(th listedThread) bool { return th.ID == "" || newestFirst(th, at, q.ByUpdated) >= 0 })
		if newer < len(list) && list[newer].ID == at.ID {
			self = 1
		}
		older = len(list) - newer - self
	}
	from, to := 0, min(q.Limit, len(list))
	switch {
	case q.Before != "":
		from, to = max(0, newer-q.Limit), newer
	case q.After != "":
		from = newer + self
		to = min(len(list), from+q.Limit)
	case q.Anchor != "":
		from, to = max(0, newer-(q.Limit-1)/2), newer+self+min(older, q.Limit/2)
	}
	for _, th := range list[from:to] {
		ids = append(ids, th.ID)
	}
	return ids, from > 0, to < len(list), len(list)
}

func TestPagesOfThreadsAreThoseOfTheWholeList(t *testing.T) {
	people := []access.Principal{visitor, twin, owner, mate}
	rapid.Check(t, func(r *rapid.T) {
		m := &threadModel{w: newWorld(t), all: map[string]listedThread{}}
		who := rapid.SampledFrom(people)
		existing := func() listedThread { return m.all[rapid.SampledFrom(m.made).Draw(r, "thread")] }
		r.Repeat(map[string]func(*rapid.T){
			"create": func(r *rapid.T) { m.create(t, who.Draw(r, "who")) },
			"more":   func(r *rapid.T) { p := who.Draw(r, "who"); m.create(t, p); m.create(t, p); m.create(t, p) },
			"rename": func(r *rapid.T) {
				if len(m.made) > 0 {
					m.rename(t, existing())
				}
			},
			"delete": func(r *rapid.T) {
				if len(m.made) > 0 {
					m.remove(t, existing())
				}
			},
			"share": func(r *rapid.T) {
				if len(m.made) > 0 {
					m.share(t, existing(), visitor)
				}
			},
			"page": func(r *rapid.T) { m.check(t, r, who.Draw(r, "who")) },
		})
	})
}

func (m *threadModel) create(t *testing.T, p access.Principal) {
	th := m.w.thread(t, p, "t")
	m.all[th.ID] = listedThread{Thread: th, by: p}
	m.made = append(m.made, th.ID)
}

func (m *threadModel) rename(t *testing.T, th listedThread) {
	if th.gone {
		return
	}
	now, err := m.w.Rename(t.Context(), th.by, th.ID, api.UpdateThread{Title: "u"})
	if err != nil {
		t.Fatal(err)
	}
	th.Thread = now
	m.all[th.ID] = th
}

func (m *threadModel) remove(t *testing.T, th listedThread) {
	if th.gone {
		return
	}
	if err := m.w.Delete(t.Context(), th.by, th.ID); err != nil {
		t.Fatal(err)
	}
	th.gone = true
	m.all[th.ID] = th
}

func (m *threadModel) share(t *testing.T, th listedThread, with access.Principal) {
	if th.gone || samePerson(th.by, with) {
		return
	}
	if _, err := m.w.SetParticipant(t.Context(), th.by, th.ID, with.ID, api.PutParticipant{Part: "read", EndUser: true}); err != nil {
		t.Fatal(err)
	}
	now, err := m.w.Get(t.Context(), th.by, th.ID)
	if err != nil {
		t.Fatal(err)
	}
	th.Thread, th.part = now, with
	m.all[th.ID] = th
}

// check asks for a page around any thread, deleted and others' too.
func (m *threadModel) check(t *testing.T, r *rapid.T, p access.Principal) {
	q := ThreadQuery{Limit: rapid.IntRange(1, 7).Draw(r, "limit"), ByUpdated: rapid.Bool().Draw(r, "by updated")}
	way := rapid.SampledFrom([]*string{nil, &q.Before, &q.After, &q.Anchor}).Draw(r, "way")
	if way != nil && len(m.made) > 0 {
		*way = rapid.SampledFrom(m.made).Draw(r, "place")
		if th := m.all[*way]; !samePerson(th.by, p) && !samePerson(th.part, p) {
			m.refused(r, p, q, th)
			return
		}
	}
	want, before, after, total := m.page(p, q)
	page, err := m.w.PageThreads(t.Context(), p, q)
	if err != nil {
		r.Fatal(err)
	}
	got := []string{}
	for _, th := range page.Threads {
		got = append(got, th.ID)
	}
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || page.HasBefore != before || page.HasAfter != after || page.Total != total {
		r.Fatalf("%+v of %s %s: before %v, after %v, total %d; the list says %v, %v, %d; it is -: %s", q, p.Kind, p.ID, page.HasBefore, page.HasAfter, page.Total, before, after, total, diff)
	}
}

func (m *threadModel) refused(r *rapid.T, p access.Principal, q ThreadQuery, th listedThread) {
	want := fault.Forbidden
	if th.gone {
		want = fault.NotFound
	}
	if page, err := m.w.PageThreads(r.Context(), p, q); !errors.Is(err, want) || page.Threads != nil {
		r.Fatalf("%+v of %s: %v, %v; want %s", q, p.ID, page, err, want)
	}
}

// hooked is a store that does something after each scan.
type hooked struct {
	store.Store
	after func()
}

func (h *hooked) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	defer h.after()
	return h.Store.Scan(ctx, r, opt)
}

func TestAThreadThatIsDeletedWhileAPageIsReadIsNotInIt(t *testing.T) {
	h := &hooked{memstore.New(), func() {}}
	defer h.Close()
	w := newWorldOn(h)
	var ids []string
	for range 5 {
		ids = append(ids, w.thread(t, visitor, "t").ID)
	}
	slices.Reverse(ids)
	h.after = func() { // the index was read
		h.after = func() {}
		if err := w.Delete(t.Context(), visitor, ids[0]); err != nil {
			t.Error(err)
		}
	}
	got, page := w.listed(t, visitor, ThreadQuery{Limit: 1})
	if fmt.Sprint(got) != fmt.Sprint(ids[1:2]) || page.Total != 4 || !page.HasAfter {
		t.Errorf("%v of %v, %+v", got, ids, page)
	}
}

func TestAPageOfThreadsRefusesWhatItDoesNotUnderstand(t *testing.T) {
	w := newWorld(t)
	id := w.thread(t, visitor, "t").ID
	for _, q := range []ThreadQuery{{Limit: -1}, {Limit: MaxPage + 1}, {Before: id, After: id}, {After: id, Anchor: id}, {Before: "x"}, {Anchor: id + id}} {
		if _, err := w.PageThreads(t.Context(), visitor, q); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if _, err := w.PageThreads(t.Context(), nobody, ThreadQuery{}); !errors.Is(err, fault.Unauthenticated) {
		t.Error(err)
	}
	for _, p := range []access.Principal{{Kind: access.EndUser, ID: visitor.ID, OrgID: "org2"}, visitor} {
		asked := id
		if p.OrgID == visitor.OrgID {
			asked = "01900000-0000-7000-8000-00000000abcd"
		}
		if _, err := w.PageThreads(t.Context(), p, ThreadQuery{After: asked}); !errors.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", p.OrgID, err)
		}
	}
}
