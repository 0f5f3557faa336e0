package thread

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func (w *world) page(t testing.TB, thread string, q MessageQuery) (ids []string, p Page) {
	t.Helper()
	p, err := w.Page(context.Background(), owner, thread, q)
	if err != nil {
		t.Fatal(err)
	}
	ids = []string{}
	for _, text := range p.Messages {
		ids = append(ids, decodeAs[api.Message](t, text).ID)
	}
	return ids, p
}

func TestAPageSaysWhetherThereIsMoreAround(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	var all []string
	for i := range 7 {
		all = append(all, w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: int64(i + 1)}).ID)
	}
	w.unsay(t, th.ID, all[0])
	w.unsay(t, th.ID, all[3])
	w.unsay(t, th.ID, all[6])
	live := []string{all[1], all[2], all[4], all[5]}
	for name, c := range map[string]struct {
		q             MessageQuery
		want          []string
		before, after bool
	}{
		"newest":                    {MessageQuery{}, live, false, false},
		"newest two":                {MessageQuery{Limit: 2}, live[2:], true, false},
		"newest, with deleted":      {MessageQuery{Limit: 3, IncludeDeleted: true}, all[4:], true, false},
		"before":                    {MessageQuery{Before: all[4], Limit: 1}, all[2:3], true, true},
		"before, all":               {MessageQuery{Before: all[4]}, all[1:3], false, true},
		"before, with deleted":      {MessageQuery{Before: all[4], IncludeDeleted: true}, all[:4], false, true},
		"before the oldest":         {MessageQuery{Before: all[1]}, []string{}, false, true},
		"before a deleted one":      {MessageQuery{Before: all[3], Limit: 1}, all[2:3], true, true},
		"before all":                {MessageQuery{Before: all[1], IncludeDeleted: true}, all[:1], false, true},
		"after":                     {MessageQuery{After: all[1], Limit: 2}, []string{all[2], all[4]}, true, true},
		"after, the rest":           {MessageQuery{After: all[2]}, live[2:], true, false},
		"after the newest":          {MessageQuery{After: all[5]}, []string{}, true, false},
		"after it, with deleted":    {MessageQuery{After: all[5], IncludeDeleted: true}, all[6:], true, false},
		"around":                    {MessageQuery{Anchor: all[2], Limit: 1}, []string{all[1], all[2], all[4]}, false, true},
		"around, with deleted":      {MessageQuery{Anchor: all[2], Limit: 1, IncludeDeleted: true}, all[1:4], true, true},
		"around a deleted one":      {MessageQuery{Anchor: all[3], Limit: 1}, []string{all[2], all[4]}, true, true},
		"around one that is told":   {MessageQuery{Anchor: all[3], Limit: 1, IncludeDeleted: true}, all[2:5], true, true},
		"around the newest":         {MessageQuery{Anchor: all[5], Limit: 2}, []string{all[2], all[4], all[5]}, true, false},
		"around nothing, at an end": {MessageQuery{Anchor: layout.MessageID(99, 0), Limit: 1}, all[5:6], true, false},
		"around all":                {MessageQuery{Anchor: all[4]}, live, false, false},
	} {
		got, p := w.page(t, th.ID, c.q)
		if diff := cmp.Diff(c.want, got); diff != "" || p.HasBefore != c.before || p.HasAfter != c.after {
			t.Errorf("%s: has before %v, after %v, %s", name, p.HasBefore, p.HasAfter, diff)
		}
		if diff := cmp.Diff(c.want, ids(w.list(t, owner, th.ID, c.q).Messages)); diff != "" {
			t.Errorf("%s, the list: %s", name, diff)
		}
	}
	empty := w.thread(t, owner, "empty")
	for _, q := range []MessageQuery{{}, {Before: noID}, {After: noID}, {Anchor: noID}, {IncludeDeleted: true}} {
		if got, p := w.page(t, empty.ID, q); len(got) != 0 || p.HasBefore || p.HasAfter {
			t.Errorf("an empty thread, %+v: %+v", q, p)
		}
	}
	for _, q := range []MessageQuery{{Before: noID, Anchor: noID}, {After: noID, Anchor: noID}, {Anchor: "x"}} {
		_, err := w.Page(t.Context(), owner, th.ID, q)
		wantCode(t, err, fault.Invalid)
	}
}

func TestADeletedMessageIsShownWithoutItsBody(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	to := w.say(t, th.ID, "to")
	m := w.post(t, owner, th.ID, api.PostMessage{Body: quoted(canary), ReplyTo: to, Role: "tool"})
	w.react(t, owner, th.ID, m.ID, "+")
	w.unsay(t, th.ID, m.ID)
	raw, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{IncludeDeleted: true})
	if err != nil || strings.Contains(string(raw), canary) {
		t.Fatalf("%s, %v", raw, err)
	}
	got := decodeAs[api.Messages](t, raw).Messages[1]
	want := m
	want.Body, want.Deleted, want.Version, want.UpdatedTS, want.Reactions = nil, true, 2, got.UpdatedTS, map[string]string{owner.ID: "+"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := w.list(t, owner, th.ID, MessageQuery{}).Messages; len(got) != 1 || got[0].ID != to {
		t.Errorf("without the deleted ones: %v", got)
	}
}

// A page costs what it holds, whatever became of the messages around it.
func TestAPageCostsTheSameAmongDeletedMessagesAndVersions(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	var live []string
	for i := range 600 {
		id := w.say(t, th.ID, "x")
		w.react(t, owner, th.ID, id, "+")
		switch {
		case i%3 != 0:
			w.unsay(t, th.ID, id)
			continue
		case i%2 == 0:
			w.edit(t, owner, th.ID, id, "y")
			w.edit(t, owner, th.ID, id, "z")
		}
		live = append(live, id)
	}
	for name, c := range map[string]struct {
		q                     MessageQuery
		scans, scanned, items int64
	}{
		"newest":               {MessageQuery{Limit: 20}, 2, 40, 40},
		"before":               {MessageQuery{Limit: 20, Before: live[100]}, 2, 40, 40},
		"after":                {MessageQuery{Limit: 20, After: live[100]}, 2, 40, 40},
		"around":               {MessageQuery{Limit: 20, Anchor: live[100]}, 4, 82, 82},
		"newest, with deleted": {MessageQuery{Limit: 20, IncludeDeleted: true}, 3, 47, 27},
		"after, with deleted":  {MessageQuery{Limit: 20, After: live[100], IncludeDeleted: true}, 3, 47, 27},
	} {
		w.store.reset()
		calls := w.kms.calls.Load()
		w.kms.items = 0
		w.list(t, owner, th.ID, c.q)
		if s, n := w.store.scans.Load(), w.store.scanned.Load(); s != c.scans || n > c.scanned || w.store.gets.Load() != 1 {
			t.Errorf("%s: %d gets, %d scans of %d records", name, w.store.gets.Load(), s, n)
		}
		if n := w.kms.calls.Load() - calls; n != 1 || int64(w.kms.items) > c.items {
			t.Errorf("%s: %d KMS calls of %d items", name, n, w.kms.items)
		}
		w.store.reset()
		w.page(t, th.ID, c.q)
		if s, n := w.store.scans.Load(), w.store.scanned.Load(); s > c.scans+3 || n > c.scanned+3 {
			t.Errorf("%s, with what is around: %d scans of %d records", name, s, n)
		}
	}
}

// What is deleted between the scans of one page is in it, once.
func TestAMessageThatIsDeletedMeanwhileIsInThePage(t *testing.T) {
	for at := 1; at <= 3; at++ {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		var all []string
		for range 5 {
			all = append(all, w.say(t, th.ID, "x"))
			w.react(t, owner, th.ID, all[len(all)-1], "+")
		}
		server := w.another()
		scans := 0
		w.Service = New(Config{Store: &beforeScan{w.store, func() {
			if scans++; scans == at {
				if err := server.DeleteMessage(context.Background(), owner, th.ID, all[2]); err != nil {
					t.Error(err)
				}
			}
		}}, KMS: w.kms, Gate: w.asked})
		got := ids(w.list(t, owner, th.ID, MessageQuery{IncludeDeleted: true}).Messages)
		if diff := cmp.Diff(all, got); diff != "" || scans != 3 {
			t.Errorf("before scan %d of %d: %s", at, scans, diff)
		}
	}
}

// beforeScan lets a test come before each scan.
type beforeScan struct {
	store.Store
	do func()
}

func (s *beforeScan) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	s.do()
	return s.Store.Scan(ctx, r, opt)
}

func TestAPageOfManyReactionsEndsEarlyAndLosesNone(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	row, err := w.encrypt(t.Context(), w.metaOf(t, th.ID), openRow{"x", []byte(strings.Repeat("x", maxPageBytes/3))})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for range 8 {
		all = append(all, w.say(t, th.ID, "x"))
		w.overwrite(t, reactionsRow(all[len(all)-1]).key(th.ID), row[0]) // which opens nowhere; the rows are read, not opened
	}
	m := w.metaOf(t, th.ID)
	for _, back := range []bool{true, false} {
		recs, err := w.scan(t.Context(), th.ID, false, span{back: back, limit: 100, bytes: maxPageBytes})
		if err != nil || len(recs) != 6 {
			t.Errorf("back %v: %d rows, %v", back, len(recs), err)
		}
		for i, rec := range recs {
			want := all[i/2]
			if back {
				want = all[5+i/2]
			}
			if n := rowOf(m.ID, rec.Key); n.message() != want || isReactions(rec) != (i%2 == 1) {
				t.Errorf("back %v: row %d is %s, want one of %s", back, i, n, want)
			}
		}
	}
	spans, err := MessageQuery{Anchor: all[4]}.spans()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]string{all[2:4], all[4:6]} { // half as many bytes on each side, and the anchor with its side
		recs, err := w.scan(t.Context(), th.ID, false, spans[i])
		if got := messagesOf(recs); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("side %d: %v, %v", i, got, err)
		}
	}
}

func messagesOf(recs []store.Record) (out []string) {
	for _, rec := range recs {
		if !isReactions(rec) {
			out = append(out, idOf(rec))
		}
	}
	return out
}

func (w *world) metaOf(t testing.TB, thread string) meta {
	t.Helper()
	m, err := w.load(context.Background(), thread)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAPageOfLargeMessagesWithDeletedOnesLosesNone(t *testing.T) {
	if testing.Short() {
		t.Skip("megabytes, in one goroutine: in the run without -short")
	}
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	body := quoted(strings.Repeat("x", maxPageBytes/4-100))
	var all []string
	for i := range 8 {
		id := w.post(t, owner, th.ID, api.PostMessage{Body: body}).ID
		if all = append(all, id); i%2 == 0 {
			w.unsay(t, th.ID, id)
		}
	}
	var got []string
	for q := (MessageQuery{IncludeDeleted: true}); ; q.Before = got[0] {
		page, p := w.page(t, th.ID, q)
		got = append(page, got...)
		if !p.HasBefore {
			break
		}
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Error(diff)
	}
	got = nil
	for q := (MessageQuery{IncludeDeleted: true, After: noID}); ; q.After = got[len(got)-1] {
		page, p := w.page(t, th.ID, q)
		got = append(got, page...)
		if !p.HasAfter {
			break
		}
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Error(diff)
	}
}

func TestAPageOfMoreRowsThanAKMSCallTakesIsOpenedInSeveral(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	for i := range MaxPage {
		id := w.say(t, th.ID, fmt.Sprint(i))
		if i%2 == 0 {
			w.react(t, owner, th.ID, id, "+")
		}
	}
	calls := w.kms.calls.Load()
	got := w.list(t, owner, th.ID, MessageQuery{}).Messages
	if n := w.kms.calls.Load() - calls; len(got) != MaxPage || n != 2 {
		t.Errorf("%d messages in %d calls", len(got), n)
	}
	for i, m := range got {
		if string(m.Body) != fmt.Sprintf(`"%d"`, i) || (len(m.Reactions) == 1) != (i%2 == 0) {
			t.Fatalf("message %d: %+v", i, m)
		}
	}
}
