package vault

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// stepper is a runner of one rotation at a time that makes a step when it is told
// to. What a step changes and how far the job is it takes over together.
type stepper struct {
	store store.Store
	kind  job.Kind
	all   []*job.Job
}

func (s *stepper) find(id string) *job.Job {
	for _, j := range s.all {
		if j.ID == id {
			return j
		}
	}
	return nil
}

func (s *stepper) StartWith(ctx context.Context, kind string, args any, rows func(string) (store.Batch, error)) (job.Job, error) {
	j := &job.Job{ID: uuid.NewString(), Kind: kind, Args: marshal(args), Status: job.Running}
	b, err := rows(j.ID)
	if err == nil {
		_, err = s.store.Commit(ctx, &b)
	}
	if err != nil {
		return job.Job{}, err
	}
	s.all = append(s.all, j)
	return *j, nil
}

func (s *stepper) Again(_ context.Context, id string, args any) (job.Job, error) {
	j := s.find(id)
	j.Args, j.Status, j.Error = marshal(args), job.Running, ""
	return *j, nil
}

func (s *stepper) Get(_ context.Context, id string) (job.Job, error) { return *s.find(id), nil }

func (s *stepper) List(context.Context) (out []job.Job, err error) {
	for _, j := range s.all {
		out = append(out, *j)
	}
	return out, nil
}

func (s *stepper) Cancel(ctx context.Context, id string) (job.Job, error) {
	return s.end(ctx, s.find(id), job.Cancelled, "")
}

// end ends j with what its kind undoes.
func (s *stepper) end(ctx context.Context, j *job.Job, status job.Status, why string) (job.Job, error) {
	next := *j
	next.Status, next.Error = status, why
	b, err := s.kind.Undo(ctx, next)
	if err == nil {
		_, err = s.store.Commit(ctx, &b)
	}
	if err == nil {
		*j = next
		s.kind.Ended(*j)
	}
	return *j, err
}

// step makes one step of the job that runs. When it is lost, a crash came before
// its commit.
func (s *stepper) step(t *rapid.T, lost bool) {
	if len(s.all) == 0 || s.all[len(s.all)-1].Status != job.Running {
		return
	}
	j, ctx := s.all[len(s.all)-1], context.Background()
	made, err := s.kind.Step(ctx, *j)
	switch {
	case lost:
		return
	case errors.Is(err, job.ErrInterrupted):
		j.Status = job.Interrupted
		return
	case err != nil:
		if _, err = s.end(ctx, j, job.Failed, err.Error()); err != nil {
			t.Fatal(err)
		}
		return
	}
	if _, err := s.store.Commit(ctx, &made.Batch); err != nil {
		t.Fatal(err)
	}
	if made.Anew {
		j.Processed, j.Failed = j.Processed-j.Failed, 0
	}
	j.Cursor, j.Processed, j.Failed = made.Cursor, j.Processed+made.Processed, j.Failed+len(made.Failed)
	if made.Done {
		if err := s.kind.Done(ctx, *j); err != nil {
			t.Fatal(err)
		}
		j.Status = job.Completed
	}
}

// sealedBy says of a version row what really is in it.
type sealedBy struct {
	key        *cmek.Key
	undeclared bool // its writer said nothing while the vault had two keys
}

// rotationModel is a vault that anything may happen to, and what every version
// of it opens with.
type rotationModel struct {
	*spin
	t     *rapid.T
	steps *stepper
	r     *Rotations
	by    map[string]sealedBy
	n     int
}

func (m *rotationModel) write(k *cmek.Key, declared bool) {
	m.n++
	path := fmt.Sprint("p", m.n%4)
	before := m.meta()
	value, opt := m.seal(k, m.n, fmt.Sprint("text ", m.n)), PutOptions{}
	if declared {
		opt.DeclaredFingerprint = k.Fingerprint()
	}
	made, err := m.Put(context.Background(), owner, m.id, path, api.PutSecret{Value: &value}, opt)
	accepted := k == m.old || before.Rotation != nil
	closed := before.Rotation != nil && before.Rotation.Closed && (!declared || k == m.old)
	if (err == nil) != (accepted && !closed) || err != nil && fault.Of(err).Code != fault.Conflict {
		m.t.Fatalf("a write, declared %v: %v; the vault was %+v", declared, err, before.Rotation)
	}
	if err == nil {
		key := layout.SecretVersion(m.id, path, made.Version)
		m.holds[key] = fmt.Sprint("text ", m.n)
		m.by[key] = sealedBy{k, !declared && k != m.old}
	}
}

// check holds every row against the model.
func (m *rotationModel) check() {
	rotation := m.meta().Rotation != nil
	m.each(func(key, path string, n int, r versionRow) {
		value, err := m.turn.Service.open(context.Background(), m.id, path, n, r)
		if err != nil {
			m.t.Fatalf("%s: %v", key, err)
		}
		by := m.by[key]
		tagged := m.old
		if r.Fingerprint == m.fresh.Fingerprint() {
			tagged = m.fresh
			by = sealedBy{key: m.fresh} // re-encrypted, or declared, or tagged anew
		}
		if by.undeclared {
			tagged = by.key // a pass, of this rotation or of the next to the same key, sets it right
		}
		text, err := cmek.DecryptValue(tagged, value)
		if err != nil || string(text) != m.holds[key] {
			m.t.Fatalf("%s, tagged %.8s, holds %q, %v; want %q; rotating: %v", key, r.Fingerprint, text, err, m.holds[key], rotation)
		}
	})
}

// turned goes on with the new key as the vault's once the rotation is complete.
func (m *rotationModel) turned() {
	if m.meta().Fingerprint != m.fresh.Fingerprint() {
		return
	}
	m.each(func(key, _ string, _ int, r versionRow) {
		if r.Fingerprint != m.fresh.Fingerprint() {
			m.t.Fatalf("%s is under %.8s after the rotation", key, r.Fingerprint)
		}
		m.by[key] = sealedBy{key: m.fresh}
	})
	m.old, m.fresh = m.fresh, cmek.Generate()
}

func TestEveryVersionOpensWithTheKeyOfItsTagWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := newSpin(t)
		m := &rotationModel{spin: x, t: rt, by: map[string]sealedBy{}, steps: &stepper{store: x.mem, kind: x.turn.Service.RotationKind()}}
		m.r = NewRotations(x.turn.Service, m.steps)
		for range rapid.IntRange(0, 120).Draw(rt, "versions") {
			m.write(m.old, false)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write old":            func(*rapid.T) { m.write(m.old, false) },
			"write old, declared":  func(*rapid.T) { m.write(m.old, true) },
			"write new":            func(*rapid.T) { m.writeNew() },
			"write new, declared":  func(*rapid.T) { m.write(m.fresh, true) },
			"begin, or begin anew": func(*rapid.T) { m.must(m.beginAny()) },
			"step":                 func(rt *rapid.T) { m.steps.step(rt, false) },
			"step again":           func(rt *rapid.T) { m.steps.step(rt, false) },
			"crash in a step":      func(rt *rapid.T) { m.steps.step(rt, true) },
			"lose the keys":        func(*rapid.T) { m.twin.forget() },
			"rewrap":               func(*rapid.T) { m.rewrapped() },
			"cancel":               func(*rapid.T) { m.cancel() },
			"delete a secret": func(*rapid.T) {
				_ = m.DeleteSecret(context.Background(), owner, m.id, fmt.Sprint("p", m.n%4))
			},
			"": func(*rapid.T) { m.check(); m.turned() },
		})
	})
}

// writeNew writes under the new key and says nothing, as a client does that was
// told of the rotation.
func (m *rotationModel) writeNew() {
	if m.meta().Rotation != nil {
		m.write(m.fresh, false)
	}
}

func (m *rotationModel) beginAny() error {
	_, err := m.begin(m.r, false)
	return err
}

func (m *rotationModel) cancel() {
	if r := m.meta().Rotation; r != nil {
		_, err := m.r.CancelRotation(context.Background(), owner, m.id, r.Job)
		m.must(err)
	}
}

func marshal(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}
