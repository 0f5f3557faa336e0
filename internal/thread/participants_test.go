package thread

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

// More people: of the owner's org but for the last.
var (
	colleague = access.Principal{Kind: access.User, ID: "0198aaaa-0000-7000-8000-000000000002", OrgID: "org1"}
	robot     = access.Principal{Kind: access.Agent, ID: "0198aaaa-0000-7000-8000-000000000003", OrgID: "org1", Ceiling: &access.Ceiling{}}
	guest     = access.Principal{Kind: access.EndUser, ID: "x:/ü", OrgID: "org1"}
	foreigner = access.Principal{Kind: access.User, ID: "0198aaaa-0000-7000-8000-000000000004", OrgID: "org2"}
)

// newOffice is a world that knows them.
func newOffice(t *testing.T) *world {
	w := newWorld(t)
	w.known = func(_ context.Context, org string, kind access.Kind, id string) error {
		for _, p := range []access.Principal{owner, colleague, robot, foreigner} {
			if p.OrgID == org && p.Kind == kind && p.ID == id {
				return nil
			}
		}
		return fault.New(fault.NotFound, "nobody")
	}
	return w
}

func (w *world) giveTo(t testing.TB, thread string, p access.Principal, part access.Part) {
	t.Helper()
	if _, err := w.SetParticipant(t.Context(), owner, thread, p.ID, api.PutParticipant{Part: string(part), EndUser: p.Kind == access.EndUser}); err != nil {
		t.Fatal(err)
	}
}

// ways are all ways to a thread, and which part they take; "": the owner's alone.
func (w *world) ways(p access.Principal, thread, message string) map[string]struct {
	part access.Part
	do   func(context.Context) error
} {
	type way = struct {
		part access.Part
		do   func(context.Context) error
	}
	end := p.Kind == access.EndUser
	return map[string]way{
		"get":  {access.Reader, func(ctx context.Context) error { _, err := w.Get(ctx, p, thread); return err }},
		"list": {access.Reader, func(ctx context.Context) error { _, err := w.ListMessages(ctx, p, thread, MessageQuery{}); return err }},
		"older": {access.Reader, func(ctx context.Context) error {
			_, err := w.ListMessages(ctx, p, thread, MessageQuery{Before: message})
			return err
		}},
		"newer": {access.Reader, func(ctx context.Context) error {
			_, err := w.ListMessages(ctx, p, thread, MessageQuery{After: message})
			return err
		}},
		"around": {access.Reader, func(ctx context.Context) error {
			_, err := w.Page(ctx, p, thread, MessageQuery{Anchor: message})
			return err
		}},
		"deleted": {access.Reader, func(ctx context.Context) error {
			_, err := w.Page(ctx, p, thread, MessageQuery{IncludeDeleted: true})
			return err
		}},
		"count":     {access.Reader, func(ctx context.Context) error { _, err := w.Count(ctx, p, thread); return err }},
		"message":   {access.Reader, func(ctx context.Context) error { _, err := w.GetMessage(ctx, p, thread, message); return err }},
		"versions":  {access.Reader, func(ctx context.Context) error { _, err := w.ListVersions(ctx, p, thread, message, 1, ""); return err }},
		"version 2": {access.Reader, func(ctx context.Context) error { _, err := w.ListVersions(ctx, p, thread, message, 1, "1"); return err }},
		"reactions": {access.Reader, func(ctx context.Context) error { _, err := w.ListReactions(ctx, p, thread, message); return err }},
		"parts":     {access.Reader, func(ctx context.Context) error { _, err := w.Participants(ctx, p, thread); return err }},
		"follow": {access.Reader, func(ctx context.Context) error {
			f, err := w.Follow(ctx, p, thread, "")
			if err == nil {
				f.Close()
			}
			return err
		}},
		"post": {access.Writer, func(ctx context.Context) error {
			_, err := w.Post(ctx, p, thread, api.PostMessage{Body: quoted("x")})
			return err
		}},
		"react": {access.Writer, func(ctx context.Context) error {
			_, err := w.React(ctx, p, thread, message, api.Reaction{Reaction: "+"})
			return err
		}},
		"unreact": {access.Writer, func(ctx context.Context) error {
			_, _ = w.React(ctx, p, thread, message, api.Reaction{Reaction: "+"})
			return w.Unreact(ctx, p, thread, message, "")
		}},
		"edit": {"", func(ctx context.Context) error {
			_, err := w.EditMessage(ctx, p, thread, message, api.EditMessage{Role: "other"})
			return err
		}},
		"delete":        {"", func(ctx context.Context) error { return w.DeleteMessage(ctx, p, thread, message) }},
		"rename":        {"", func(ctx context.Context) error { _, err := w.Rename(ctx, p, thread, api.UpdateThread{}); return err }},
		"delete thread": {"", func(ctx context.Context) error { return w.Delete(ctx, p, thread) }},
		"share": {"", func(ctx context.Context) error {
			_, err := w.SetParticipant(ctx, p, thread, "friend", api.PutParticipant{Part: "write", EndUser: true})
			return err
		}},
		"take more": {"", func(ctx context.Context) error {
			_, err := w.SetParticipant(ctx, p, thread, p.ID, api.PutParticipant{Part: "write", EndUser: end})
			return err
		}},
		"remove another": {"", func(ctx context.Context) error { return w.RemoveParticipant(ctx, p, thread, "other", true) }},
	}
}

func TestAParticipantDoesWhatHisPartSaysAndNoMore(t *testing.T) {
	for _, p := range []access.Principal{colleague, robot, guest} {
		for _, part := range []access.Part{access.Reader, access.Writer} {
			t.Run(fmt.Sprintf("%s %s", p.Kind, part), func(t *testing.T) {
				w := newOffice(t)
				th := w.thread(t, owner, "t")
				id := w.say(t, th.ID, "the owner's")
				w.giveTo(t, th.ID, p, part)
				w.giveTo(t, th.ID, access.Principal{Kind: access.EndUser, ID: "other"}, access.Reader)
				for name, way := range w.ways(p, th.ID, id) {
					want := way.part == part || way.part == access.Reader
					before := w.dump(t)
					err := way.do(t.Context())
					if want && err != nil || !want && !errors.Is(err, fault.Forbidden) {
						t.Errorf("%s: %v", name, err)
					}
					if !want {
						w.unchanged(t, before)
					}
				}
			})
		}
	}
}

func TestAWriterEditsAndDeletesHisOwnMessages(t *testing.T) {
	w := newOffice(t)
	th := w.thread(t, owner, "t")
	w.giveTo(t, th.ID, colleague, access.Writer)
	id := w.post(t, colleague, th.ID, api.PostMessage{Body: quoted("his")}).ID
	if _, err := w.EditMessage(t.Context(), colleague, th.ID, id, api.EditMessage{Role: "r"}); err != nil {
		t.Error(err)
	}
	_, err := w.EditMessage(t.Context(), owner, th.ID, id, api.EditMessage{Role: "s"})
	wantCode(t, err, fault.Forbidden)
	w.giveTo(t, th.ID, colleague, access.Reader) // which takes it from him
	wantCode(t, w.DeleteMessage(t.Context(), colleague, th.ID, id), fault.Forbidden)
	w.giveTo(t, th.ID, colleague, access.Writer)
	if err := w.DeleteMessage(t.Context(), colleague, th.ID, id); err != nil {
		t.Error(err)
	}
}

// By every way, and with a cursor that was his when he had a part.
func TestWhoIsRemovedHasNoWayToTheThread(t *testing.T) {
	for _, p := range []access.Principal{colleague, robot, guest} {
		w := newOffice(t)
		first, th := w.thread(t, owner, "first"), w.thread(t, owner, "t")
		id := w.say(t, th.ID, "text")
		w.giveTo(t, first.ID, p, access.Writer)
		w.giveTo(t, th.ID, p, access.Writer)
		page, err := w.List(t.Context(), p, ListQuery{Limit: 1})
		if err != nil || len(page.Threads) != 1 || page.Threads[0].ID != th.ID || page.Threads[0].Part != "write" || page.NextCursor == "" {
			t.Fatalf("%+v, %v", page, err)
		}
		f := follow(t, w.Service, p, th.ID, "")
		for _, id := range []string{first.ID, th.ID} {
			if err := w.RemoveParticipant(t.Context(), owner, id, p.ID, p.Kind == access.EndUser); err != nil {
				t.Fatal(err)
			}
		}
		before := w.dump(t)
		for name, way := range w.ways(p, th.ID, id) {
			if err := way.do(t.Context()); !errors.Is(err, fault.Forbidden) {
				t.Errorf("%s: %s: %v", p.Kind, name, err)
			}
		}
		wantCode(t, w.RemoveParticipant(t.Context(), p, th.ID, p.ID, p.Kind == access.EndUser), fault.Forbidden)
		w.unchanged(t, before)
		for _, q := range []ListQuery{{}, {Cursor: page.NextCursor}, {Slug: th.Slug}, {Title: "t"}} {
			if page, err := w.List(t.Context(), p, q); err != nil || len(page.Threads) != 0 {
				t.Errorf("%s: %+v: %+v, %v", p.Kind, q, page, err)
			}
		}
		if left := w.rowsOf(t, layout.OrgThreads(p.OrgID, p.ID)); len(left) > 0 {
			t.Errorf("%s: left in the index are %q", p.Kind, left)
		}
		<-f.News()
		if _, err := f.Next(t.Context(), p); !errors.Is(err, fault.Forbidden) {
			t.Errorf("%s follows on: %v", p.Kind, err)
		}
	}
}

func TestAPostThatMeetsTheRemovalOfItsAuthorIsRefused(t *testing.T) {
	w := newOffice(t)
	th := w.thread(t, owner, "t")
	w.giveTo(t, th.ID, colleague, access.Writer)
	w.store.beforeCommit = func() error {
		w.store.beforeCommit = nil
		return w.RemoveParticipant(context.Background(), owner, th.ID, colleague.ID, false)
	}
	_, err := w.Post(t.Context(), colleague, th.ID, api.PostMessage{Body: quoted("late")})
	wantCode(t, err, fault.Forbidden)
	if got := w.list(t, owner, th.ID, MessageQuery{}); len(got.Messages) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestAnotherOrgNeverHasAPart(t *testing.T) {
	w := newOffice(t)
	th := w.thread(t, owner, "t")
	id := w.say(t, th.ID, "text")
	w.giveTo(t, th.ID, colleague, access.Writer)
	w.giveTo(t, th.ID, guest, access.Writer)
	before := w.dump(t)
	var first error
	for _, who := range []string{foreigner.ID, "0198aaaa-0000-7000-8000-00000000ffff", "x", "", "a@example.com", strings.ToUpper(colleague.ID), "{" + colleague.ID + "}"} {
		_, err := w.SetParticipant(t.Context(), owner, th.ID, who, api.PutParticipant{Part: "read"})
		wantCode(t, err, fault.NotFound)
		if first == nil {
			first = err
		}
		if err.Error() != first.Error() {
			t.Errorf("%q is told apart: %v", who, err)
		}
	}
	for _, p := range []access.Principal{foreigner, stranger,
		{Kind: access.User, ID: colleague.ID, OrgID: "org2"}, {Kind: access.EndUser, ID: guest.ID, OrgID: "org2"}} {
		for name, way := range w.ways(p, th.ID, id) {
			if err := way.do(t.Context()); !errors.Is(err, fault.NotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		wantCode(t, w.RemoveParticipant(t.Context(), p, th.ID, colleague.ID, false), fault.NotFound)
		wantCode(t, w.RemoveParticipant(t.Context(), p, th.ID, p.ID, p.Kind == access.EndUser), fault.NotFound)
		if page, err := w.List(t.Context(), p, ListQuery{}); err != nil || len(page.Threads) != 0 {
			t.Errorf("%+v, %v", page, err)
		}
	}
	w.unchanged(t, before)
}

func TestAUserAndAnEndUserOfOneIDAreTwo(t *testing.T) {
	w := newOffice(t)
	th := w.thread(t, owner, "t")
	twin := access.Principal{Kind: access.EndUser, ID: colleague.ID, OrgID: "org1"}
	own := access.Principal{Kind: access.EndUser, ID: owner.ID, OrgID: "org1"}
	w.giveTo(t, th.ID, colleague, access.Reader)
	for _, p := range []access.Principal{twin, own} {
		_, err := w.Get(t.Context(), p, th.ID)
		wantCode(t, err, fault.Forbidden)
		wantCode(t, w.RemoveParticipant(t.Context(), owner, th.ID, p.ID, true), fault.NotFound)
		w.giveTo(t, th.ID, p, access.Writer)
	}
	if diff := cmp.Diff([]api.Participant{{ID: colleague.ID, Part: "read"}, {ID: twin.ID, EndUser: true, Part: "write"}, {ID: own.ID, EndUser: true, Part: "write"}}, w.parts(t, th.ID)); diff != "" {
		t.Error(diff)
	}
	for _, p := range []access.Principal{twin, own} {
		if err := w.RemoveParticipant(t.Context(), owner, th.ID, p.ID, true); err != nil {
			t.Fatal(err)
		}
		if page, err := w.List(t.Context(), p, ListQuery{}); err != nil || len(page.Threads) != 0 {
			t.Errorf("%+v, %v", page, err)
		}
	}
	for _, p := range []access.Principal{owner, colleague} { // whose entries are left
		if page, err := w.List(t.Context(), p, ListQuery{}); err != nil || len(page.Threads) != 1 {
			t.Errorf("%s: %+v, %v", p.ID, page, err)
		}
	}
}

func (w *world) parts(t testing.TB, thread string) []api.Participant {
	t.Helper()
	out, err := w.Participants(t.Context(), owner, thread)
	if err != nil {
		t.Fatal(err)
	}
	return out.Participants
}

func TestAParticipantLeavesAndTheOwnerDoesNot(t *testing.T) {
	w := newOffice(t)
	th := w.thread(t, owner, "t")
	for _, p := range []access.Principal{colleague, guest} {
		w.giveTo(t, th.ID, p, access.Reader)
		end := p.Kind == access.EndUser
		wantCode(t, w.RemoveParticipant(t.Context(), p, th.ID, p.ID, !end), fault.Forbidden) // that is another
		if err := w.RemoveParticipant(t.Context(), p, th.ID, p.ID, end); err != nil {
			t.Error(err)
		}
		_, err := w.Get(t.Context(), p, th.ID)
		wantCode(t, err, fault.Forbidden)
	}
	wantCode(t, w.RemoveParticipant(t.Context(), owner, th.ID, owner.ID, false), fault.NotFound)
	_, err := w.SetParticipant(t.Context(), owner, th.ID, owner.ID, api.PutParticipant{Part: "read"})
	wantCode(t, err, fault.Invalid)
	if _, err := w.Get(t.Context(), owner, th.ID); err != nil {
		t.Error(err)
	}
}

func TestAThreadTakesAHundredParticipants(t *testing.T) {
	w := newOffice(t)
	th := w.thread(t, owner, "t")
	for i := range MaxParts {
		w.giveTo(t, th.ID, access.Principal{Kind: access.EndUser, ID: fmt.Sprint("user ", i)}, access.Reader)
	}
	before := w.dump(t)
	_, err := w.SetParticipant(t.Context(), owner, th.ID, "one more", api.PutParticipant{Part: "read", EndUser: true})
	wantCode(t, err, fault.Conflict)
	for _, bad := range []string{"", strings.Repeat("x", 37), "a\nb", "\xff"} {
		_, err := w.SetParticipant(t.Context(), owner, th.ID, bad, api.PutParticipant{Part: "read", EndUser: true})
		wantCode(t, err, fault.Invalid)
	}
	for _, part := range []string{"", "Read", "owner"} {
		_, err := w.SetParticipant(t.Context(), owner, th.ID, "user 1", api.PutParticipant{Part: part, EndUser: true})
		wantCode(t, err, fault.Invalid)
	}
	w.unchanged(t, before)
	w.giveTo(t, th.ID, access.Principal{Kind: access.EndUser, ID: "user 1"}, access.Writer) // another part
	if parts := w.parts(t, th.ID); len(parts) != MaxParts || parts[1].Part != "write" {
		t.Errorf("%d %+v", len(parts), parts[1])
	}
	if err := w.Delete(t.Context(), owner, th.ID); err != nil {
		t.Fatal(err)
	}
	for key := range w.dump(t) {
		if strings.HasPrefix(key, "orgthread:") {
			t.Errorf("%s is left of a deleted thread", key)
		}
	}
}

func TestSharingIsRecordedWithWhomAndWhat(t *testing.T) {
	w := newOffice(t)
	th := w.thread(t, owner, "t")
	w.asked.Asked()
	w.giveTo(t, th.ID, colleague, access.Writer)
	_, err := w.SetParticipant(t.Context(), owner, th.ID, "1ck_astray", api.PutParticipant{Part: "1ck_astray"})
	wantCode(t, err, fault.Invalid)
	asked := w.asked.Asked()
	if len(asked) != 2 || asked[0].Action != access.ThreadShare || asked[0].Resource.ID != th.ID {
		t.Fatalf("%+v", asked)
	}
	if diff := cmp.Diff(map[string]string{"participant_id": colleague.ID, "part": "write"}, asked[0].Resource.Details); diff != "" {
		t.Error(diff)
	}
	if len(asked[1].Resource.Details) != 0 {
		t.Errorf("%v", asked[1].Resource.Details)
	}
}
