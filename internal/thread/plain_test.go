package thread

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// plainServer is a server on x's store that does not encrypt.
func (x *shift) plainServer() *Service {
	return New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now, Plain: true})
}

// newPlain is a thread of n messages with canaries in all of their rows, made by a
// server that does not encrypt. x itself encrypts.
func newPlain(t testing.TB, n int) *shift {
	x := &shift{world: newWorld(t), t: t}
	encrypts := x.Service
	x.Service = x.plainServer()
	x.thread = x.world.thread(t, owner, "a title").ID
	x.mateTakesPart()
	for i := range n {
		x.ids = append(x.ids, x.post(t, owner, x.thread, api.PostMessage{Body: quoted(fmt.Sprint(canary, i)), Role: canary}).ID)
		if i%3 == 1 {
			x.edit(x.Service, i, fmt.Sprint(canary, " edited ", i))
		}
		if i%5 == 2 {
			x.must(second(x.React(t.Context(), owner, x.thread, x.ids[i], api.Reaction{Reaction: canary})))
		}
		if i%7 == 3 {
			x.must(x.DeleteMessage(t.Context(), owner, x.thread, x.ids[i]))
		}
	}
	x.Service = encrypts
	return x
}

// mateTakesPart lets mate write.
func (x *shift) mateTakesPart() {
	x.editMeta(x.t, x.thread, func(m *meta) { m.Parts = []participant{{ID: mate.ID, Part: access.Writer}} })
}

// inClear is the names of rows that hold the canary.
func (x *shift) inClear() (keys []string) {
	x.t.Helper()
	for key, value := range x.dump(x.t) {
		if strings.Contains(value, canary) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func TestAServerThatDoesNotEncryptAsksNoKMSAndReadsWhatItWrote(t *testing.T) {
	x := newPlain(t, 40)
	if n := x.kms.calls.Load(); n != 0 {
		t.Errorf("the KMS was called %d times", n)
	}
	if rows := x.inClear(); len(rows) < 60 {
		t.Errorf("the canary is in %d rows; the tests of encryption need it in all", len(rows))
	}
	got := x.list(t, owner, x.thread, MessageQuery{IncludeDeleted: true})
	if len(got.Messages) != 40 {
		t.Errorf("there are %d messages", len(got.Messages))
	}
	x.kms.fail = fault.New(fault.Unavailable, "away")
	x.same(x.everything(x.plainServer())) // a server that encrypts reads the same, and asks no KMS
}

func TestAThreadWithADEKIsEncryptedByAServerThatDoesNot(t *testing.T) {
	x := newShift(t, 1)
	x.mateTakesPart()
	guarded := &guardStore{Store: x.store}
	s := New(Config{Store: guarded, KMS: x.kms, Gate: x.asked, Now: x.now, Plain: true})
	for _, w := range writePaths {
		x.must(w.do(s, x))
	}
	if guarded.passed > 0 {
		t.Errorf("%d batches hold the canary", guarded.passed)
	}
}

// guardStore counts batches with a canary in them.
type guardStore struct {
	store.Store
	mu     sync.Mutex
	passed int
}

func (g *guardStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	for _, w := range b.Writes {
		if bytes.Contains(w.Value, []byte(canary)) || strings.Contains(w.Key, canary) {
			g.mu.Lock()
			g.passed++
			g.mu.Unlock()
			break
		}
	}
	return g.Store.Commit(ctx, b)
}

// writePaths is every way to write to a thread that has a message of the owner's.
var writePaths = []struct {
	name string
	do   func(*Service, *shift) error
}{
	{"post", func(s *Service, x *shift) error {
		return second(s.Post(x.t.Context(), owner, x.thread, api.PostMessage{Body: quoted(canary), Role: canary}))
	}},
	{"post at a time", func(s *Service, x *shift) error {
		return second(s.Post(x.t.Context(), owner, x.thread, api.PostMessage{Body: quoted(canary), TS: 77}))
	}},
	{"reply", func(s *Service, x *shift) error {
		return second(s.Post(x.t.Context(), owner, x.thread, api.PostMessage{Body: quoted(canary), ReplyTo: x.ids[0]}))
	}},
	{"post of much", func(s *Service, x *shift) error {
		return second(s.Post(x.t.Context(), owner, x.thread, api.PostMessage{Body: quoted(strings.Repeat(canary, 2*maxShared/len(canary)))}))
	}},
	{"post once", func(s *Service, x *shift) error {
		return second(s.PostWith(x.t.Context(), owner, x.thread, api.PostMessage{Body: quoted(canary)}, PostOptions{IdempotencyKey: "k" + canary}))
	}},
	{"edit", func(s *Service, x *shift) error {
		return second(s.EditMessage(x.t.Context(), owner, x.thread, x.ids[0], api.EditMessage{Body: quoted(canary + " anew")}))
	}},
	{"react", func(s *Service, x *shift) error {
		return second(s.React(x.t.Context(), owner, x.thread, x.ids[0], api.Reaction{Reaction: canary}))
	}},
	{"react of another", func(s *Service, x *shift) error {
		return second(s.React(x.t.Context(), mate, x.thread, x.ids[0], api.Reaction{Reaction: canary}))
	}},
	{"take back", func(s *Service, x *shift) error {
		return s.Unreact(x.t.Context(), mate, x.thread, x.ids[0], "")
	}},
	{"delete", func(s *Service, x *shift) error {
		return s.DeleteMessage(x.t.Context(), owner, x.thread, x.ids[0])
	}},
}

// TestWithEncryptionOnNothingIsStoredInClear writes in every way to a thread that
// was not encrypted, each time to a fresh one.
func TestWithEncryptionOnNothingIsStoredInClear(t *testing.T) {
	for i, w := range writePaths {
		t.Run(w.name, func(t *testing.T) {
			for _, away := range []bool{false, true} {
				x := newPlain(t, 1)
				before := append(writePaths[:i:i], w)
				if w.name != "take back" {
					before = before[i:]
				}
				for _, earlier := range before[:len(before)-1] {
					x.must(earlier.do(x.plainServer(), x))
				}
				control := x.clone(t)
				seen := &guardStore{Store: control.store}
				x.must(w.do(New(Config{Store: seen, KMS: x.kms, Gate: x.asked, Now: x.now, Plain: true}), control))
				if seen.passed == 0 {
					t.Fatal("without encryption no batch holds the canary: the test would prove nothing")
				}
				guarded := &guardStore{Store: x.store}
				s := New(Config{Store: guarded, KMS: x.kms, Gate: x.asked, Now: x.now, Believe: always})
				was := x.dump(t)
				if away {
					x.kms.fail = fault.New(fault.Unavailable, "away")
				}
				err := w.do(s, x)
				if guarded.passed > 0 {
					t.Errorf("%d batches hold the canary", guarded.passed)
				}
				if away {
					wantCode(t, err, fault.Unavailable)
					x.unchanged(t, was)
					continue
				}
				x.must(err)
				if m := x.meta(); m.KMS.plain() || m.Plain || m.Moving == nil {
					t.Errorf("the thread's record is %+v", m)
				}
			}
		})
	}
}

// What a thread of no DEK is written under, if all that comes before were wrong.
func TestNoRowIsWritableInClearUnlessServerAndThreadAreBothPlain(t *testing.T) {
	x := newShift(t, 0)
	for _, m := range []meta{{}, {Plain: true}} {
		wantCode(t, second(x.writable(m)), fault.Damaged)
	}
	wantCode(t, second(x.plainServer().writable(meta{})), fault.Damaged)
	if dek, err := x.plainServer().writable(meta{Plain: true}); err != nil || !dek.plain() {
		t.Errorf("of a plain thread on a plain server: %+v, %v", dek, err)
	}
}
