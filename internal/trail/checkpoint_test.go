package trail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestACheckpointIsMadeWhereSomethingChanged(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	w.checkpoint(tr)
	w.record(tr, "a")
	w.sleep(time.Minute) // the process's own mark is not another's, however old
	w.checkpoint(tr)
	w.checkpoint(tr)
	if n := len(w.rows("trailpoint:")); n != 1 {
		t.Errorf("%d checkpoints", n)
	}
}

func TestCheckpointsAreSignedEveryMinuteAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		tr, err := Open(t.Context(), Config{Store: w.mem, Box: w.box(w.mem)})
		if err != nil {
			t.Fatal(err)
		}
		w.record(tr, "a")
		time.Sleep(time.Minute + time.Second)
		w.record(tr, "b")
		if n := len(w.rows("trailpoint:")); n != 1 {
			t.Errorf("%d checkpoints after a minute", n)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		if n := len(w.rows("trailpoint:")); n != 2 {
			t.Errorf("%d checkpoints at the end", n)
		}
	})
}

// What a process left that died is signed by another, once it is old enough.
func TestWhatADeadProcessLeftIsSigned(t *testing.T) {
	w := newWorld(t)
	dead := w.open()
	w.record(dead, "a", "b")
	w.checkpoint(dead)
	w.record(dead, "c", "d")
	left := newWorldOf(w)
	tr := left.open()
	left.record(tr, "e")
	left.checkpoint(tr)
	left.good(tr, 5, 3)
	left.sleep(3 * time.Second)
	left.record(tr, "f")
	left.checkpoint(tr)
	left.good(tr, 6, 6)
	if marks := left.rows(layout.TrailOpens()); len(marks) != 0 {
		t.Errorf("%d marks are left", len(marks))
	}
}

// Of what a dead process left, no more is signed than what was not touched.
func TestWhatWasChangedOfADeadProcessIsNotSigned(t *testing.T) {
	w := newWorld(t)
	dead := w.open()
	w.record(dead, "a", "b", "c", "d")
	left := newWorldOf(w)
	left.write(func(b *store.Batch) { b.Delete(left.events("o")[2].Key) })
	tr := left.open()
	left.sleep(time.Minute)
	left.checkpoint(tr)
	if v, r := left.verify(tr); v.ChainValid || r.OK() || v.EventsSigned != 2 {
		t.Errorf("%+v", v)
	}
}

// Nor what does not follow on it, though it has a MAC.
func TestWhatDoesNotFollowIsNotSignedForADeadProcess(t *testing.T) {
	w := newWorld(t)
	dead := w.open()
	w.record(dead, "a", "b")
	left := newWorldOf(w)
	tr := left.open()
	last := left.events("o")[1]
	e, _, _, err := parse(dead.ring.Load(), "o", last)
	if err != nil {
		t.Fatal(err)
	}
	e.Prev[0]++
	left.write(func(b *store.Batch) {
		key, row := sealRow(dead, e)
		b.Put(key, row)
	})
	left.sleep(time.Minute)
	left.checkpoint(tr)
	if p := left.point(0); len(p.Heads) != 1 || p.Heads[0].EventID != auditcheck.EventID(e.Chain, 1) {
		t.Errorf("signed: %+v", p.Heads)
	}
}

// Many processes on one store: their checkpoints are one chain.
func TestManyProcessesShareATrail(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for i := range 4 {
		tr := w.open()
		all.Go(func() {
			for j := range 20 {
				if err := tr.Record(t.Context(), event("o", fmt.Sprint(i, "-", j))); err != nil {
					t.Error(err)
				}
				if j%5 == 4 {
					if err := tr.Checkpoint(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	tr := w.open()
	w.record(tr, "last")
	w.checkpoint(tr)
	w.sleep(time.Second)
	w.good(tr, 81, 81)
}

// A checkpoint that fails, and took effect or not, is made up for by the next.
func TestACheckpointThatFailsIsMadeUpFor(t *testing.T) {
	for effect := int32(1); effect <= 2; effect++ {
		w := newWorld(t)
		f := &faultyStore{Store: w.mem}
		w.store = f
		tr := w.open()
		w.record(tr, "a")
		for range 3 {
			f.fail.Store(effect)
			if err := tr.Checkpoint(t.Context()); err == nil {
				t.Error("it does not fail")
			}
			f.fail.Store(0)
			w.record(tr, "b")
		}
		crash := newWorldOf(w)
		w.checkpoint(tr)
		w.good(tr, 4, 4)
		crash.sleep(time.Minute)
		after := crash.open()
		crash.checkpoint(after)
		crash.good(after, 4, 4)
		for _, s := range []*world{w, crash} {
			if marks := s.rows(layout.TrailOpens()); len(marks) != 0 {
				t.Errorf("effect %d: %d marks are left", effect, len(marks))
			}
		}
	}
}

func TestWhatARotatedKeySignedStaysGood(t *testing.T) {
	w := newWorld(t)
	tr, other := w.open(), w.open()
	w.record(tr, "a")
	w.record(other, "b")
	w.checkpoint(tr)
	if err := tr.RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.record(tr, "c")
	w.checkpoint(tr)
	w.checkpoint(other)
	w.good(tr, 3, 3)
	w.good(other, 3, 3)
	keys, err := other.PublicKeys(t.Context())
	if err != nil || len(keys.Keys) != 2 || keys.Keys[0].ID != w.point(2).KeyID || keys.Keys[1].ID != w.point(0).KeyID || w.point(1).KeyID != w.point(2).KeyID {
		t.Errorf("%+v, %v", keys, err)
	}
	after := w.open()
	w.good(after, 3, 3)
	w.record(after, "d")
	w.checkpoint(after)
	w.good(after, 4, 4)
}

func TestTheKeysAreInNoStoreByteNoLogAndNoText(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	w.record(tr, "a")
	w.checkpoint(tr)
	if err := tr.RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := tr.ring.Load()
	secrets := []string{string(r.mac), string(r.sign.Seed())}
	texts := []string{w.log.String(), fmt.Sprint(r), fmt.Sprintf("%+v %#v", r, r)}
	for _, rec := range w.rows("") {
		texts = append(texts, rec.Key, string(rec.Value))
	}
	for _, secret := range secrets {
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprint([]byte(secret))} {
			for _, text := range texts {
				if strings.Contains(text, strings.Trim(form, "[]")) {
					t.Errorf("a key is in %.60q", text)
				}
			}
		}
	}
	tr.Close()
	if string(r.mac) == secrets[0] || string(r.sign.Seed()) == secrets[1] {
		t.Error("the keys are not wiped")
	}
}

// Two servers that begin at the same time have the same keys.
func TestTheFirstKeysAreMadeOnce(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	trails := make([]*Trail, 8)
	for i := range trails {
		all.Go(func() { trails[i] = w.open() })
	}
	all.Wait()
	want, _ := trails[0].PublicKeys(t.Context())
	for _, tr := range trails {
		if got, err := tr.PublicKeys(t.Context()); err != nil || len(got.Keys) != 1 || got.Keys[0].ID != want.Keys[0].ID {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestACheckpointEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	w.record(tr, "a")
	w.write(func(b *store.Batch) { b.Put(layout.TrailPoints("o")+"x", nil); b.Put(layout.TrailPoint("o", 1), nil) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := tr.Checkpoint(ctx); !errors.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	w.write(func(b *store.Batch) { b.Delete(layout.TrailPoint("o", 1)) })
}
