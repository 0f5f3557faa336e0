package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("KEYFOLD_AUDIT_CRASH"); dir != "" {
		appendUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

// keyOf is a key that is the same for the same n.
func keyOf(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

func pubOf(n byte) ed25519.PublicKey { return keyOf(n).Public().(ed25519.PublicKey) }

func newDir(t testing.TB) string { return filepath.Join(t.TempDir(), "audit") }

// open opens a log with key 1, which the test's end closes.
func open(t testing.TB, dir string, opt Options) *Log {
	t.Helper()
	l, err := Open(dir, keyOf(1), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func record(t testing.TB, l *Log, targets ...string) {
	t.Helper()
	var events []Event
	for _, target := range targets {
		events = append(events, Event{Actor: "uid:0", Action: "key.use", Target: target})
	}
	if err := l.Record(context.Background(), events...); err != nil {
		t.Fatal(err)
	}
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, dir string, anchors ...Anchor) Report {
	t.Helper()
	r, err := Verify(dir, pubOf(1), VerifyOptions{Anchors: anchors})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustVerify(t testing.TB, dir string, records uint64, anchors ...Anchor) Report {
	t.Helper()
	r := verify(t, dir, anchors...)
	if !r.OK() || r.Records != records || r.Unanswered != 0 || r.TailBytes != 0 {
		t.Fatalf("%d records are wanted and nothing wrong: %+v", records, r)
	}
	return r
}

// anchor is the head of l.
func anchor(t testing.TB, l *Log) Anchor {
	t.Helper()
	seq, hash := l.Head()
	a, err := ParseAnchor(fmt.Sprintf("%d:%s", seq, hash))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestALogVerifiesAfterItWasOpenedAgainAndAgain(t *testing.T) {
	dir := newDir(t)
	var anchors []Anchor
	for i := range uint64(4) {
		l := open(t, dir, Options{MaxFile: 1000})
		if seq, _ := l.Head(); seq != 5*i {
			t.Fatalf("the head is at %d", seq)
		}
		anchors = append(anchors, anchor(t, l))
		record(t, l, "a")
		record(t, l, "b", "c", "d", "e")
		closeLog(t, l)
		r := mustVerify(t, dir, 5*(i+1), anchors...)
		if r.Head != anchor(t, l).String() || r.FirstTime.IsZero() || r.LastTime.Before(r.FirstTime) {
			t.Errorf("report %+v", r)
		}
	}
	if files, _ := logFiles(dir); len(files) < 3 {
		t.Errorf("files %v", files)
	}
}

func TestManyWhoRecordAtOnceMakeOneChain(t *testing.T) {
	dir := newDir(t)
	l := open(t, dir, Options{MaxFile: 20_000})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range 10 {
				if err := l.Record(t.Context(), Event{Actor: "uid:0", Action: "a", Target: fmt.Sprint(i, j)}); err != nil {
					t.Error(err)
				}
				if j == 5 && i == 0 {
					if r := verify(t, dir); !r.OK() {
						t.Errorf("verified while it is written: %+v", r)
					}
				}
			}
		})
	}
	wg.Wait()
	closeLog(t, l)
	mustVerify(t, dir, 320)
}

func TestAClosedLogTakesNothing(t *testing.T) {
	l := open(t, newDir(t), Options{})
	closeLog(t, l)
	closeLog(t, l)
	if err := l.Record(t.Context(), Event{Actor: "uid:0", Action: "a"}); !errors.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}

func TestWhatIsTooLargeIsRefusedAndNothingIsWritten(t *testing.T) {
	dir := newDir(t)
	l := open(t, dir, Options{})
	for name, events := range map[string][]Event{
		"a large event":   {{Actor: "a", Action: "b"}, {Actor: "a", Action: "b", Target: strings.Repeat("x", maxEvent)}},
		"too many events": make([]Event, MaxEvents+1),
	} {
		if err := l.Record(t.Context(), events...); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.Record(t.Context(), Event{Detail: map[string]any{"f": func() {}}}); !errors.Is(err, fault.Internal) {
		t.Errorf("not JSON: %v", err)
	}
	if seq, _ := l.Head(); seq != 0 {
		t.Errorf("seq %d", seq)
	}
	// The largest that is taken is read back.
	largest := strings.Repeat("x", maxEvent-len(`{"time":"2026-11-22T10:00:00.123456789Z","actor":"","action":"","target":""}`))
	record(t, l, largest[len("uid:0key.use"):])
	closeLog(t, l)
	mustVerify(t, dir, 1)
}
