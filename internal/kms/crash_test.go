package kms

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// eachCrash runs act over a store that dies at its first commit, its second and
// so on, until act ends alive; and after each death, check on a new process.
func eachCrash(t *testing.T, prepare func(r *rig, s *Service), act func(s *Service, died <-chan struct{}), check func(r *rig, s *Service, tookEffect bool)) {
	holder := func(c *Config) { c.Holder, c.Now = "the kms", time.Now }
	for _, tookEffect := range []bool{false, true} {
		for n := 1; ; n++ {
			r := newRig(t)
			s := r.start(holder)
			prepare(r, s)
			s.Close()
			alive := r.store
			dying := &storetest.DyingStore{Store: alive, At: n, Takes: tookEffect, Died: make(chan struct{})}
			s, err := r.tryStart(holder, func(c *Config) { c.Store = dying })
			r.must(err)
			act(s, dying.Died)
			s.Close()
			r.store = alive
			s = r.start(holder)
			check(r, s, tookEffect)
			s.Close()
			if t.Failed() {
				t.Fatalf("after the death at commit %d, took effect: %v", n, tookEffect)
			}
			if !dying.Dead() {
				if n <= 4 {
					t.Fatalf("only %d commits", n-1)
				}
				break
			}
		}
	}
}

func TestACrashAtAnyCommitOfARotationLosesNothingAndTheJobGoesOn(t *testing.T) {
	for _, rotate := range []kmsapi.Rotate{{KEKID: kmsapi.ThreadsKEK}, {All: true}} {
		var ids []string
		var ciphertexts [][]byte
		var envelope kmsapi.Envelope
		prepare := func(r *rig, s *Service) {
			r.createKEK(s, "v")
			r.auditKey()
			envelope = r.seal(s, "v", "secret", "")
			ids, ciphertexts = r.createDEKs(s, deksPerStep+20), nil
			for _, id := range ids[:20] {
				ciphertexts = append(ciphertexts, r.encrypt(s, id, id, ""))
			}
		}
		act := func(s *Service, died <-chan struct{}) {
			got, err := s.RotateKEK(ctx, rotate)
			if err == nil {
				waiting, cancel := context.WithCancel(ctx)
				defer cancel()
				go func() { <-died; cancel() }()
				s.jobs.Wait(waiting, got.Job.ID)
			}
		}
		check := func(r *rig, s *Service, tookEffect bool) {
			readable := func() {
				r.mustOpen(s, envelope, "", "secret")
				for i, c := range ciphertexts {
					r.mustDecrypt(s, ids[i], c, "", ids[i])
				}
				r.auditKey()
			}
			readable()
			jobs, err := s.Jobs(ctx)
			r.must(err)
			if len(jobs) > 1 {
				t.Errorf("%d jobs", len(jobs))
			}
			for _, j := range jobs {
				if done := r.finish(s, j.ID); done.Processed < len(ids) || done.Failed != 0 {
					t.Errorf("%+v", done)
				}
				r.mustLieUnder(2, ids...)
				if p := r.primary(s, "v"); rotate.All != (p == 2) {
					t.Errorf("the vault's KEK has primary %d", p)
				}
				r.must(s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 1))
			}
			if p := r.primary(s, kmsapi.ThreadsKEK); p != uint32(len(jobs)+1) {
				t.Errorf("%d jobs, and the primary is %d", len(jobs), p)
			}
			readable()
		}
		eachCrash(t, prepare, act, check)
	}
}

func TestACrashAtAnyCommitOfTheEndOfAVersionLeavesItDestroyedOrIntact(t *testing.T) {
	var old, fresh kmsapi.Envelope
	prepare := func(r *rig, s *Service) {
		r.createKEK(s, "v")
		old = r.seal(s, "v", "old", "")
		fresh = r.seal(s, "v", "fresh", "")
	}
	act := func(s *Service, _ <-chan struct{}) {
		s.RotateKEK(ctx, kmsapi.Rotate{KEKID: "v", IfVersion: 1})
		out, err := s.Rewrap(ctx, []kmsapi.RewrapItem{{KEKID: "v", KEKVersion: 1, WrappedDEK: fresh.WrappedDEK}})
		if err == nil && out[0].Err == nil {
			fresh.WrappedDEK, fresh.KEKVersion = out[0].WrappedDEK, out[0].KEKVersion
		}
		s.ReleaseKEK(ctx, "v", 2)
		s.DestroyKEKVersion(ctx, "v", 1)
	}
	check := func(r *rig, s *Service, _ bool) {
		keys, err := s.Keys(ctx, kmsapi.KeysQuery{After: kmsapi.ThreadsKEK})
		r.must(err)
		state := keys.KEKs[0].Versions[0].State
		if got, err := openOne(s, old, ""); (err == nil && got == "old") == (state == "destroyed") {
			t.Errorf("version 1 is %s, and an envelope under it opens as %q, %v", state, got, err)
		}
		_, err = s.RotateKEK(ctx, kmsapi.Rotate{KEKID: "v", IfVersion: 1})
		r.must(err)
		if state != "destroyed" {
			out, err := s.Rewrap(ctx, []kmsapi.RewrapItem{{KEKID: "v", KEKVersion: fresh.KEKVersion, WrappedDEK: fresh.WrappedDEK}})
			r.must(errors.Join(err, out[0].Err))
			fresh.WrappedDEK, fresh.KEKVersion = out[0].WrappedDEK, out[0].KEKVersion
		}
		r.must(s.ReleaseKEK(ctx, "v", 2))
		r.must(s.DestroyKEKVersion(ctx, "v", 1))
		r.mustOpen(s, fresh, "", "fresh")
		if e := r.seal(s, "v", "x", ""); e.KEKVersion != 2 {
			t.Errorf("sealed under version %d", e.KEKVersion)
		}
		if got, err := openOne(s, old, ""); err == nil {
			t.Errorf("what lay under the destroyed version opens as %q", got)
		}
	}
	eachCrash(t, prepare, act, check)
}
