package thread

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

// Every way to read a page waits for its place, and not for ever.
func TestNoMorePagesAreReadAtATimeThanFitIntoTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		id := w.say(t, th.ID, "hello")
		ways := map[string]func() error{
			"list":     func() error { _, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{}); return err },
			"page":     func() error { _, err := w.Page(t.Context(), owner, th.ID, MessageQuery{}); return err },
			"message":  func() error { _, err := w.GetMessage(t.Context(), owner, th.ID, id); return err },
			"versions": func() error { _, err := w.ListVersions(t.Context(), owner, th.ID, id, 0, ""); return err },
		}
		done := make([]func(), maxReading)
		for i := range done {
			var err error
			if done[i], err = w.reading.begin(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for what, read := range ways {
			began := time.Now()
			if err := read(); !errorIs(err, fault.Unavailable) || time.Since(began) != readingWait {
				t.Errorf("%s with all places taken: %v after %v", what, err, time.Since(began))
			}
		}
		time.AfterFunc(readingWait/2, done[0])
		for what, read := range ways {
			if err := read(); err != nil {
				t.Errorf("%s once a place is free: %v", what, err)
			}
		}
		if n := len(w.reading); n != maxReading-1 {
			t.Errorf("%d places are taken after, want those of before", n)
		}
	})
}
