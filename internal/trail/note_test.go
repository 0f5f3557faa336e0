package trail

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/keyfold/keyfold/internal/fault"
)

func TestWhatIsNotedIsThereOnceTheTrailIsClosed(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	const n = 3000 // more than one group
	for range n {
		if err := tr.Note(event("o", "secret.written")); err != nil {
			t.Fatal(err)
		}
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tr.Note(event("o", "late")); !errors.Is(err, fault.Unavailable) {
		t.Errorf("of a trail that was closed: %v", err)
	}
	if err := tr.Note(event(strings.Repeat("o", maxOrg+1), "x")); !errors.Is(err, fault.Invalid) {
		t.Errorf("of an event over the limits: %v", err)
	}
	w.good(w.open(), n, n)
}

func TestANoteThatIsLostIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := &faultyStore{Store: w.mem}
		w.store = f
		tr := w.open()
		if err := tr.Record(context.Background(), event("o", "first")); err != nil {
			t.Fatal(err)
		}
		f.fail.Store(1)
		if err := tr.Note(event("o", "lost")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if text := w.log.String(); !strings.Contains(text, "events of the audit trail were not stored") || !strings.Contains(text, "events=1 ") {
			t.Errorf("the log says %q", text)
		}
	})
}
