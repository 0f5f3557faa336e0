package thread

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// encrypts is a server of its own over s that encrypts, with small batches.
func (x *shift) encrypts(s store.Store) *Service {
	threads := New(Config{Store: s, KMS: x.kms, Gate: new(accesstest.Gate), Now: x.now, Believe: always})
	threads.moveBatch = 20
	return threads
}

// encryptProcess is one with a runner of its job.
func (x *shift) encryptProcess(s store.Store) (*Service, *job.Runner) {
	threads := x.encrypts(s)
	return threads, job.New(job.Config{Store: s, Holder: "test", Kinds: []job.Kind{threads.EncryptKind()}})
}

// scrubStore is a store whose files take some calls to scrub. It notes what rows
// were in clear when the scrub began.
type scrubStore struct {
	store.Store
	x       *shift
	calls   []string
	inClear []string
	fails   error
	first   func() // is called when the scrub begins; nil: nothing
}

func (s *scrubStore) Scrub(_ context.Context, state string) (string, error) {
	if s.calls = append(s.calls, state); state == "" {
		s.inClear = s.x.inClear()
		if s.first != nil {
			s.first()
		}
	}
	if err := s.fails; err != nil {
		s.fails = nil
		return state, err
	}
	return map[string]string{"": "one", "one": "two", "two": ""}[state], nil
}

func (x *shift) encryptExisting(s store.Store, args EncryptArgs) job.Job {
	x.t.Helper()
	return x.encryptBy(x.encrypts(s), args)
}

// encryptBy has a server run the job to its end.
func (x *shift) encryptBy(s *Service, args EncryptArgs) job.Job {
	x.t.Helper()
	jobs := job.New(job.Config{Store: s.store, Holder: "test", Kinds: []job.Kind{s.EncryptKind()}})
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

// A server that does not encrypt runs for a while between the job's pass and its end.
func TestEncryptExistingDoesNotVouchForAThreadThatCameAfterItsPass(t *testing.T) {
	x := newPlain(t, 5)
	vouched := 0
	s := New(Config{
		Store: &scrubStore{Store: x.store, x: x, first: func() { x.anotherPlain(t, "late") }}, KMS: x.kms, Gate: new(accesstest.Gate), Now: x.now, Believe: always,
		Encrypted: func(context.Context) error { vouched++; return nil },
	})
	if j := x.encryptBy(s, EncryptArgs{}); j.Status != job.Failed || vouched > 0 || !strings.Contains(j.Error, "run encrypt-existing again") {
		t.Errorf("it ended as %+v and vouched %d times", j, vouched)
	}
	if j := x.encryptBy(s, EncryptArgs{}); j.Status != job.Failed || vouched > 0 { // its scrub makes one more
		t.Errorf("the second ended as %+v and vouched %d times", j, vouched)
	}
	s.store = x.store
	if j := x.encryptBy(s, EncryptArgs{}); j.Status != job.Completed || vouched != 1 || len(x.inClear()) > 0 {
		t.Errorf("the third ended as %+v and vouched %d times; in clear are %v", j, vouched, x.inClear())
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

func TestAServerThatDoesNotEncryptEncryptsNothing(t *testing.T) {
	x := newPlain(t, 3)
	s := x.plainServer()
	wantCode(t, second(s.BeginEncrypting(t.Context(), nil)), fault.Conflict)
	if j := x.encryptBy(s, EncryptArgs{}); j.Status != job.Failed || !strings.Contains(j.Error, "encryption on") {
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
