package thread

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func (w *world) hold(t testing.TB, thread string) {
	t.Helper()
	if _, err := w.Hold(t.Context(), boss, thread, api.PutHold{Reason: "case 7"}); err != nil {
		t.Fatal(err)
	}
}

func TestAHoldKeepsAThreadAndItsMessagesUntilItIsReleased(t *testing.T) {
	w := newWorld(t)
	live, gone := w.thread(t, owner, "live"), w.thread(t, owner, "gone")
	w.talk(t, live.ID)
	w.talk(t, gone.ID)
	w.hold(t, live.ID)
	w.drop(t, gone.ID)
	w.keep(t, boss, 1, 1)
	w.pass(2 * day)
	if got := w.preview(t, boss); (got != api.RetentionPreview{Threads: 1, Held: 1}) {
		t.Errorf("the preview says %+v", got)
	}
	w.hold(t, gone.ID) // deleted, and between preview and run
	rows := len(w.rowsOf(t, ":msg:")) + len(w.rowsOf(t, ":past:")) + len(w.rowsOf(t, ":react:")) + len(w.rowsOf(t, ":del:"))
	w.purge(t)
	if now := len(w.rowsOf(t, ":msg:")) + len(w.rowsOf(t, ":past:")) + len(w.rowsOf(t, ":react:")) + len(w.rowsOf(t, ":del:")); now != rows || len(w.kms.keys) != 2 {
		t.Errorf("of %d rows are left %d, of 2 DEKs %d", rows, now, len(w.kms.keys))
	}
	w.drop(t, live.ID) // a held thread can be deleted, and stays
	w.pass(2 * day)
	if got := w.preview(t, boss); (got != api.RetentionPreview{Held: 2}) {
		t.Errorf("the preview says %+v", got)
	}
	w.purge(t)
	for _, th := range []api.Thread{live, gone} {
		w.get(t, layout.ThreadMeta(th.ID))
		if err := w.Release(t.Context(), boss, th.ID); err != nil {
			t.Fatal(err)
		}
	}
	w.purge(t)
	if left := append(w.rowsOf(t, live.ID), w.rowsOf(t, gone.ID)...); len(left) != 0 || len(w.kms.keys) != 0 {
		t.Errorf("left are %q and %d DEKs", left, len(w.kms.keys))
	}
}

// A hold that is set while a batch is made is committed first, and the batch is not.
func TestAHoldThatComesInTheMiddleOfARunWins(t *testing.T) {
	for name, takes := range map[string]func(id string) func(store.Write) bool{
		"mark": func(id string) func(store.Write) bool {
			return func(wr store.Write) bool { return wr.Key == layout.ThreadMeta(id) }
		},
		"message": func(id string) func(store.Write) bool {
			return func(wr store.Write) bool { return wr.Delete && strings.HasPrefix(wr.Key, layout.Messages(id)) }
		},
		"deleted message": func(id string) func(store.Write) bool {
			return func(wr store.Write) bool { return wr.Delete && strings.HasPrefix(wr.Key, layout.ThreadRow(id, "del:")) }
		},
	} {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		w.talk(t, th.ID)
		switch name {
		case "mark":
			w.drop(t, th.ID)
			w.keep(t, boss, 1, 0)
		case "message":
			w.keep(t, boss, 0, 1)
		default:
			w.keep(t, boss, 1, 0)
		}
		w.pass(2 * day)
		held := false
		w.purgeOver(t, w.meeting(takes(th.ID), func() { held = true; w.hold(t, th.ID) }))
		msgs := 0
		for _, kind := range rowKinds {
			for _, key := range w.rowsOf(t, th.ID) {
				if strings.HasPrefix(key, layout.ThreadRow(th.ID, kind)) {
					msgs++
				}
			}
		}
		if want := 4 + 1 + 3 + 2 + 3; !held || msgs != want && name != "message" || len(w.kms.keys) != 1 { // live, deleted, versions of both, reactions
			t.Errorf("%s: it was held: %v; %d rows of messages are left, want %d; DEKs %d", name, held, msgs, want, len(w.kms.keys))
		}
		if name == "message" && msgs < 4+3+3 {
			t.Errorf("%s: %d rows of messages are left", name, msgs)
		}
	}
}

// The thread's author has no say in it, nor has anybody but who runs the org.
func TestWhoRunsTheOrgHoldsAndNobodyElse(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	admin := access.Principal{Kind: access.User, ID: "adm", OrgID: "org1", Role: access.Admin}
	for _, c := range []struct {
		p      access.Principal
		thread string
		want   error
	}{
		{nobody, th.ID, fault.Unauthenticated},
		{owner, th.ID, fault.Forbidden}, // its author, a member
		{mate, th.ID, fault.Forbidden},
		{access.Principal{Kind: access.EndUser, ID: owner.ID, OrgID: "org1"}, th.ID, fault.Forbidden},
		{access.Principal{Kind: access.Agent, ID: owner.ID, OrgID: "org1", Ceiling: &access.Ceiling{}}, th.ID, fault.Forbidden},
		{access.Principal{Kind: access.User, ID: "adm", OrgID: "org1", Role: access.Admin, Ceiling: &access.Ceiling{Vaults: []string{"v"}}}, th.ID, fault.Forbidden},
		{other, th.ID, fault.NotFound},
		{boss, uuid.NewString(), fault.NotFound},
		{boss, "x", fault.NotFound},
		{admin, th.ID, nil},
		{boss, th.ID, nil},
	} {
		before := w.dump(t)
		_, err := w.Hold(t.Context(), c.p, c.thread, api.PutHold{})
		_, err1 := w.GetHold(t.Context(), c.p, c.thread)
		err2 := w.Release(t.Context(), c.p, c.thread)
		for _, err := range []error{err, err1, err2} {
			if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%+v: %v, want %v", c.p, err, c.want)
			}
		}
		if c.want != nil {
			w.unchanged(t, before)
		}
		_, err = w.Retention(t.Context(), c.p)
		_, err2 = w.SetRetention(t.Context(), c.p, api.Retention{})
		_, err3 := w.PreviewRetention(t.Context(), c.p, nil)
		if runs := c.p.Role == access.Owner || c.p.Role == access.Admin; runs != (err == nil) || runs != (err3 == nil) || (runs && c.p.Ceiling == nil) != (err2 == nil) {
			t.Errorf("%+v: retention %v, %v, %v", c.p, err, err2, err3)
		}
	}
}

// Who may not hold a thread is not told whether it is held.
func TestAHoldIsReadAsItIsAndByNobodyElse(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	if _, err := w.GetHold(t.Context(), boss, th.ID); !errorIs(err, fault.NotFound) {
		t.Errorf("of none: %v", err)
	}
	_, without := w.GetHold(t.Context(), owner, th.ID)
	set, err := w.Hold(t.Context(), boss, th.ID, api.PutHold{Reason: "case 7"})
	if err != nil {
		t.Fatal(err)
	}
	if _, with := w.GetHold(t.Context(), owner, th.ID); !errorIs(with, fault.Forbidden) || with.Error() != without.Error() {
		t.Errorf("its author is told %v, and %v without a hold", with, without)
	}
	w.drop(t, th.ID) // a deleted thread says so still
	before := w.dump(t)
	if got, err := w.GetHold(t.Context(), boss, th.ID); err != nil || got != set {
		t.Errorf("%+v, %v; want %+v", got, err, set)
	}
	w.unchanged(t, before)
	if err := w.Release(t.Context(), boss, th.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.GetHold(t.Context(), boss, th.ID); !errorIs(err, fault.NotFound) {
		t.Errorf("after the release: %v", err)
	}
}

func TestAHoldSaysWhoAndSinceWhen(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	first, err := w.Hold(t.Context(), boss, th.ID, api.PutHold{Reason: "one"})
	if err != nil || first.By != boss.ID || first.Since == 0 || first.Reason != "one" {
		t.Fatalf("%+v, %v", first, err)
	}
	w.pass(time.Hour)
	admin := access.Principal{Kind: access.User, ID: "adm", OrgID: "org1", Role: access.Admin}
	if again, err := w.Hold(t.Context(), admin, th.ID, api.PutHold{Reason: "two"}); err != nil || again.By != first.By || again.Since != first.Since || again.Reason != "two" {
		t.Errorf("%+v, %v", again, err)
	}
	for _, reason := range []string{strings.Repeat("x", MaxReason+1), "a\nb", "\xff"} {
		if _, err := w.Hold(t.Context(), boss, th.ID, api.PutHold{Reason: reason}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%.10q: %v", reason, err)
		}
	}
	var done []string
	if err := w.Release(t.Context(), boss, th.ID); err != nil {
		t.Fatal(err)
	}
	for _, e := range w.asked.WasDone() {
		done = append(done, e.Resource.As+" "+e.Principal.ID+" "+e.Resource.ID)
	}
	if want := "thread.hold " + boss.ID + " " + th.ID + ",thread.hold adm " + th.ID + ",thread.release " + boss.ID + " " + th.ID; strings.Join(done, ",") != want {
		t.Errorf("the trail says %q", done)
	}
}
