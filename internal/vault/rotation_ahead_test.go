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
	"github.com/keyfold/keyfold/internal/kmsapi"
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
		for range rapid.IntRange(100, 130).Draw(rt, "versions") {
			m.write(m.old, false)
		}
		m.must(m.beginAny())
		p.before = func(rt *rapid.T) {
			if n := rapid.IntRange(0, 3).Draw(rt, "writes meanwhile"); n > 1 {
				m.write(m.old, n == 3)
			}
		}
		pace := func(rt *rapid.T) {
			for range rapid.IntRange(1, 4).Draw(rt, "steps") {
				p.pace(rt, false)
			}
		}
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
			"steps":           pace,
			"steps again":     pace,
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
			"": func(*rapid.T) { m.turned() },
		})
		m.check()
		met, lost = met+p.met, lost+p.lost
	})
	if !testing.Short() && (met == 0 || lost == 0) {
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

// The rows of a vault may be under a later version of the KEK than its meta row asks
// for, or under an earlier one; a KMS that lags behind brings them under neither.
func TestARotationBringsNoRowUnderAnOlderKEKThanItHadOrTheVaultAsksFor(t *testing.T) {
	for _, asks := range []bool{false, true} {
		x := newSpin(t)
		v, err := x.load(t.Context(), x.id)
		x.must(err)
		_, err = x.twin.RotateKEK(t.Context(), kmsapi.Rotate{KEKID: v.KEKID})
		x.must(err)
		want := map[uint32]int{2: 10}
		if asks { // a rewrap has begun, and has passed no row
			x.twin.lag = 1
			x.fill(10)
			v, err = x.load(t.Context(), x.id)
			x.must(err)
			v.KEKVersion = 2
			var b store.Batch
			x.must(v.putMeta(&b))
			_, err = x.mem.Commit(t.Context(), &b)
			x.must(err)
		} else {
			x.fill(10)
		}
		x.twin.lag = 1
		calls := 0
		x.twin.before = func(call string) error {
			if call == "Reencrypt" {
				if calls++; calls == 3 {
					x.twin.lag = 0
				}
			}
			return nil
		}
		r, jobs := x.serve()
		x.completed(x.end(r, jobs, x.begun(r, false).ID), 10)
		if under := x.under(); calls != 3 || !cmp.Equal(under, want) {
			t.Errorf("the vault asks for it %v: under %v after %d calls", asks, under, calls)
		}
	}
}

// A vault's row that was put back names another rotation than the one that runs.
func TestARotationTouchesNoVaultThatWaitsForAnother(t *testing.T) {
	x := newSpin(t)
	x.fill(230)
	reached, let := x.held(2)
	r, jobs := x.serve()
	j := x.begun(r, false)
	<-reached
	v, err := x.load(t.Context(), x.id)
	x.must(err)
	v.Rotation = &rotation{Job: "another", Fingerprint: v.Rotation.Fingerprint}
	var b store.Batch
	x.must(v.putMeta(&b))
	_, err = x.mem.Commit(t.Context(), &b)
	x.must(err)
	close(let)
	if j = x.end(r, jobs, j.ID); j.Status != "cancelled" {
		t.Errorf("it ended as %+v", j)
	}
	if m := x.meta(); m.Rotation == nil || m.Rotation.Job != "another" || m.Fingerprint != x.old.Fingerprint() {
		t.Errorf("the vault is %+v", m)
	}
	x.opens()
}
