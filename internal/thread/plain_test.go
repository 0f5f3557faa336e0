package thread

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
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
				s := New(Config{Store: guarded, KMS: x.kms, Gate: x.asked, Now: x.now, Believe: true})
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

// encryptProcess is a server of its own over s that encrypts, with small batches.
func (x *shift) encryptProcess(s store.Store) (*Service, *job.Runner) {
	threads := New(Config{Store: s, KMS: x.kms, Gate: new(accesstest.Gate), Now: x.now, Believe: true})
	threads.moveBatch = 20
	return threads, job.New(job.Config{Store: s, Holder: "test", Kinds: []job.Kind{threads.EncryptKind(), threads.MoveKind()}})
}

// scrubStore is a store whose files take some calls to scrub. It notes what rows
// were in clear when the scrub began.
type scrubStore struct {
	store.Store
	x       *shift
	calls   []string
	inClear []string
	fails   error
}

func (s *scrubStore) Scrub(_ context.Context, state string) (string, error) {
	if s.calls = append(s.calls, state); state == "" {
		s.inClear = s.x.inClear()
	}
	if err := s.fails; err != nil {
		s.fails = nil
		return state, err
	}
	return map[string]string{"": "one", "one": "two", "two": ""}[state], nil
}

func (x *shift) encryptExisting(s store.Store, args EncryptArgs) job.Job {
	x.t.Helper()
	_, jobs := x.encryptProcess(s)
	defer jobs.Close()
	j, err := jobs.Start(x.t.Context(), EncryptJob, args)
	x.must(err)
	return await(x.t, jobs, j.ID)
}

func TestEncryptExistingLeavesNoRowInClearAndChangesNoAnswer(t *testing.T) {
	x := newPlain(t, 60)
	x.plainServer().Delete(t.Context(), owner, x.anotherPlain(t, "deleted"))
	before := x.everything(x.Service)
	files := &scrubStore{Store: x.store, x: x, fails: fault.New(fault.Unavailable, "in use")}
	j := x.encryptExisting(files, EncryptArgs{})
	if j.Status != job.Completed || j.Failed != 0 || j.Total != 2 || j.Processed != 2 {
		t.Errorf("the job ended as %+v", j)
	}
	if rows := x.inClear(); len(rows) > 0 {
		t.Errorf("the canary is in %v", rows)
	}
	if want := []string{"", "", "one", "two"}; !slices.Equal(files.calls, want) || len(files.inClear) > 0 {
		t.Errorf("scrubs began at %q, and when they did %d rows were in clear", files.calls, len(files.inClear))
	}
	x.same(before)
	m := x.meta()
	if rows := x.rows(); len(rows) != 1 || len(rows[m.KMS.KeyID]) == 0 || m.Moving != nil || m.Plain {
		t.Errorf("rows are under %v, the record is %+v", rows, m)
	}
}

// anotherPlain makes another plain thread, with one message, and returns its ID.
func (x *shift) anotherPlain(t testing.TB, text string) string {
	t.Helper()
	s := x.plainServer()
	th, err := s.Create(t.Context(), owner, api.CreateThread{Title: "another"})
	x.must(err)
	x.must(second(s.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted(canary + text)})))
	return th.ID
}

func TestEncryptExistingOfNamedThreadsLeavesTheOthers(t *testing.T) {
	x := newPlain(t, 3)
	other := x.anotherPlain(t, "other")
	j := x.encryptExisting(x.store, EncryptArgs{Threads: []string{x.thread}})
	if j.Status != job.Completed || j.Processed != 1 || x.meta().KMS.plain() {
		t.Errorf("the job ended as %+v", j)
	}
	for _, key := range x.inClear() {
		if !strings.Contains(key, other) {
			t.Errorf("%s is in clear", key)
		}
	}
	unknown := "0198aaaa-0000-7000-8000-00000000dead"
	j = x.encryptExisting(x.store, EncryptArgs{Threads: []string{unknown, other}})
	if j.Status != job.Completed || !slices.Equal(j.FailedOf, []string{"thread " + unknown}) || len(x.inClear()) > 0 {
		t.Errorf("the job ended as %+v; in clear: %v", j, x.inClear())
	}
}

// TestEncryptExistingSurvivesEveryCommit kills the server at every commit, with its
// effect and without, writes meanwhile, and goes on with the next.
func TestEncryptExistingSurvivesEveryCommit(t *testing.T) {
	full := newPlain(t, 25)
	full.anotherPlain(t, "second")
	before := full.everything(full.Service)
	for at, died := 1, true; died; at++ {
		for _, takes := range []bool{false, true} {
			x := full.clone(t)
			died = x.dieEncrypting(at, takes)
			x.same(before)
			x.must(second(x.another().Post(t.Context(), owner, x.thread, api.PostMessage{Body: quoted(canary + " meanwhile"), TS: 5})))
			now := x.everything(x.another())
			x.endEncrypting()
			x.same(now)
			if rows := x.inClear(); len(rows) > 0 || t.Failed() {
				t.Fatalf("commit %d, took effect: %v: in clear are %v", at, takes, rows)
			}
		}
		if !died && at < 8 {
			t.Errorf("there were %d commits", at-1)
		}
	}
}

// dieEncrypting starts the job in a process that dies at a commit.
func (x *shift) dieEncrypting(at int, takes bool) bool {
	dying := &storetest.DyingStore{Store: x.store, At: at, Takes: takes}
	_, jobs := x.encryptProcess(dying)
	defer jobs.Close()
	if j, err := jobs.Start(x.t.Context(), EncryptJob, EncryptArgs{}); err == nil {
		jobs.Wait(x.t.Context(), j.ID)
	}
	return dying.Dead()
}

// endEncrypting resumes what there is, or starts it where there is nothing.
func (x *shift) endEncrypting() {
	x.t.Helper()
	_, jobs := x.encryptProcess(x.store)
	defer jobs.Close()
	x.must(jobs.Resume(x.t.Context()))
	all, err := jobs.List(x.t.Context())
	x.must(err)
	if len(all) == 0 {
		j, err := jobs.Start(x.t.Context(), EncryptJob, EncryptArgs{})
		x.must(err)
		all = append(all, j)
	}
	if j := await(x.t, jobs, all[0].ID); j.Status != job.Completed || j.Failed > 0 {
		x.t.Errorf("the job ended as %+v", j)
	}
}

func TestACancelledEncryptionIsTakenUpByTheNext(t *testing.T) {
	x := newPlain(t, 60)
	before := x.everything(x.Service)
	files := &scrubStore{Store: x.store, x: x}
	_, jobs := x.encryptProcess(files)
	n := 0
	x.store.afterCommit = func() error {
		if n++; n == 4 {
			x.store.afterCommit = nil
			all, err := jobs.List(t.Context())
			x.must(err)
			x.must(second(jobs.Cancel(t.Context(), all[0].ID)))
		}
		return nil
	}
	j, err := jobs.Start(t.Context(), EncryptJob, EncryptArgs{})
	x.must(err)
	if j = await(t, jobs, j.ID); j.Status != job.Cancelled || len(files.calls) > 0 {
		t.Errorf("it ended as %+v and scrubbed %d times", j, len(files.calls))
	}
	jobs.Close()
	x.same(before)
	if len(x.inClear()) == 0 {
		t.Error("nothing is left to do; the test needs some")
	}
	if j = x.encryptExisting(x.store, EncryptArgs{}); j.Status != job.Completed || len(x.inClear()) > 0 {
		t.Errorf("the next ended as %+v; in clear are %v", j, x.inClear())
	}
	x.same(before)
}

func TestAnEncryptionThatAPostBeganIsEndedByTheJob(t *testing.T) {
	x := newPlain(t, 30)
	x.must(writePaths[0].do(x.Service, x))
	key := x.meta().KMS.KeyID
	if len(x.inClear()) == 0 {
		t.Fatal("the post encrypted all; the test needs rows in clear")
	}
	before := x.everything(x.Service)
	j := x.encryptExisting(x.store, EncryptArgs{})
	if j.Status != job.Completed || len(x.inClear()) > 0 || x.meta().KMS.KeyID != key || x.meta().Moving != nil {
		t.Errorf("the job ended as %+v; in clear are %v; the record is %+v", j, x.inClear(), x.meta())
	}
	x.same(before)
}

// TestReadersAndWritersGoOnWhileAThreadIsEncrypted also edits what the job has not
// come to.
func TestReadersAndWritersGoOnWhileAThreadIsEncrypted(t *testing.T) {
	x := newPlain(t, 120)
	guarded := &guardStore{Store: x.store}
	s, jobs := x.encryptProcess(guarded)
	defer jobs.Close()
	ctx, stop := context.WithCancel(t.Context())
	var people sync.WaitGroup
	keepOn := func(do func(i int) error) {
		people.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := do(i); err != nil && !errors.Is(err, fault.NotFound) {
					t.Error(err)
					return
				}
			}
		})
	}
	keepOn(func(int) error {
		return second(s.ListMessages(t.Context(), owner, x.thread, MessageQuery{IncludeDeleted: true}))
	})
	keepOn(func(i int) error { return second(s.GetMessage(t.Context(), owner, x.thread, x.ids[i%len(x.ids)])) })
	keepOn(func(i int) error {
		return second(s.Post(t.Context(), owner, x.thread, api.PostMessage{Body: quoted(canary)}))
	})
	keepOn(func(i int) error {
		return second(s.EditMessage(t.Context(), owner, x.thread, x.ids[(i*7)%len(x.ids)], api.EditMessage{Body: quoted(canary)}))
	})
	j, err := jobs.Start(t.Context(), EncryptJob, EncryptArgs{})
	x.must(err)
	j = await(t, jobs, j.ID)
	stop()
	people.Wait()
	if j.Status != job.Completed || j.Failed > 0 || len(x.inClear()) > 0 || guarded.passed > 0 {
		t.Errorf("the job ended as %+v; in clear are %v; %d batches held the canary", j, x.inClear(), guarded.passed)
	}
}

func TestARowInClearIsRefusedInAThreadThatIsEncrypted(t *testing.T) {
	x := newPlain(t, 12)
	x.encryptExisting(x.store, EncryptArgs{})
	always := newShift(t, 12)
	for _, y := range []*shift{x, always} {
		id := y.ids[0]
		row := layout.Message(y.thread, id)
		y.overwrite(t, row, []byte(`{"id":"`+id+`","thread":"`+y.thread+`","author":"`+owner.ID+`","role":"user","ts":1,"body":"forged"}`))
		for _, s := range []*Service{y.another(), y.plainServer()} {
			wantCode(t, second(s.GetMessage(t.Context(), owner, y.thread, id)), fault.Damaged)
			wantCode(t, second(s.ListMessages(t.Context(), owner, y.thread, MessageQuery{})), fault.Damaged)
			wantCode(t, second(s.EditMessage(t.Context(), owner, y.thread, id, api.EditMessage{Body: quoted("x")})), fault.Damaged)
		}
	}
}

// The thread's record proves nothing: whoever writes to the store can write that,
// too.
func TestARowInClearIsRefusedWhereNoServerEverStoredSuch(t *testing.T) {
	for what, change := range map[string]func(*meta){
		"as without a DEK":   func(m *meta) { m.Plain, m.KMS = true, kmsMeta{} },
		"as being encrypted": func(m *meta) { m.Moving = &moving{Last: "9"} },
	} {
		x := newShift(t, 3)
		id := x.ids[0]
		x.editMeta(t, x.thread, change)
		x.overwrite(t, layout.Message(x.thread, id), []byte(`{"id":"`+id+`","thread":"`+x.thread+`","author":"`+owner.ID+`","role":"user","ts":1,"body":"forged"}`))
		for believes, want := range map[bool]bool{true: true, false: false} {
			s := New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now, Believe: believes})
			text, err := s.GetMessage(t.Context(), owner, x.thread, id)
			if strings.Contains(string(text), "forged") != want || (err == nil) != want {
				t.Errorf("%s, believes %v: %s, %v", what, believes, text, err)
			}
		}
		s := New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now})
		jobs := job.New(job.Config{Store: x.store, Kinds: []job.Kind{s.EncryptKind()}})
		j, err := jobs.Start(t.Context(), EncryptJob, EncryptArgs{})
		x.must(err)
		if j = await(t, jobs, j.ID); j.Failed == 0 {
			t.Errorf("%s: the job ended as %+v and names no failure", what, j)
		}
		jobs.Close()
		if text, err := s.GetMessage(t.Context(), owner, x.thread, id); err == nil {
			t.Errorf("%s, after the job: %s", what, text)
		}
	}
}

// Only the end of a job that has encrypted everything ends the belief.
func TestRowsInClearAreBelievedUntilAllAreEncrypted(t *testing.T) {
	x := newPlain(t, 3)
	other := x.plainServer()
	rest, err := other.Create(t.Context(), owner, api.CreateThread{})
	x.must(err)
	told := 0
	s := New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now, Believe: true, Encrypted: func(context.Context) error { told++; return nil }})
	jobs := job.New(job.Config{Store: x.store, Kinds: []job.Kind{s.EncryptKind()}})
	defer jobs.Close()
	for _, step := range []struct {
		args     EncryptArgs
		believes bool
	}{{EncryptArgs{Threads: []string{x.thread}}, true}, {EncryptArgs{Threads: []string{rest.ID}}, true}, {EncryptArgs{}, false}} {
		j, err := jobs.Start(t.Context(), EncryptJob, step.args)
		x.must(err)
		if j = await(t, jobs, j.ID); j.Status != job.Completed || s.believes() != step.believes || (told == 1) == step.believes {
			t.Errorf("after %+v: %+v, believes %v, told %d times", step.args, j, s.believes(), told)
		}
	}
}

// A thread that another job took away from this one, or whose rows are on their way
// out, may lie in clear: the job says so, and rows in clear are believed as before.
func TestAnEncryptionThatCannotVouchForAThreadNamesIt(t *testing.T) {
	for name, meanwhile := range map[string]func(*meta){
		"another job": func(m *meta) { m.Moving.Job = "another" },
		"a purge":     func(m *meta) { m.Deleted, m.Purge, m.KMS, m.Moving = true, &purging{}, kmsMeta{}, nil },
	} {
		x := newPlain(t, 60)
		told := 0
		s := New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now, Believe: true, Encrypted: func(context.Context) error { told++; return nil }})
		s.moveBatch = 20
		jobs := job.New(job.Config{Store: x.store, Kinds: []job.Kind{s.EncryptKind()}})
		n := 0
		x.store.afterCommit = func() error {
			if n++; n == 3 {
				x.editMeta(t, x.thread, meanwhile)
			}
			return nil
		}
		j, err := jobs.Start(t.Context(), EncryptJob, EncryptArgs{})
		x.must(err)
		j = await(t, jobs, j.ID)
		jobs.Close()
		if len(x.inClear()) == 0 {
			t.Errorf("%s: nothing is in clear; the test needs some", name)
		}
		if !slices.Equal(j.FailedOf, []string{"thread " + x.thread}) || told > 0 || !s.believes() {
			t.Errorf("%s: the job ended as %+v, said %d times that all is encrypted, and believes %v", name, j, told, s.believes())
		}
	}
}

// The last batch was committed, and then the server began to encrypt no more.
func TestAServerThatDoesNotEncryptDoesNotSayThatAllIsEncrypted(t *testing.T) {
	told := 0
	s := New(Config{Plain: true, Encrypted: func(context.Context) error { told++; return nil }})
	if err := s.EncryptKind().Done(t.Context(), job.Job{Args: []byte("{}")}); !errors.Is(err, fault.Conflict) || told > 0 {
		t.Errorf("%v, told %d times", err, told)
	}
}

func TestAServerThatDoesNotEncryptEncryptsNothing(t *testing.T) {
	x := newPlain(t, 3)
	s := x.plainServer()
	wantCode(t, second(s.BeginEncrypting(t.Context(), nil)), fault.Conflict)
	jobs := job.New(job.Config{Store: x.store, Kinds: []job.Kind{s.EncryptKind()}})
	defer jobs.Close()
	j, err := jobs.Start(t.Context(), EncryptJob, EncryptArgs{})
	x.must(err)
	if j = await(t, jobs, j.ID); j.Status != job.Failed || !strings.Contains(j.Error, "encryption on") {
		t.Errorf("the job ended as %+v", j)
	}
	if x.meta().Moving != nil || !x.meta().Plain {
		t.Errorf("the record is %+v", x.meta())
	}
}

func TestBeginEncryptingSaysHowEachThreadStands(t *testing.T) {
	x := newPlain(t, 3)
	done := x.world.thread(t, owner, "encrypted").ID
	unknown := "0198aaaa-0000-7000-8000-00000000dead"
	got, err := x.BeginEncrypting(t.Context(), []string{x.thread, done, unknown, x.thread, "../x"})
	x.must(err)
	byID := map[string]Encrypting{}
	for _, e := range got {
		byID[e.Thread] = e
	}
	if e := byID[x.thread]; !e.Begun || e.KeyID != x.meta().KMS.KeyID || e.Err != nil {
		t.Errorf("the plain one: %+v", e)
	}
	if e := byID[done]; e.Begun || e.KeyID == "" || e.Err != nil {
		t.Errorf("the encrypted one: %+v", e)
	}
	for _, id := range []string{unknown, "../x"} {
		if e := byID[id]; !errors.Is(e.Err, fault.NotFound) {
			t.Errorf("%s: %+v", id, e)
		}
	}
	if len(got) != 4 {
		t.Errorf("%d answers", len(got))
	}
	all, err := x.BeginEncrypting(t.Context(), nil)
	if x.must(err); len(all) != 2 {
		t.Errorf("of all: %+v", all)
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
