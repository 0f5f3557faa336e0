package thread

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"pgregory.net/rapid"
)

// modelJob is a job that the test takes on a step at a time, on either server.
type modelJob struct {
	job.Job
	arrived bool // it has to be done yet
}

// StartWith makes the model a runner of jobs.
func (m *model) StartWith(ctx context.Context, kind string, args any, rows func(id string) (store.Batch, error)) (job.Job, error) {
	text, err := json.Marshal(args)
	if err != nil {
		return job.Job{}, err
	}
	j := job.Job{ID: uuid.NewString(), Kind: kind, Args: text, Status: job.Running, Created: time.Unix(0, m.clock.Load())}
	b, err := rows(j.ID)
	if err == nil {
		_, err = m.rows.Commit(ctx, &b)
	}
	if err == nil {
		m.jobs[j.ID] = &modelJob{Job: j}
	}
	return j, err
}

// Get returns a job that is under way.
func (m *model) Get(_ context.Context, id string) (job.Job, error) {
	if j := m.jobs[id]; j != nil {
		return j.Job, nil
	}
	return job.Job{}, fault.New(fault.NotFound, "no such job")
}

// under is a job of a kind that is under way; "": there is none.
func (m *model) under(t *rapid.T, kind string) string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(m.jobs)) {
		if m.jobs[id].Kind == kind {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return ""
	}
	return ids[between(t, "job", 0, len(ids)-1)]
}

// goOn takes a job of a kind a step on, or begins one.
func (m *model) goOn(t *rapid.T, kind string, args any) {
	id := m.under(t, kind)
	if id == "" {
		_, err := m.StartWith(context.Background(), kind, args, func(string) (b store.Batch, _ error) { return b, nil })
		m.answered(t, err, "")
		return
	}
	m.step(t, id)
}

func (m *model) rotateAllDEKs(t *rapid.T) { m.goOn(t, RotateAllJob, RotateAllArgs{}) }
func (m *model) rotateKEK(t *rapid.T)     { m.goOn(t, RewrapJob, RewrapArgs{Rotate: true}) }

// rotateDEK begins to rotate the DEK of a thread, or takes a rotation a step on.
func (m *model) rotateDEK(t *rapid.T) {
	if id := m.under(t, MoveJob); id != "" && between(t, "begin", 0, 4) > 0 {
		m.step(t, id)
		return
	}
	th := m.some(t)
	want := fault.Code("")
	if th.purged {
		want = fault.NotFound
	} else if m.record(t, th).Plain && !m.encrypts {
		want = fault.Conflict
	}
	_, _, err := m.at(t).RotateDEK(context.Background(), m, th.ID)
	m.answered(t, err, want)
}

// encryptExisting begins to encrypt one thread, or all, or takes that a step on.
func (m *model) encryptExisting(t *rapid.T) {
	th := m.some(t)
	if m.encrypts && !th.purged && rapid.Bool().Draw(t, "all") {
		m.goOn(t, EncryptJob, EncryptArgs{})
		return
	}
	want := fault.Code("")
	if !m.encrypts {
		want = fault.Conflict
	}
	got, err := m.at(t).BeginEncrypting(context.Background(), []string{th.ID})
	if !m.answered(t, err, want) {
		return
	}
	if len(got) != 1 || (got[0].Err != nil) != th.purged || !th.purged && got[0].KeyID != m.record(t, th).KMS.KeyID {
		t.Fatalf("%+v of a thread; purged: %v", got, th.purged)
	}
}

// step takes a job on by one batch.
func (m *model) step(t *rapid.T, id string) {
	t.Helper()
	j, s := m.jobs[id], m.at(t)
	kind := kindOf(s, j.Kind)
	var step job.Step
	var err error
	if j.arrived {
		err = kind.Done(context.Background(), j.Job)
	} else {
		step, err = kind.Step(context.Background(), j.Job)
	}
	switch {
	case errors.Is(err, job.ErrCancelled) && j.Kind == MoveJob, // it was purged, or another job has taken it over
		errors.Is(err, fault.Conflict) && j.Kind == EncryptJob && !m.encrypts:
		if kind.Undo != nil {
			step.Batch, err = kind.Undo(context.Background(), j.Job)
			m.answered(t, err, "")
		}
		delete(m.jobs, id)
		return
	case err != nil || len(step.Failed) > 0 && j.Kind != EncryptJob: // which names what another job has taken over
		t.Fatalf("%s: %v, %v", j.Kind, step.Failed, err)
	case j.arrived:
		m.ended(t, id)
		return
	}
	if _, err := m.rows.Commit(context.Background(), &step.Batch); err != nil {
		t.Fatal(err)
	}
	j.Cursor, j.arrived = step.Cursor, step.Done
	j.Processed += step.Processed
	j.Failed += len(step.Failed)
	if step.Done && kind.Done == nil {
		m.ended(t, id)
	}
}

// ended looks at what a job has to have done.
func (m *model) ended(t *rapid.T, id string) {
	j := m.jobs[id]
	delete(m.jobs, id)
	switch j.Kind {
	case EncryptJob:
		m.clearIsGone(t)
	case RewrapJob:
		m.factsAreNew(t, decode[position](t, []byte(j.Cursor)).Version)
	}
}

// factsAreNew fails when a record has the facts of a DEK under an older version of the KEK.
func (m *model) factsAreNew(t *rapid.T, version uint32) {
	t.Helper()
	for _, th := range m.threads {
		if th.purged {
			continue
		}
		if r := m.record(t, th); len(r.deksUnder(version)) > 0 || r.Moving != nil && !r.Moving.Old.plain() && r.Moving.Old.KEKVersion < version {
			t.Fatalf("%s: thread %s has facts of a DEK under a version less than %d: %+v", m.now, th.ID, version, r.KMS)
		}
	}
}

func kindOf(s *Service, name string) job.Kind {
	for _, kind := range []job.Kind{s.MoveKind(), s.RotateAllKind(), s.RewrapKind(), s.EncryptKind(), s.PurgeKind()} {
		if kind.Name == name {
			return kind
		}
	}
	panic(name)
}

// destroyKEKVersion destroys a version of the threads' KEK, which must not work while
// it is the primary or a DEK lies under it.
func (m *model) destroyKEKVersion(t *rapid.T) {
	versions := m.kekVersions(t)
	v := pick(t, "version", versions)
	err := m.kms.DestroyKEKVersion(context.Background(), kmsapi.ThreadsKEK, v.Version)
	if err != nil || int(v.Version) == len(versions) {
		m.answered(t, err, fault.Conflict)
		if *v.DEKs == 0 && int(v.Version) < len(versions) {
			t.Fatalf("nothing lies under version %d, and it is not destroyed: %v", v.Version, err)
		}
	}
	if now := m.kekVersions(t)[v.Version-1]; err == nil && *now.DEKs > 0 {
		t.Fatalf("%d DEKs lie under version %d, which is destroyed", *now.DEKs, v.Version)
	}
}

// kekVersions are the versions of the threads' KEK, each with the number of DEKs under
// it. The KMS rewraps DEKs by itself once it has rotated: of an old one they become fewer.
func (m *model) kekVersions(t *rapid.T) []kmsapi.KEKVersion {
	t.Helper()
	keys, err := m.kms.Keys(context.Background(), kmsapi.KeysQuery{Count: true})
	m.answered(t, err, "")
	at := slices.IndexFunc(keys.KEKs, func(k kmsapi.KEK) bool { return k.ID == kmsapi.ThreadsKEK })
	return keys.KEKs[at].Versions
}

// record is what the store has of a thread.
func (m *model) record(t *rapid.T, th *modelThread) meta {
	t.Helper()
	rec, err := m.rows.Get(context.Background(), layout.ThreadMeta(th.ID))
	if err != nil {
		t.Fatal(err)
	}
	return decode[meta](t, rec.Value)
}

// keysAreNamed fails unless the KMS has the DEKs of threads that are there, and no
// others but those that a rotation is about to destroy.
func (m *model) keysAreNamed(t *rapid.T) {
	t.Helper()
	named, doomed := map[string]string{}, map[string]bool{}
	for _, th := range m.threads {
		if th.purged {
			continue
		}
		r := m.record(t, th)
		for _, id := range r.deks() {
			named[id] = th.ID
		}
	}
	for _, j := range m.jobs {
		if j.Cursor != "" {
			for _, id := range decode[moved](t, []byte(j.Cursor)).Shred {
				doomed[id] = true
			}
		}
	}
	for q := (kmsapi.KeysQuery{DEKs: true}); ; {
		page, err := m.kms.Keys(context.Background(), q)
		m.answered(t, err, "")
		for _, dek := range page.DEKs {
			if named[dek.KeyID] != dek.ThreadID && !doomed[dek.KeyID] {
				t.Fatalf("%s: no record names the DEK %s of thread %s", m.now, dek.KeyID, dek.ThreadID)
			}
			delete(named, dek.KeyID)
		}
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	if len(named) > 0 {
		t.Fatalf("%s: the KMS lacks %v", m.now, named)
	}
}

// rowsAreWhole fails when there is a row of a thread or a message that is gone, or of a
// deleted message what goes with the deletion.
func (m *model) rowsAreWhole(t *rapid.T) {
	t.Helper()
	names := map[string]map[rowName]bool{}
	for _, th := range m.threads {
		if !th.purged {
			names[th.ID] = map[rowName]bool{}
		}
	}
	for rec, err := range store.All(context.Background(), m.rows, store.Prefix(layout.Threads())) {
		id, name, _ := strings.Cut(strings.TrimPrefix(rec.Key, layout.Threads()), ":")
		if err != nil || names[id] == nil {
			t.Fatalf("%s: %s is left of a thread, %v", m.now, rec.Key, err)
		}
		names[id][rowName(name)] = true
	}
	for id, rows := range names {
		for name := range rows {
			kind, _, _ := strings.Cut(string(name), ":")
			live, deleted := rows[newestRow(name.message())], rows[deletedRow(name.message())]
			if kind == "react" && !live || kind == "past" && live == deleted || kind == "msg" && deleted {
				t.Fatalf("%s: of thread %s is left %s", m.now, id, name)
			}
		}
	}
}

// clearIsGone fails when a row lies in clear though nothing in clear is believed any more.
func (m *model) clearIsGone(t *rapid.T) {
	t.Helper()
	if m.believes {
		return
	}
	for rec, err := range store.All(context.Background(), m.rows, store.Prefix(layout.Threads())) {
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(strings.TrimPrefix(rec.Key, layout.Threads()), ":")
		if slices.ContainsFunc(rowKinds, func(kind string) bool { return strings.HasPrefix(name, kind) }) && bytes.HasPrefix(rec.Value, []byte(`{"id":`)) {
			t.Fatalf("%s: %s lies in clear", m.now, rec.Key)
		}
	}
}
