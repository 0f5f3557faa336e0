package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// pacer is a stepper that makes the batch after the one that it commits before that
// commit, where it may. What is made waits for the next step, whatever happens
// meanwhile; a job that is not as it was then makes its batch anew.
type pacer struct {
	*stepper
	after  *madeAhead
	before func(*rapid.T) // what others do between the making of that batch and the commit
	met    int            // batches made ahead that were committed
	lost   int            // and those whose rows or job were changed meanwhile
}

type madeAhead struct {
	of   job.Job
	step job.Step
}

// pace makes one step. When it is lost, the process goes on without what it made.
func (p *pacer) pace(t *rapid.T, lost bool) {
	made := p.after
	p.after = nil
	if len(p.all) == 0 || lost {
		p.step(t, lost)
		return
	}
	j, ctx := p.all[len(p.all)-1], context.Background()
	if made != nil && !cmp.Equal(made.of, *j) {
		p.lost++
		made = nil
	}
	if made == nil {
		s, err := p.kind.Step(ctx, *j)
		if err != nil || s.Done || j.Status != job.Running {
			p.step(t, false)
			return
		}
		made = &madeAhead{*j, s}
	} else {
		p.met++
	}
	next := p.next(*j, made.step)
	var after *madeAhead
	if made.step.Ahead {
		if s, err := p.kind.Step(ctx, next); err == nil {
			after = &madeAhead{next, s}
		}
	}
	p.before(t)
	switch _, err := p.store.Commit(ctx, &made.step.Batch); {
	case errors.Is(err, store.ErrConflict):
		p.lost++
	case err != nil:
		t.Fatal(err)
	default:
		*j, p.after = next, after
	}
}

// next is j once s is committed, which is not the last.
func (p *pacer) next(j job.Job, s job.Step) job.Job {
	if s.Anew {
		j.Processed, j.Failed, j.FailedOf = j.Processed-j.Failed, 0, nil
	}
	j.Cursor, j.Processed, j.Failed = s.Cursor, j.Processed+s.Processed, j.Failed+len(s.Failed)
	j.FailedOf = append(slices.Clip(j.FailedOf), s.Failed...)
	return j
}

func TestEveryVersionOpensWithTheKeyOfItsTagWhateverHappensWhileABatchIsAhead(t *testing.T) {
	met, lost := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		x := newSpin(t)
		p := &pacer{stepper: &stepper{store: x.mem, kind: x.turn.Service.RotationKind()}}
		m := &rotationModel{spin: x, t: rt, by: map[string]sealedBy{}, steps: p.stepper}
		m.r = NewRotations(x.turn.Service, p)
		for range rapid.IntRange(100, 210).Draw(rt, "versions") {
			m.write(m.old, false)
		}
		m.must(m.beginAny())
		p.before = func(rt *rapid.T) {
			if n := rapid.IntRange(0, 2).Draw(rt, "writes meanwhile"); n > 0 {
				m.write(m.old, n == 2)
			}
		}
		pace := func(rt *rapid.T) { p.pace(rt, false) }
		deeds := 0
		rt.Repeat(map[string]func(*rapid.T){
			"write old":           func(*rapid.T) { m.write(m.old, false) },
			"write old, declared": func(*rapid.T) { m.write(m.old, true) },
			"a crowd writes old": func(*rapid.T) {
				for range 105 {
					m.write(m.old, false)
				}
			},
			"write new":            func(*rapid.T) { m.writeNew() },
			"write new, declared":  func(*rapid.T) { m.write(m.fresh, true) },
			"begin, or begin anew": func(*rapid.T) { m.must(m.beginAny()) },
			"begin, asking more": func(rt *rapid.T) {
				_, err := m.begin(m.r, rapid.Bool().Draw(rt, "accept"))
				m.must(err)
			},
			"step":            pace,
			"step again":      pace,
			"step once more":  pace,
			"crash in a step": func(rt *rapid.T) { p.pace(rt, true) },
			"lose the keys":   func(*rapid.T) { m.twin.forget() },
			"rewrap":          func(*rapid.T) { m.rewrapped() },
			"a client re-encrypts": func(rt *rapid.T) {
				m.clientReencrypts(rapid.IntRange(0, 3).Draw(rt, "path"))
			},
			"cancel": func(*rapid.T) { m.cancel() },
			"delete a secret": func(*rapid.T) {
				_ = m.DeleteSecret(context.Background(), owner, m.id, fmt.Sprint("p", m.n%4))
			},
			"": func(*rapid.T) {
				if deeds++; deeds%10 == 0 {
					m.check()
				}
				m.turned()
			},
		})
		m.check()
		met, lost = met+p.met, lost+p.lost
	})
	if met == 0 || lost == 0 {
		t.Errorf("%d batches made ahead were committed, %d were not", met, lost)
	}
}

// clientReencrypts brings the newest version of a secret under the new key, as a
// client does that sends no key.
func (m *rotationModel) clientReencrypts(n int) {
	path := fmt.Sprint("p", n)
	got, err := m.Read(context.Background(), owner, m.id, path)
	if err != nil || got.CMEKFingerprint != m.old.Fingerprint() {
		return
	}
	key := layout.SecretVersion(m.id, path, got.Secret.Version)
	_, err = m.ReencryptVersion(context.Background(), owner, m.id, path, got.Secret.Version, api.ReencryptVersion{
		Value: m.seal(m.fresh, 0, m.holds[key]), OldFingerprint: m.old.Fingerprint(), NewFingerprint: m.fresh.Fingerprint(),
	})
	if (err == nil) != (m.meta().Rotation != nil) {
		m.t.Fatalf("a client re-encrypts: %v", err)
	}
	if err == nil {
		m.by[key] = sealedBy{key: m.fresh}
	}
}
