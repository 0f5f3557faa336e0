package thread

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestPagesOfMessages(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	var all []string
	for i := range 7 {
		all = append(all, w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: int64(i/2 + 1)}).ID)
	}
	between := layout.MessageID(2, 500) // no message, but a place between all[3] and all[4]
	for name, c := range map[string]struct {
		q    MessageQuery
		want []string
	}{
		"all":                      {MessageQuery{}, all},
		"the newest three":         {MessageQuery{Limit: 3}, all[4:]},
		"older":                    {MessageQuery{Limit: 3, Before: all[4]}, all[1:4]},
		"older, the rest":          {MessageQuery{Limit: 3, Before: all[1]}, all[:1]},
		"older than the oldest":    {MessageQuery{Before: all[0]}, []string{}},
		"newer":                    {MessageQuery{Limit: 3, After: all[1]}, all[2:5]},
		"newer, the rest":          {MessageQuery{Limit: 3, After: all[4]}, all[5:]},
		"newer than the newest":    {MessageQuery{After: all[6]}, []string{}},
		"before no message":        {MessageQuery{Before: between}, all[:4]},
		"after no message":         {MessageQuery{After: between}, all[4:]},
		"before the greatest time": {MessageQuery{Before: layout.MessageID(1<<63-1, maxSeq)}, all},
	} {
		got := w.list(t, owner, th.ID, c.q)
		if diff := cmp.Diff(c.want, ids(got.Messages)); diff != "" || got.Thread != th.ID {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAnEmptyThreadIsAnEmptyList(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	calls := w.kms.calls.Load()
	raw, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
	if want := `{"thread":"` + th.ID + `","messages":[]}`; err != nil || string(raw) != want {
		t.Errorf("%s, %v, want %s", raw, err, want)
	}
	if w.kms.calls.Load() != calls {
		t.Error("the KMS was called for nothing")
	}
}

var badMessageIDs = []string{
	"x", "1-1", "00000000000000000001", "00000000000000000001-00000", "00000000000000000001-0000000",
	"00000000000000000000-000000", "09223372036854775808-000000", "99999999999999999999-000000", "0000000000000000000١-000000",
	"+0000000000000000001-000000", "00000000000000000001-+00000", "00000000000000000001_000000", " 0000000000000000001-000000",
	"00000000000000000001-000000\x00", "../meta", "\xff",
}

func TestAWrongQueryIsRefused(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	id := w.say(t, th.ID, "x")
	for _, q := range []MessageQuery{{Before: id, After: id}, {Limit: -1}, {Limit: MaxPage + 1}} {
		_, err := w.ListMessages(t.Context(), owner, th.ID, q)
		wantCode(t, err, fault.Invalid)
	}
	for _, bad := range badMessageIDs {
		for _, q := range []MessageQuery{{Before: bad}, {After: bad}} {
			if _, err := w.ListMessages(t.Context(), owner, th.ID, q); !errorIs(err, fault.Invalid) {
				t.Errorf("%+v: %v", q, err)
			}
		}
		if _, err := w.GetMessage(t.Context(), owner, th.ID, bad); !errorIs(err, fault.NotFound) {
			t.Errorf("GetMessage %q: %v", bad, err)
		}
	}
	_, err := w.GetMessage(t.Context(), owner, th.ID, layout.MessageID(1, 1))
	wantCode(t, err, fault.NotFound)
}

func TestAMessageOfAnotherThreadIsNotThisOnes(t *testing.T) {
	w := newWorld(t)
	a, b := w.thread(t, owner, "a"), w.thread(t, owner, "b")
	id := w.say(t, a.ID, "x")
	_, err := w.GetMessage(t.Context(), owner, b.ID, id)
	wantCode(t, err, fault.NotFound)
}

func TestAPageCostsTheSameAtAnyDepth(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	var all []string
	for range 1200 {
		all = append(all, w.say(t, th.ID, "x"))
	}
	for _, q := range []MessageQuery{{Limit: 50}, {Limit: 50, Before: all[600]}, {Limit: 50, After: all[600]}, {Limit: 50, Before: all[50]}} {
		w.store.reset()
		w.kms.items = 0
		calls := w.kms.calls.Load()
		if got := w.list(t, owner, th.ID, q); len(got.Messages) != 50 {
			t.Errorf("%v: %d messages", q, len(got.Messages))
		}
		if g, s, n := w.store.gets.Load(), w.store.scans.Load(), w.store.scanned.Load(); g != 1 || s != 2 || n != 50 {
			t.Errorf("%v: %d gets, %d scans of %d records, want 1, 2 of 50", q, g, s, n)
		}
		if c := w.kms.calls.Load() - calls; c != 1 || w.kms.items != 50 {
			t.Errorf("%v: %d KMS calls of %d items, want 1 of 50", q, c, w.kms.items)
		}
	}
	if got := w.list(t, owner, th.ID, MessageQuery{}); len(got.Messages) != MaxPage || got.Messages[0].ID != all[200] {
		t.Errorf("without limit: %d messages from %s", len(got.Messages), got.Messages[0].ID)
	}
}

func threadIDs(ts api.Threads) []string {
	out := []string{}
	for _, t := range ts.Threads {
		out = append(out, t.ID)
	}
	return out
}

func (w *world) threads(t testing.TB, q ListQuery) api.Threads {
	t.Helper()
	got, err := w.List(t.Context(), owner, q)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestThreadsAreListedNewestFirst(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 600 { // more than one step of the walk
		th := w.thread(t, owner, fmt.Sprintf("Thread %d", i))
		w.thread(t, mate, "another author's")
		if i%7 == 0 {
			if err := w.Delete(t.Context(), owner, th.ID); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want = append([]string{th.ID}, want...)
	}
	all := w.threads(t, ListQuery{})
	if diff := cmp.Diff(want, threadIDs(all)); diff != "" || all.NextCursor != "" {
		t.Errorf("next_cursor %q, %s", all.NextCursor, diff)
	}
	for _, limit := range []int{1, 7, 255, 256, 257, len(want) - 1, len(want), MaxPage} {
		var got []string
		q := ListQuery{Limit: limit}
		for {
			page := w.threads(t, q)
			got = append(got, threadIDs(page)...)
			if q.Cursor = page.NextCursor; q.Cursor == "" {
				break
			}
			if len(page.Threads) != limit {
				t.Fatalf("limit %d: a page of %d that is not the last", limit, len(page.Threads))
			}
			if limit == 1 && len(got) > 20 {
				got = want
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
}

func TestThreadsAreFoundByTitleAndSlug(t *testing.T) {
	w := newWorld(t)
	a, b := w.thread(t, owner, "Über Gärten"), w.thread(t, owner, "gardens")
	c := w.thread(t, owner, "Gardens again")
	foreign := w.thread(t, mate, "gardens")
	w.thread(t, owner, "something else")
	for name, x := range map[string]struct {
		q    ListQuery
		want []string
		more bool
	}{
		"part of a title":             {ListQuery{Title: "GARDEN"}, []string{c.ID, b.ID}, false},
		"part of a title, in pages":   {ListQuery{Title: "GARDEN", Limit: 1}, []string{c.ID}, true},
		"the last page has no cursor": {ListQuery{Title: "GARDEN", Limit: 2}, []string{c.ID, b.ID}, false},
		"beyond ASCII":                {ListQuery{Title: "üBER gÄ"}, []string{a.ID}, false},
		"no title like it":            {ListQuery{Title: "*"}, []string{}, false},
		"slug":                        {ListQuery{Slug: b.Slug}, []string{b.ID}, false},
		"slug and title":              {ListQuery{Slug: b.Slug, Title: "else"}, []string{}, false},
		"part of a slug":              {ListQuery{Slug: b.ID}, []string{}, false},
		"slug in upper case":          {ListQuery{Slug: "GARDENS-" + b.ID}, []string{}, false},
		"another author's slug":       {ListQuery{Slug: foreign.Slug}, []string{}, false},
		"no slug":                     {ListQuery{Slug: "x"}, []string{}, false},
		"slug of nothing":             {ListQuery{Slug: "gardens-" + uuid.NewString()}, []string{}, false},
	} {
		got := w.threads(t, x.q)
		if diff := cmp.Diff(x.want, threadIDs(got)); diff != "" || (got.NextCursor != "") != x.more {
			t.Errorf("%s: cursor %q, %s", name, got.NextCursor, diff)
		}
	}
}

func TestACursorLeadsToNobodyElsesThreads(t *testing.T) {
	w := newWorld(t)
	var mine []string
	for range 3 {
		mine = append([]string{w.thread(t, owner, "mine").ID}, mine...)
		w.thread(t, mate, "not mine")
	}
	theirs, err := w.List(t.Context(), mate, ListQuery{Limit: 1})
	if err != nil || theirs.NextCursor == "" {
		t.Fatal(err)
	}
	got := w.threads(t, ListQuery{Cursor: theirs.NextCursor})
	if diff := cmp.Diff(mine, threadIDs(got)); diff != "" { // all of mine are older than that cursor
		t.Error(diff)
	}
	for _, bad := range []string{
		"x", "====", theirs.NextCursor + "=", theirs.NextCursor + "\n", theirs.NextCursor[1:], "\xff",
		formatCursor("~"), formatCursor(":" + mine[0]), formatCursor("00000000000000000001-" + mine[0][1:] + "\xff"),
		formatCursor("00000000000000000001_" + mine[0]),
	} {
		_, err := w.List(t.Context(), owner, ListQuery{Cursor: bad})
		wantCode(t, err, fault.Invalid)
	}
	for _, limit := range []int{-1, MaxPage + 1} {
		_, err := w.List(t.Context(), owner, ListQuery{Limit: limit})
		wantCode(t, err, fault.Invalid)
	}
}

func TestAnIndexEntryShowsNobodyAnothersThread(t *testing.T) {
	w := newWorld(t)
	mine, theirs := w.thread(t, owner, "mine"), w.thread(t, mate, "not mine")
	var b store.Batch
	b.Put(layout.OrgThread(owner.OrgID, owner.ID, 1, theirs.ID), nil)
	b.Put(layout.OrgThread(owner.OrgID, owner.ID, 2, uuid.NewString()), nil)
	if _, err := w.store.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{mine.ID}, threadIDs(w.threads(t, ListQuery{}))); diff != "" {
		t.Error(diff)
	}
	w.overwrite(t, layout.OrgThreads(owner.OrgID, owner.ID)+"junk", nil)
	_, err := w.List(t.Context(), owner, ListQuery{})
	wantCode(t, err, fault.Damaged)
}

func TestAPageOfLargeMessagesEndsEarlyAndLosesNone(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	body := quoted(strings.Repeat("x", maxPageBytes/4-100))
	var all []string
	for range 6 {
		all = append(all, w.post(t, owner, th.ID, api.PostMessage{Body: body}).ID)
	}
	newest := ids(w.list(t, owner, th.ID, MessageQuery{}).Messages)
	older := ids(w.list(t, owner, th.ID, MessageQuery{Before: newest[0]}).Messages)
	if diff := cmp.Diff(all, append(older, newest...)); diff != "" || len(newest) != 4 {
		t.Errorf("pages of %d and %d messages: %s", len(newest), len(older), diff)
	}
}
