package thread

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/keyfold/keyfold/api"
)

// onceMore are the requests of the tests: they say the same, under one key.
var onceMore = PostOptions{IdempotencyKey: "k"}

func TestARequestThatMeetsItsTwinOnAnotherServerAnswersWhatThatMade(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	var twins []byte
	w.store.beforeCommit = func() (err error) {
		w.store.beforeCommit = nil
		twins, err = w.another().PostWith(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")}, onceMore)
		return err
	}
	raw, err := w.PostWith(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")}, onceMore)
	if err != nil || len(raw) == 0 || !bytes.Equal(raw, twins) {
		t.Errorf("%s, %v; its twin answered %s", raw, err, twins)
	}
	if got := w.list(t, owner, th.ID, MessageQuery{}).Messages; len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
}

func TestRequestsOfOneKeyInOneGroupMakeOneMessage(t *testing.T) {
	inCrowd(t, 1, func(t *testing.T, c *crowd) {
		release := c.hold(t)
		thread, answers := c.threads[0].ID, make([][]byte, 3)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if answers[i], err = c.PostWith(context.Background(), owner, thread, api.PostMessage{Body: quoted("x")}, onceMore); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // all wait for the group
		release()
		all.Wait()
		for _, a := range answers {
			if !bytes.Equal(a, answers[0]) {
				t.Errorf("answered %s and %s", answers[0], a)
			}
		}
		if got := c.list(t, owner, thread, MessageQuery{}).Messages; len(got) != 1 {
			t.Errorf("%d messages", len(got))
		}
	})
}
