package client_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// A server that closes and comes again costs who follows no event, and brings none twice.
func TestFollowingGoesOnAcrossARestart(t *testing.T) {
	s := keyfoldtest.Start(t, keyfoldtest.OnDisk(t.TempDir()))
	c, err := client.New(s.URL, s.APIKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	th, err := c.CreateThread(ctx, api.CreateThread{Title: "t"})
	if err != nil {
		t.Fatal(err)
	}
	post := func(text string) string {
		m, err := c.PostMessage(ctx, th.ID, api.PostMessage{Body: json.RawMessage(text)})
		if err != nil {
			t.Fatal(err)
		}
		return m.ID
	}
	var want, got []string
	first := post(`0`)
	list, err := c.ListMessages(ctx, th.ID, client.MessageQuery{})
	if err != nil || len(list) != 1 {
		t.Fatal(err)
	}
	for e, err := range c.Follow(ctx, th.ID, first) { // an ID of a message is as good as that of an event
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Message.ID)
		switch len(got) {
		case 1:
			want = append(want, first, post(`1`))
		case 2:
			want = append(want, post(`2`))
			s.Restart()
			want = append(want, post(`3`))
		}
		if len(got) == 4 {
			break
		}
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("event %d is of %s, want %s", i, got[i], want[i])
		}
	}
}
