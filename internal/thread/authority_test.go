package thread

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// recorded is what the gate was asked since the last call: "action type id".
func (w *world) recorded() (out []string) {
	for _, a := range w.asked.Asked() {
		out = append(out, fmt.Sprintf("%s %s %s", a.Action, a.Resource.Type, a.Resource.ID))
	}
	return out
}

func TestEveryCallAsksTheGateOnce(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "a thread")
	for name, want := range map[string]access.Action{
		"Get": access.ThreadRead, "Post": access.MessageAppend, "ListMessages": access.MessageRead, "GetMessage": access.MessageRead, "Delete": access.ThreadDelete,
		"PostWith": access.MessageAppend, "Page": access.MessageRead, "Count": access.MessageRead, "EditMessage": access.MessageWrite, "DeleteMessage": access.MessageWrite,
		"ListVersions": access.MessageRead, "React": access.MessageWrite, "Unreact": access.MessageWrite, "ListReactions": access.MessageRead, "Rename": access.ThreadWrite,
		"Export": access.MessageRead, "Import": access.MessageAppend, "Participants": access.ThreadRead, "SetParticipant": access.ThreadShare, "RemoveParticipant": access.ThreadShare,
	} {
		for _, p := range []access.Principal{nobody, stranger, mate} {
			w.recorded()
			_ = onThread[name](w.Service, t.Context(), p, th.ID)
			if got := w.recorded(); !slices.Equal(got, []string{string(want) + " thread " + th.ID}) {
				t.Errorf("%s by %s: %q", name, p.Ref(), got)
			}
		}
		_ = onThread[name](w.Service, t.Context(), owner, "a text for an ID")
		if got := w.recorded(); !slices.Equal(got, []string{string(want) + " thread "}) {
			t.Errorf("%s of no ID: %q", name, got)
		}
	}
	made := w.thread(t, owner, "")
	if got := w.recorded(); !slices.Equal(got, []string{"thread.create thread " + made.ID}) {
		t.Errorf("Create: %q", got)
	}
	if _, err := w.List(t.Context(), owner, ListQuery{}); err != nil {
		t.Fatal(err)
	}
	if got := w.recorded(); !slices.Equal(got, []string{"thread.read thread "}) {
		t.Errorf("List: %q", got)
	}
}

func TestWhatTheGateDoesNotPassIsNotTouched(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "a thread")
	before, calls := w.dump(t), w.kms.calls.Load()
	w.asked.Fail = fault.New(fault.Unavailable, "the audit trail cannot be written")
	for name, call := range onThread {
		if err := call(w.Service, t.Context(), owner, th.ID); !errorIs(err, fault.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, call := range onNone {
		if err := call(w.Service, t.Context(), owner); !errorIs(err, fault.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.unchanged(t, before)
	if w.kms.calls.Load() != calls {
		t.Error("the KMS was called")
	}
}

func TestADeletionThatMeetsOthersIsDecidedOnce(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "a thread")
	w.recorded()
	met := 0
	w.store.beforeCommit = func() error {
		if met++; met < 4 {
			return store.ErrConflict
		}
		return nil
	}
	if err := w.Delete(t.Context(), owner, th.ID); err != nil || met != 4 {
		t.Errorf("%v after %d tries", err, met)
	}
	if got := w.recorded(); len(got) != 1 {
		t.Errorf("recorded %q", got)
	}

	th = w.thread(t, owner, "another")
	w.recorded()
	w.store.beforeCommit = func() error {
		w.store.beforeCommit = nil
		return w.another().Delete(context.Background(), owner, th.ID)
	}
	if err := w.Delete(t.Context(), owner, th.ID); err != access.NotThere {
		t.Errorf("deleted meanwhile: %v", err)
	}
	if got := w.recorded(); len(got) != 2 {
		t.Errorf("recorded %q", got)
	}
}

// An org names its end users as it likes; none becomes a user or agent by it.
func TestAnEndUserIsNobodyElseForHavingHisID(t *testing.T) {
	w := newWorld(t)
	end := access.Principal{Kind: access.EndUser, ID: owner.ID, OrgID: owner.OrgID}
	program := access.Principal{Kind: access.Agent, ID: owner.ID, OrgID: owner.OrgID}
	theirs := map[string]access.Principal{w.thread(t, owner, "of the user").ID: owner, w.thread(t, end, "of the end user").ID: end}
	for id, author := range theirs {
		for _, p := range []access.Principal{owner, end} {
			for name, call := range onThread {
				if name == "Delete" {
					continue
				}
				err := call(w.Service, t.Context(), p, id)
				if p != author && !errorIs(err, fault.Forbidden) || p == author && errorIs(err, fault.Forbidden) {
					t.Errorf("%s by %s of a thread of %s: %v", name, p.Ref(), author.Ref(), err)
				}
			}
			if p == author {
				continue
			}
			if err := w.Delete(t.Context(), p, id); !errorIs(err, fault.Forbidden) {
				t.Errorf("Delete by %s: %v", p.Ref(), err)
			}
		}
		for _, p := range []access.Principal{owner, end} {
			list, err := w.List(t.Context(), p, ListQuery{})
			if err != nil || len(list.Threads) != 1 || theirs[list.Threads[0].ID] != p {
				t.Errorf("%s lists %+v, %v", p.Ref(), list, err)
			}
		}
	}
	if _, err := w.Create(t.Context(), program, api.CreateThread{}); err != nil {
		t.Errorf("an agent: %v", err)
	}
}
