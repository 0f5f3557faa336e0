package thread

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestARunSweepsChangesAndRequestsThatAreADayOld(t *testing.T) {
	w := newWorld(t)
	th, other := w.thread(t, owner, "t"), w.thread(t, owner, "other")
	w.bulk(t, th.ID, 1, 3*purgeRows)
	post := func(key string) {
		t.Helper()
		if _, err := w.PostWith(t.Context(), owner, th.ID, api.PostMessage{Body: quoted(key), TS: 7}, PostOptions{IdempotencyKey: key}); err != nil {
			t.Fatal(err)
		}
	}
	post("old")
	w.say(t, other.ID, "x")
	w.pass(day - time.Hour)
	post("young")
	w.purge(t)
	if n := len(w.rowsOf(t, ":sent:")); n != 2 {
		t.Errorf("%d requests are known within a day", n)
	}
	w.pass(time.Hour + time.Minute + time.Second)
	messages := len(w.rowsOf(t, ":msg:"))
	w.purge(t)
	if n := len(w.rowsOf(t, ":sent:")); n != 1 {
		t.Errorf("%d requests are left, want the young one", n)
	}
	if got := w.rowsOf(t, ":change:"); len(got) != 1 || !strings.Contains(got[0], th.ID) {
		t.Errorf("left are the changes %q", got)
	}
	if n := len(w.rowsOf(t, ":msg:")); n != messages {
		t.Errorf("of %d messages are left %d", messages, n)
	}
	post("old") // the key is free again
}

// Of all who start a run at one time, on however many servers, one does.
func TestOneRunIsUnderWayAtATime(t *testing.T) {
	w := newWorld(t)
	w.fill(t, 3)
	hung := make(chan struct{})
	s := &hangingStore{Store: w.store.Store, hang: hung}
	threads, r := w.purging(s)
	defer r.Close()
	first, err := threads.StartPurge(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			another, r2 := w.purging(w.store.Store)
			defer r2.Close()
			j, err := another.StartPurge(t.Context(), r2)
			if err != nil || j.ID != first.ID {
				t.Errorf("a start while a run is under way: %+v, %v", j, err)
			}
			if next, err := another.PurgeEvery(t.Context(), r2, time.Duration(i+1)*time.Second); err != nil || next <= 0 || next > time.Minute {
				t.Errorf("a schedule that meets a run: in %v, %v", next, err)
			}
		})
	}
	all.Wait()
	close(hung)
	if j := await(t, r, first.ID); j.Status != job.Completed {
		t.Errorf("%+v", j)
	}
	if n := w.runs(t, r); n != 1 {
		t.Errorf("there were %d runs", n)
	}
	for range 8 {
		all.Go(func() {
			another, r2 := w.purging(w.store.Store)
			defer r2.Close()
			if _, err := another.PurgeEvery(t.Context(), r2, time.Hour); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := w.runs(t, r); n != 1 {
		t.Errorf("a schedule started another run within its hour: there were %d", n)
	}
	w.pass(time.Hour)
	for range 8 {
		all.Go(func() {
			if _, err := threads.PurgeEvery(t.Context(), r, time.Hour); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := w.runs(t, r); n != 2 {
		t.Errorf("after the hour there were %d runs", n)
	}
}

func (w *world) runs(t *testing.T, r *job.Runner) int {
	t.Helper()
	jobs, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(slices.DeleteFunc(jobs, func(j job.Job) bool { return j.Kind != PurgeJob }))
}

// hangingStore lets nobody scan threads before hang is closed.
type hangingStore struct {
	store.Store
	hang chan struct{}
}

func (s *hangingStore) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	if strings.HasPrefix(r.Start, layout.Threads()) {
		<-s.hang
	}
	return s.Store.Scan(ctx, r, opt)
}

func TestAPolicyIsWithinItsLimits(t *testing.T) {
	w := newWorld(t)
	for _, r := range []api.Retention{{DeletedDays: -1}, {MessageDays: -1}, {DeletedDays: MaxDays + 1}, {MessageDays: 1 << 40}} {
		if _, err := w.SetRetention(t.Context(), boss, r); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", r, err)
		}
		if _, err := w.PreviewRetention(t.Context(), boss, &r); !errors.Is(err, fault.Invalid) {
			t.Errorf("a preview of %+v: %v", r, err)
		}
	}
	th := w.thread(t, owner, "t")
	w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 1})
	w.drop(t, th.ID)
	if got := must(w.PreviewRetention(t.Context(), boss, &api.Retention{MessageDays: 1})); got.Messages != 1 {
		t.Errorf("a preview of another policy: %+v", got)
	}
	w.keep(t, boss, MaxDays, MaxDays)
	if got := must(w.Retention(t.Context(), boss)); (got != api.Retention{DeletedDays: MaxDays, MessageDays: MaxDays}) {
		t.Errorf("%+v", got)
	}
	if j := w.purge(t); j.Processed != 0 {
		t.Errorf("a hundred years' policy purged %d", j.Processed)
	}
	w.keep(t, boss, 0, 0)
	if got := fmt.Sprint(w.rowsOf(t, "retention:")); got != "[]" {
		t.Errorf("left is %s", got)
	}
}
