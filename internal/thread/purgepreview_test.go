package thread

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// orgs are some, each with who writes in it and who runs it.
var orgs = [][2]access.Principal{
	{owner, boss},
	{stranger, other},
	{{Kind: access.User, ID: colleague.ID, OrgID: "org3"}, {Kind: access.User, ID: boss.ID, OrgID: "org3", Role: access.Admin}},
}

// TestAPreviewSaysWhatARunPurges compares, over many stores, what a preview says of
// each org with what is due by what became of its threads, and that with what a run
// takes away and the trail is told.
func TestAPreviewSaysWhatARunPurges(t *testing.T) {
	var all api.RetentionPreview
	rapid.Check(t, func(r *rapid.T) {
		mem := memstore.New()
		defer mem.Close()
		w := newWorldOn(mem)
		var threads []*life
		for range rapid.IntRange(1, 5).Draw(r, "threads") {
			threads = append(threads, w.past(t, r))
		}
		told := map[string]string{}
		for _, org := range orgs {
			p := api.Retention{DeletedDays: rapid.IntRange(0, 4).Draw(r, "deleted_days"), MessageDays: rapid.IntRange(0, 4).Draw(r, "message_days")}
			w.keep(t, org[1], p.DeletedDays, p.MessageDays)
			before := w.dump(t)
			said := w.preview(t, org[1])
			w.unchanged(t, before)
			if want := due(threads, org[1].OrgID, p, w.clock.Load()); said != want {
				r.Fatalf("%s, %+v: the preview says %+v, want %+v", org[1].OrgID, p, said, want)
			}
			if said.Threads+said.Messages > 0 {
				told[org[1].OrgID] = fmt.Sprint(said.Threads, said.Messages, said.Held)
			}
			all.Threads, all.Messages, all.Held = all.Threads+said.Threads, all.Messages+said.Messages, all.Held+said.Held
		}
		w.purge(t)
		if got := w.purgedAs(); !maps.Equal(got, told) {
			r.Fatalf("the previews said %v, the trail says %v", told, got)
		}
		left := slices.Concat(w.rowsOf(t, ":meta"), w.rowsOf(t, ":msg:"), w.rowsOf(t, ":del:"))
		slices.Sort(left)
		if want := rows(threads); !slices.Equal(left, want) {
			r.Fatalf("left are %q, want %q", left, want)
		}
		w.whole(t)
	})
	if !testing.Short() && (all.Threads == 0 || all.Messages == 0 || all.Held == 0) {
		t.Errorf("all previews together say %+v", all)
	}
}

// life is what became of a thread.
type life struct {
	org, id  string
	deleted  int64 // when; 0: it was not
	held     bool
	messages map[string]int64 // by ID; when each was deleted, 0: it was not
}

// past makes a thread of some org, with a past.
func (w *world) past(t *testing.T, r *rapid.T) *life {
	yes := func(what string) bool { return rapid.Bool().Draw(r, what) }
	later := func() { w.pass(time.Duration(rapid.IntRange(0, 2).Draw(r, "days"))*day + time.Second) }
	org := rapid.SampledFrom(orgs).Draw(r, "org")
	p := org[0]
	l := &life{org: p.OrgID, id: w.thread(t, p, "t").ID, messages: map[string]int64{}}
	var err error
	if yes("shared") { // it is in the index twice
		err = second(w.SetParticipant(t.Context(), p, l.id, guest.ID, api.PutParticipant{EndUser: true, Part: string(access.Reader)}))
	}
	for range rapid.IntRange(0, 4).Draw(r, "messages") {
		ts := rapid.SampledFrom([]int64{0, 1, w.clock.Load() - int64(2*day)}).Draw(r, "ts")
		id := w.post(t, p, l.id, api.PostMessage{Body: quoted("x"), TS: ts}).ID
		l.messages[id] = 0
		if yes("edited") {
			err = errors.Join(err, second(w.EditMessage(t.Context(), p, l.id, id, api.EditMessage{Role: "r"})))
		}
		if later(); yes("deleted") {
			l.messages[id] = w.clock.Load()
			err = errors.Join(err, w.DeleteMessage(t.Context(), p, l.id, id))
		}
	}
	if later(); yes("thread deleted") {
		l.deleted = w.clock.Load()
		err = errors.Join(err, w.Delete(t.Context(), p, l.id))
	}
	if l.held = rapid.IntRange(0, 3).Draw(r, "held") == 0; l.held {
		err = errors.Join(err, second(w.Hold(t.Context(), org[1], l.id, api.PutHold{})))
	}
	if later(); err != nil {
		t.Fatal(err)
	}
	return l
}

// due is what is to be purged of the threads of one org, which it takes out of them.
func due(threads []*life, org string, p api.Retention, now int64) (out api.RetentionPreview) {
	old := func(ts int64, days int) bool { return days > 0 && ts > 0 && now-ts >= int64(days)*int64(day) }
	for _, l := range threads {
		if l.org != org {
			continue
		}
		gone := old(l.deleted, p.DeletedDays)
		var aged []string
		for id, deleted := range l.messages {
			if ts, _, _ := parseMessageID(id); old(ts, p.MessageDays) || old(deleted, p.DeletedDays) {
				aged = append(aged, id)
			}
		}
		switch {
		case l.held && (gone || len(aged) > 0):
			out.Held++
		case l.held:
		case gone:
			out.Threads++
			l.id = ""
		default:
			out.Messages += len(aged)
			for _, id := range aged {
				delete(l.messages, id)
			}
		}
	}
	return out
}

// rows are the keys of the records of threads and of the newest versions of messages.
func rows(threads []*life) (keys []string) {
	for _, l := range threads {
		if l.id == "" {
			continue
		}
		keys = append(keys, layout.ThreadMeta(l.id))
		for id, deleted := range l.messages {
			n := newestRow(id)
			if deleted != 0 {
				n = deletedRow(id)
			}
			keys = append(keys, n.key(l.id))
		}
	}
	slices.Sort(keys)
	return keys
}

func TestAPreviewThatHasSeenAMillionRowsSaysSo(t *testing.T) {
	w := newWorld(t)
	w.Service = New(Config{Store: endlessStore{w.store.Store}, KMS: w.kms, Gate: w.asked})
	if _, err := w.SetRetention(t.Context(), boss, api.Retention{DeletedDays: 1}); err != nil {
		t.Fatal(err)
	}
	if got := w.preview(t, boss); !got.Partial {
		t.Errorf("%+v", got)
	}
}

// endlessStore has messages without end that were deleted just now.
type endlessStore struct{ store.Store }

func (s endlessStore) Scan(_ context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	now := layout.Gone("org1", time.Now().UnixNano(), "0198aaaa-0000-7000-8000-000000000001", layout.MessageID(1, 0))
	return slices.Repeat([]store.Record{{Key: now}}, opt.Max()), nil
}
