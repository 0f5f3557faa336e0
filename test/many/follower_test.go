package many

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/client"
)

// follower is a subscriber of one server, who hears of a thread's messages wherever
// they are posted, and comes again to the same server when that one was away.
type follower struct {
	url  string
	mu   sync.Mutex
	seen []string // IDs of messages, as they came
	err  error    // why it ended before it was to
	done chan struct{}
}

func follow(ctx context.Context, t testing.TB, url, token, thread string) *follower {
	t.Helper()
	c, err := client.New(url, token)
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{url: url, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		defer c.Close()
		for e, err := range c.Follow(ctx, thread, "") {
			f.hear(e, err)
		}
	}()
	return f
}

func (f *follower) hear(e client.Event, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.err = err
	} else if e.Kind == "created" {
		f.seen = append(f.seen, e.Message.ID)
	}
}

// wants waits until the follower has heard of as many messages as there are, and
// fails the test unless they are these, each once.
func (f *follower) wants(t *testing.T, all []stored) {
	t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		f.mu.Lock()
		n, err := len(f.seen), f.err
		f.mu.Unlock()
		if n >= len(all) {
			break
		}
		if err != nil || time.Now().After(until) {
			t.Errorf("who followed %s heard of %d of %d messages: %v", f.url, n, len(all), err)
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	there := map[string]bool{}
	for _, m := range all {
		there[m.ID] = true
	}
	once := map[string]bool{}
	for _, id := range f.seen {
		if !there[id] || once[id] {
			t.Errorf("who followed %s heard of %s, which is there: %v, and was heard of before: %v", f.url, id, there[id], once[id])
		}
		once[id] = true
	}
}
