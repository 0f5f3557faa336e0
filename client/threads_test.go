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
