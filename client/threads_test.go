package client_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/keyfoldtest"
)

func newThread(t testing.TB, c *client.Client, title string) string {
	t.Helper()
	th, err := c.CreateThread(t.Context(), api.CreateThread{Title: title})
	if err != nil {
		t.Fatal(err)
	}
	return th.ID
}

func TestTheLifeOfAThread(t *testing.T) {
	s := keyfoldtest.Start(t)
	c, ctx := newClient(t, s), t.Context()
	id := newThread(t, c, "Überschrift <1>")
	got, err := c.GetThread(ctx, id)
	if err != nil || got.Title != "Überschrift <1>" || got.Author != s.Owner.ID {
		t.Errorf("get: %+v, %v", got, err)
	}
	if page, err := c.ListThreads(ctx, client.ThreadQuery{Slug: got.Slug}); err != nil || len(page.Threads) != 1 {
		t.Errorf("by slug: %+v, %v", page, err)
	}
	if err := c.DeleteThread(ctx, id); err != nil {
		t.Error(err)
	}
	if _, err := c.GetThread(ctx, id); !client.IsNotFound(err) {
		t.Errorf("a deleted thread: %v", err)
	}
}

func TestThreadsIteratesOverAllPages(t *testing.T) {
	s := keyfoldtest.Start(t)
	c := newClient(t, s)
	var want []string // newest first
	for i := range 7 {
		want = append([]string{newThread(t, c, fmt.Sprint("t", i))}, want...)
	}
	var got []string
	for th, err := range c.Threads(t.Context(), client.ThreadQuery{Limit: 3}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, th.ID)
	}
	if !cmp.Equal(got, want) {
		t.Error(cmp.Diff(want, got))
	}
}

func TestMessageBodiesComeBackAsTheyWere(t *testing.T) {
	s := keyfoldtest.Start(t)
	c := newClient(t, s)
	thread := newThread(t, c, "")
	for _, body := range []string{`"<&>"`, `{"b":1,"a":[1.10,1e400,-0],"a":2}`, `12345678901234567890123`, `false`, `"\u2028\ud800"`, `""`, `[]`} {
		m, err := c.PostMessage(t.Context(), thread, api.PostMessage{Body: json.RawMessage(body), Role: "assistant", TS: 42})
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		got, err := c.GetMessage(t.Context(), thread, m.ID)
		if err != nil || string(got.Body) != body || got.Role != "assistant" || got.TS != 42 || got.Author != s.Owner.ID {
			t.Errorf("%s came back as %+v, %v", body, got, err)
		}
	}
}

func TestMessagesIteratesFromTheVeryFirst(t *testing.T) {
	s := keyfoldtest.Start(t)
	c := newClient(t, s)
	thread := newThread(t, c, "")
	var want []string
	for ts := int64(1); ts <= 450; ts++ { // 1 is the first time there is
		m, err := c.PostMessage(t.Context(), thread, api.PostMessage{Body: json.RawMessage(`0`), TS: ts})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, m.ID)
	}
	for _, after := range []int{-1, 0, 249, 449} {
		var got []string
		id := ""
		if after >= 0 {
			id = want[after]
		}
		for m, err := range c.Messages(t.Context(), thread, id) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m.ID)
		}
		if !cmp.Equal(got, append([]string(nil), want[after+1:]...)) {
			t.Errorf("after %q: %d messages, want %d", id, len(got), len(want)-after-1)
		}
	}
	page, err := c.ListMessages(t.Context(), thread, client.MessageQuery{Limit: 2, Before: want[10]})
	if err != nil || len(page) != 2 || page[1].ID != want[9] {
		t.Errorf("before: %+v, %v", page, err)
	}
	for range c.Messages(t.Context(), thread, "") {
		break // an iteration that is left early ends
	}
}

func TestHealthNeedsNoKeyAndTellsOfTheKMS(t *testing.T) {
	s := keyfoldtest.Start(t)
	c, err := client.New(s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	if h, err := c.Health(t.Context()); err != nil || h.Status != "healthy" || h.Version == "" {
		t.Errorf("%+v, %v", h, err)
	}
	s.SetKMSDown(true)
	if h, err := c.Health(t.Context()); err != nil || h.Status != "degraded" {
		t.Errorf("with the KMS down: %+v, %v", h, err)
	}
	if _, err := c.ListVaults(t.Context()); !client.IsUnauthenticated(err) {
		t.Errorf("without a key: %v", err)
	}
}

func TestMessagesAreEditedDeletedAndReactedTo(t *testing.T) {
	s := keyfoldtest.Start(t)
	c, ctx := newClient(t, s), t.Context()
	thread := newThread(t, c, "before")
	if th, err := c.UpdateThread(ctx, thread, api.UpdateThread{Title: "after"}); err != nil || th.Title != "after" {
		t.Errorf("%+v, %v", th, err)
	}
	m, err := c.PostMessage(ctx, thread, api.PostMessage{Body: json.RawMessage(`1`)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if got, err := c.EditMessage(ctx, thread, m.ID, api.EditMessage{Body: json.RawMessage(fmt.Sprint(i + 2))}); err != nil || got.Version != i+2 {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if got, err := c.React(ctx, thread, m.ID, "+1"); err != nil || got.Reactions[s.Owner.ID] != "+1" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Reactions(ctx, thread, m.ID); err != nil || !cmp.Equal(got, []api.Reaction{{ID: s.Owner.ID, Reaction: "+1"}}) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.Unreact(ctx, thread, m.ID, s.Owner.ID); err != nil {
		t.Error(err)
	}
	if err := c.DeleteMessage(ctx, thread, m.ID); err != nil {
		t.Error(err)
	}
	if page, err := c.ListMessages(ctx, thread, client.MessageQuery{}); err != nil || len(page) != 0 {
		t.Errorf("%+v, %v", page, err)
	}
	var all, versions []string
	for m, err := range c.AllMessages(ctx, thread, "") {
		all = append(all, fmt.Sprintln(m.ID, m.Deleted, err))
	}
	for v, err := range c.MessageVersions(ctx, thread, m.ID) {
		versions = append(versions, fmt.Sprintln(string(v.Body), v.Deleted, err))
	}
	if !cmp.Equal(all, []string{m.ID + " true <nil>\n"}) || !cmp.Equal(versions, []string{"1 false <nil>\n", "2 false <nil>\n", "3 false <nil>\n", "4 false <nil>\n", " true <nil>\n"}) {
		t.Errorf("%q, %q", all, versions)
	}
	for _, err := range c.MessageVersions(ctx, thread, "nonsense") {
		if !client.IsNotFound(err) {
			t.Error(err)
		}
	}
}

func TestAThreadIsSharedAndLeft(t *testing.T) {
	s := keyfoldtest.Start(t)
	c, ctx := newClient(t, s), t.Context()
	thread := newThread(t, c, "ours")
	ann := api.Participant{ID: "ann/a:b", EndUser: true, Part: "read"}
	if got, err := c.SetParticipant(ctx, thread, ann); err != nil || got != ann {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Participants(ctx, thread); err != nil || !cmp.Equal(got, []api.Participant{ann}) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.RemoveParticipant(ctx, thread, ann.ID, false); !client.IsNotFound(err) {
		t.Error(err)
	}
	if err := c.RemoveParticipant(ctx, thread, ann.ID, true); err != nil {
		t.Error(err)
	}
}
