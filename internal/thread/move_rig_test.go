package thread

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// ShredDEK is the part of twinKMS that destroys.
func (k *twinKMS) ShredDEK(_ context.Context, keyID string) error {
	if err := k.begin(0); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shredded = append(k.shredded, keyID)
	if k.keys[keyID] == nil {
		return fault.New(fault.NotFound, "no such key")
	}
	delete(k.keys, keyID)
	err := k.lost
	k.lost = nil
	return err
}

// has reports whether the KMS has a key.
func (k *twinKMS) has(keyID string) bool {
	_, err := k.key(keyID)
	return err == nil
}

// shift is a world with one thread that is to be re-encrypted. Its clock goes on.
type shift struct {
	*world
	t      testing.TB
	thread string
	ids    []string // of all messages, also deleted ones
}

// newShift makes n messages, of which some are edited, deleted, answered and
// reacted to.
func newShift(t testing.TB, n int) *shift {
	x := &shift{world: newWorld(t), t: t}
	x.thread = x.world.thread(t, owner, "a title").ID
	for i := range n {
		req := api.PostMessage{Body: quoted(fmt.Sprint("text ", i))}
		if i > 0 && i%4 == 0 && i%7 != 4 {
			req.ReplyTo = x.ids[i-1]
		}
		x.ids = append(x.ids, x.post(t, owner, x.thread, req).ID)
		switch {
		case i%3 == 1:
			x.edit(x.Service, i, fmt.Sprint("edited ", i))
		case i%5 == 2:
			_, err := x.React(t.Context(), owner, x.thread, x.ids[i], api.Reaction{Reaction: fmt.Sprint("r", i)})
			x.must(err)
		}
		if i%7 == 3 {
			x.must(x.DeleteMessage(t.Context(), owner, x.thread, x.ids[i]))
		}
	}
	return x
}

func (x *shift) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *shift) edit(s *Service, i int, text string) {
	x.t.Helper()
	_, err := s.EditMessage(x.t.Context(), owner, x.thread, x.ids[i], api.EditMessage{Body: quoted(text)})
	x.must(err)
}

// clone is x over a copy of its store and its KMS.
func (x *shift) clone(t testing.TB) *shift {
	t.Helper()
	mem := memstore.New()
	t.Cleanup(func() { mem.Close() })
	y := &shift{world: newWorldOn(mem), t: t, thread: x.thread, ids: slices.Clone(x.ids)}
	y.clock.Store(x.clock.Load() + int64(time.Second))
	y.kms.keys, y.kms.made = maps.Clone(x.kms.keys), x.kms.made
	for rec, err := range store.All(t.Context(), x.store.Store, store.Range{Start: "\x00"}) {
		x.must(err)
		y.overwrite(t, rec.Key, rec.Value)
	}
	return y
}

// process is a server of its own over s, with batches of 20 rows.
func (x *shift) process(s store.Store) (*Service, *job.Runner) {
	threads := New(Config{Store: s, KMS: x.kms, Gate: new(accesstest.Gate), Now: x.now, Believe: always})
	threads.moveBatch = 20
	return threads, job.New(job.Config{Store: s, Holder: "test", Kinds: []job.Kind{threads.MoveKind(), threads.RotateAllKind(), threads.RewrapKind()}})
}

// rotate rotates the thread's DEK to the end.
func (x *shift) rotate() job.Job {
	x.t.Helper()
	s, jobs := x.process(x.store)
	defer jobs.Close()
	_, j, err := s.RotateDEK(x.t.Context(), jobs, x.thread)
	x.must(err)
	return await(x.t, jobs, j.ID)
}

// begin begins to move the thread, and returns its record as it is then.
func (x *shift) begin() meta {
	x.t.Helper()
	m, err := x.record(x.t.Context(), x.thread)
	x.must(err)
	m, err = x.beginMoving(x.t.Context(), m)
	x.must(err)
	return m
}

// atCommit has do done before the nth commit from now on, atCall before the nth call
// of the KMS.
func (x *shift) atCommit(n int, do func() error) {
	x.store.beforeCommit = func() error {
		if n--; n != 0 {
			return nil
		}
		return do()
	}
}

func (x *shift) atCall(n int, do func()) {
	x.kms.before = func() {
		if n--; n == 0 {
			do()
		}
	}
}

// everything is what every read path answers of the thread.
func (x *shift) everything(s *Service) map[string]string {
	x.t.Helper()
	out := map[string]string{}
	say := func(what string, answer any, err error) {
		x.t.Helper()
		if err != nil && !errors.Is(err, fault.NotFound) {
			x.t.Fatalf("%s: %v", what, err)
		}
		out[what] = fmt.Sprintf("%s %v", answer, err)
	}
	ctx := x.t.Context()
	for _, q := range []MessageQuery{
		{}, {IncludeDeleted: true}, {Limit: 7}, {Before: x.ids[len(x.ids)/2], Limit: 9}, {After: x.ids[len(x.ids)/3], Limit: 9, IncludeDeleted: true}, {Anchor: x.ids[len(x.ids)/2], Limit: 5},
	} {
		raw, err := s.ListMessages(ctx, owner, x.thread, q)
		say(fmt.Sprintf("list %+v", q), raw, err)
		page, err := s.Page(ctx, owner, x.thread, q)
		say(fmt.Sprintf("page %+v", q), page, err)
	}
	for _, id := range x.ids {
		raw, err := s.GetMessage(ctx, owner, x.thread, id)
		say("get "+id, raw, err)
		raw, err = s.ListVersions(ctx, owner, x.thread, id, 0, "")
		say("versions "+id, raw, err)
		reactions, err := s.ListReactions(ctx, owner, x.thread, id)
		say("reactions "+id, reactions, err)
	}
	return out
}

// same fails unless every read path answers what it did before.
func (x *shift) same(before map[string]string) {
	x.t.Helper()
	if diff := cmp.Diff(before, x.everything(x.another())); diff != "" {
		x.t.Errorf("a read path answers something else: %s", diff)
	}
}

func (x *shift) meta() meta {
	x.t.Helper()
	return decodeAs[meta](x.t, x.get(x.t, layout.ThreadMeta(x.thread)))
}

// rows are the names of all encrypted rows, by the ID of the key that opens them.
func (x *shift) rows() map[string][]rowName {
	x.t.Helper()
	out := map[string][]rowName{}
	for _, kind := range rowKinds {
		for rec, err := range store.All(x.t.Context(), x.store.Store, store.Prefix(layout.ThreadRow(x.thread, kind))) {
			x.must(err)
			n, by := rowOf(x.thread, rec.Key), "none"
			for id, key := range x.kms.keys {
				if _, err := key.Open(rec.Value, n.aad(x.thread)); err == nil {
					by = id
				}
			}
			out[by] = append(out[by], n)
		}
	}
	return out
}

// arrived fails unless all rows are under the thread's new DEK, the old one is
// gone, and nothing is left to do.
func (x *shift) arrived(old string) {
	x.t.Helper()
	m := x.meta()
	if m.Moving != nil || m.Plain || m.KMS.KeyID == old {
		x.t.Errorf("the thread's record is %+v, %+v", m, m.Moving)
	}
	if rows := x.rows(); len(rows) != 1 || len(rows[m.KMS.KeyID]) == 0 {
		x.t.Errorf("rows are under %v, the thread is under %s", slices.Sorted(maps.Keys(rows)), m.KMS.KeyID)
	}
	if x.kms.has(old) {
		x.t.Errorf("%s is still in the KMS", old)
	}
	for key, value := range x.dump(x.t) {
		switch {
		case strings.HasSuffix(key, ":"+cursorName):
			x.t.Errorf("%s is left", key)
		case old != "" && !strings.HasPrefix(key, "job:") && strings.Contains(value, `"`+old+`"`):
			x.t.Errorf("%s names the old DEK", key)
		}
	}
}

// completed fails unless j did all rows of the thread without a failure.
func (x *shift) completed(j job.Job) {
	x.t.Helper()
	if j.Status != job.Completed || j.Failed != 0 || j.Error != "" {
		x.t.Errorf("the job ended as %+v", j)
	}
}

// callsStore lets a test come before the nth call, of those it is told of too.
type callsStore struct {
	store.Store
	left int
	do   func()
}

func (c *callsStore) at(n int, do func()) { c.left, c.do = n, do }

func (c *callsStore) hit() {
	if c.do == nil {
		return
	}
	if c.left--; c.left == 0 {
		do := c.do
		c.do = nil
		do()
	}
}

func (c *callsStore) Get(ctx context.Context, key string) (store.Record, error) {
	c.hit()
	return c.Store.Get(ctx, key)
}

func (c *callsStore) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	c.hit()
	return c.Store.Scan(ctx, r, opt)
}

func (c *callsStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	c.hit()
	return c.Store.Commit(ctx, b)
}
