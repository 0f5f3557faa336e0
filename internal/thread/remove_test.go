package thread

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

func TestADeletedMessageIsGoneButForItsVersions(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	m := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("a")})
	edited := w.edit(t, owner, th.ID, m.ID, "b")
	w.react(t, owner, th.ID, m.ID, "+")
	w.unsay(t, th.ID, m.ID)
	before := w.dump(t)
	wantCode(t, w.DeleteMessage(t.Context(), owner, th.ID, m.ID), fault.NotFound)
	for name, err := range map[string]error{
		"get":       second(w.GetMessage(t.Context(), owner, th.ID, m.ID)),
		"edit":      second(w.EditMessage(t.Context(), owner, th.ID, m.ID, api.EditMessage{Role: "x"})),
		"react":     second(w.React(t.Context(), owner, th.ID, m.ID, api.Reaction{Reaction: "+"})),
		"reactions": second(w.ListReactions(t.Context(), owner, th.ID, m.ID)),
	} {
		if !errorIs(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x"), ReplyTo: m.ID})
	wantCode(t, err, fault.Invalid)
	w.unchanged(t, before)

	versions := w.versionsOf(t, owner, th.ID, m.ID).Versions
	gone := m
	gone.Body, gone.Deleted, gone.Version, gone.Reactions = nil, true, 3, map[string]string{owner.ID: "+"}
	gone.UpdatedTS = versions[2].UpdatedTS
	if diff := cmp.Diff([]api.Message{m, edited, gone}, versions); diff != "" {
		t.Error(diff)
	}
	if _, there := before[layout.Gone(owner.OrgID, gone.UpdatedTS, th.ID, m.ID)]; !there {
		t.Error("the index of what is gone lacks it")
	}
	if p := (access.Principal{Kind: access.User, ID: "x", OrgID: "org1"}); !errorIs(second(w.ListVersions(t.Context(), p, th.ID, m.ID, 0, "")), fault.Forbidden) {
		t.Error("another reads the versions")
	}
}

func TestTheAuthorAndTheThreadsOwnerDeleteAMessage(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	other := access.Principal{Kind: access.User, ID: "other", OrgID: owner.OrgID}
	w.share(t, th.ID, mate, other)
	say := func() string { return w.post(t, mate, th.ID, api.PostMessage{Body: quoted("x")}).ID }
	a, b := say(), say()
	before := w.dump(t)
	for _, p := range []access.Principal{other, stranger, nobody} {
		err := w.DeleteMessage(t.Context(), p, th.ID, a)
		if want := map[access.Principal]fault.Code{other: fault.Forbidden, stranger: fault.NotFound, nobody: fault.Unauthenticated}[p]; !errorIs(err, want) {
			t.Errorf("%s: %v, want %s", p.Ref(), err, want)
		}
	}
	w.unchanged(t, before)
	if err := w.DeleteMessage(t.Context(), mate, th.ID, a); err != nil {
		t.Error("the author:", err)
	}
	if err := w.DeleteMessage(t.Context(), owner, th.ID, b); err != nil {
		t.Error("the owner:", err)
	}
}

func TestATimeWhoseMessagesAreDeletedTakesMore(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	for seq := range 4 {
		m := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 5})
		if m.ID != layout.MessageID(5, seq) {
			t.Fatalf("message %d is %s", seq, m.ID)
		}
		if seq != 1 {
			w.unsay(t, th.ID, m.ID)
		}
	}
	w.overwrite(t, deletedRow(layout.MessageID(6, maxSeq)).key(th.ID), []byte("x"))
	w.overwrite(t, newestRow(layout.MessageID(6, maxSeq-1)).key(th.ID), []byte("x"))
	w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 6})
	_, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 6})
	wantCode(t, err, fault.Conflict)
}
