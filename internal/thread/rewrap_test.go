package thread

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// The part of twinKMS that rotates. A wrapped DEK is 60 zero bytes.

var wrapped = make([]byte, aead.KeySize+aead.Overhead)

func (k *twinKMS) CreateKEK(_ context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	if err := k.begin(0); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return []kmsapi.KEKInfo{{KEKID: ids[0], Version: 1 + k.rotations}}, nil
}

func (k *twinKMS) RotateKEK(_ context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error) {
	if err := k.begin(0); err != nil {
		return kmsapi.Rotated{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.IfVersion == 1+k.rotations {
		k.rotations++
	}
	err := k.lost
	k.lost = nil
	return kmsapi.Rotated{KEKID: r.KEKID, KEKVersion: 1 + k.rotations}, err
}

func (k *twinKMS) Rewrap(_ context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error) {
	k.rewrapping = items
	if err := k.begin(0); err != nil {
		return nil, err
	}
	k.mu.Lock()
	k.rewraps = append(k.rewraps, len(items))
	k.mu.Unlock()
	out := make([]kmsapi.RewrapResult, len(items))
	for i, it := range items {
		if _, err := k.key(it.KeyID); err != nil {
			out[i].Err = err
			continue
		}
		k.mu.Lock()
		out[i] = kmsapi.RewrapResult{KEKID: kmsapi.ThreadsKEK, KEKVersion: 1 + k.rotations - k.lag, WrappedDEK: wrapped}
		k.mu.Unlock()
	}
	if k.shorten {
		return out[1:], nil
	}
	return out, nil
}

// runner runs jobs of w over s.
func (w *world) runner(s store.Store) *job.Runner {
	threads := New(Config{Store: s, KMS: w.kms, Gate: new(accesstest.Gate)})
	return job.New(job.Config{Store: s, Kinds: []job.Kind{threads.RewrapKind()}, Holder: "test"})
}

// rewrap runs a job to its end.
func (w *world) rewrap(t testing.TB, rotate bool) job.Job {
	t.Helper()
	r := w.runner(w.store)
	defer r.Close()
	j, err := r.Start(t.Context(), RewrapJob, RewrapArgs{Rotate: rotate})
	if err != nil {
		t.Fatal(err)
	}
	return await(t, r, j.ID)
}

func await(t testing.TB, r *job.Runner, id string) job.Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	j, err := r.Wait(ctx, id)
	if err != nil {
		t.Fatalf("%v: %+v", err, j)
	}
	return j
}

// under returns how many threads' records name each version.
func (w *world) under(t testing.TB) map[uint32]int {
	t.Helper()
	out := map[uint32]int{}
	for key := range w.dump(t) {
		if strings.HasPrefix(key, layout.Threads()) && strings.HasSuffix(key, ":meta") {
			out[decodeAs[meta](t, w.get(t, key)).KMS.KEKVersion]++
		}
	}
	return out
}

// fill makes n threads with messages, the second one deleted.
func (w *world) fill(t testing.TB, n int) (out []api.Thread) {
	t.Helper()
	for i := range n {
		th := w.thread(t, owner, fmt.Sprint("thread ", i))
		for range 3 {
			w.say(t, th.ID, "a message")
		}
		out = append(out, th)
	}
	if n > 1 {
		if err := w.Delete(t.Context(), owner, out[1].ID); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestARewrapLeavesNoThreadUnderAnOldVersion(t *testing.T) {
	w := newWorld(t)
	threads := w.fill(t, 250)
	before := w.dump(t)
	w.store.reset()
	j := w.rewrap(t, true)
	if j.Status != job.Completed || j.Processed != 250 || j.Total != 250 || j.Failed != 0 {
		t.Errorf("the job ended as %+v", j)
	}
	if got := w.under(t); got[2] != 250 || len(got) != 1 {
		t.Errorf("threads under %v", got)
	}
	if got := w.store.scanned.Load(); got > 2*252+10 {
		t.Errorf("%d rows were scanned for 250 threads: messages are to be passed over", got)
	}
	if !slices.Equal(w.kms.rewraps, []int{100, 100, 50}) {
		t.Errorf("calls of Rewrap had %v items", w.kms.rewraps)
	}
	after := w.dump(t)
	for key, was := range before {
		if !strings.HasSuffix(key, ":meta") {
			if after[key] != was {
				t.Errorf("%s was changed", key)
			}
			continue
		}
		_, row, _ := strings.Cut(was, " ")
		old, is := decodeAs[meta](t, []byte(row)), decodeAs[meta](t, w.get(t, key))
		old.KMS.KEKVersion, old.KMS.WrappedDEK = is.KMS.KEKVersion, is.KMS.WrappedDEK
		if diff := cmp.Diff(old, is, cmp.AllowUnexported(meta{})); diff != "" {
			t.Errorf("%s was changed in more than its wrapped DEK:\n%s", key, diff)
		}
	}
	w.list(t, owner, threads[0].ID, MessageQuery{})
	if j := w.rewrap(t, false); j.Processed != 250 || len(w.kms.rewraps) != 3 || w.kms.rotations != 1 {
		t.Errorf("a second rewrap: %+v, calls %v", j, w.kms.rewraps)
	}
}

// TestAThreadsRewrapSurvivesEveryCommit stops the store at every commit of the
// job, with its effect and without.
func TestAThreadsRewrapSurvivesEveryCommit(t *testing.T) {
	last := 0
	for at := 2; at == 2 || last == at-1; at++ {
		for _, takes := range []bool{false, true} {
			w := newWorld(t)
			w.fill(t, 120)
			dead := &storetest.DyingStore{Store: w.store.Store, At: at, Takes: takes}
			r := w.runner(dead)
			j, err := r.Start(t.Context(), RewrapJob, RewrapArgs{Rotate: true})
			if err != nil {
				t.Fatal(err)
			}
			r.Wait(t.Context(), j.ID) // until the end, or until the store is gone
			r.Close()
			if dead.Dead() {
				last = at
			}
			r = w.runner(w.store)
			if err := r.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			j = await(t, r, j.ID)
			r.Close()
			if j.Status != job.Completed || j.Processed != 120 || w.kms.rotations != 1 || w.under(t)[2] != 120 {
				t.Fatalf("commit %d, took effect %v: %+v, %d rotations, %v", at, takes, j, w.kms.rotations, w.under(t))
			}
		}
	}
	if last != 5 { // Start, primary, least version, two batches
		t.Errorf("the job had %d commits", last)
	}
}

func TestALostAnswerDoesNotRotateTheThreadsTwice(t *testing.T) {
	w := newWorld(t)
	w.fill(t, 2)
	w.kms.lost = fault.New(fault.Unavailable, "the KMS was killed")
	if j := w.rewrap(t, true); j.Status != job.Completed || w.kms.rotations != 1 {
		t.Errorf("%+v after %d rotations", j, w.kms.rotations)
	}
}

// TestAThreadMadeMeanwhileIsNotUnderTheOldVersion lets a whole rotation come
// between the making of a DEK and the commit of its thread.
func TestAThreadMadeMeanwhileIsNotUnderTheOldVersion(t *testing.T) {
	w := newWorld(t)
	w.fill(t, 2)
	rotated := false
	w.kms.creating = func(*kmsapi.CreateDEKResult) {
		if !rotated {
			rotated = true
			if j := w.rewrap(t, true); j.Status != job.Completed {
				t.Errorf("%+v", j)
			}
		}
	}
	th := w.thread(t, owner, "made meanwhile")
	if got := w.under(t); got[2] != 3 {
		t.Errorf("threads under %v", got)
	}
	w.say(t, th.ID, "a message")
}

func TestADEKUnderAnOldVersionMakesNoThread(t *testing.T) {
	w := newWorld(t)
	w.fill(t, 2)
	w.rewrap(t, true)
	made := 0
	w.kms.creating = func(r *kmsapi.CreateDEKResult) {
		if made++; made < 4 {
			r.DEK.KEKVersion = 1 // a KMS process that does not know of the rotation yet
		}
	}
	w.thread(t, owner, "after")
	if got := w.under(t); got[2] != 3 || made != 4 {
		t.Errorf("threads under %v, %d DEKs made", got, made)
	}
}

// As a KMS answers that was restored from a backup of before a rotation.
func TestAKMSThatStaysOldIsNotAskedForDEKsWithoutEnd(t *testing.T) {
	w := newWorld(t)
	w.rewrap(t, true)
	made := 0
	w.kms.creating = func(r *kmsapi.CreateDEKResult) {
		made++
		r.DEK.KEKVersion = 1
	}
	_, err := w.Create(t.Context(), owner, api.CreateThread{})
	if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "backup") || made != maxLags {
		t.Errorf("%v after %d DEKs", err, made)
	}
}

func TestAThreadWithoutItsDEKIsNamed(t *testing.T) {
	w := newWorld(t)
	threads := w.fill(t, 5)
	delete(w.kms.keys, decodeAs[meta](t, w.get(t, layout.ThreadMeta(threads[2].ID))).KMS.KeyID)
	w.overwrite(t, layout.ThreadMeta(threads[3].ID), []byte("{"))
	before := w.dump(t)
	j := w.rewrap(t, true)
	if want := []string{"thread " + threads[3].ID, "thread " + threads[2].ID}; j.Status != job.Completed || j.Failed != 2 || !slices.Equal(j.FailedOf, want) {
		t.Errorf("the job ended as %+v", j)
	}
	for _, i := range []int{2, 3} {
		if key := layout.ThreadMeta(threads[i].ID); w.dump(t)[key] != before[key] {
			t.Errorf("%s was changed", key)
		}
	}
}

// A rotation of the thread's DEK ends, and destroys the old one, between the reading
// of the thread and the question for both.
func TestADEKThatWasDestroyedSinceIsNotMissed(t *testing.T) {
	for name, rewrap := range map[string]func(*shift) string{
		"the job": func(x *shift) string { return fmt.Sprint(x.world.rewrap(t, true).FailedOf) },
		"a call": func(x *shift) string {
			x.kms.rotations++
			out, err := x.RewrapDEKs(t.Context(), []string{x.thread}, nil)
			if err != nil || len(out) != 1 || out[0].Err != nil {
				return fmt.Sprint(out, err)
			}
			return "[]"
		},
	} {
		x := newShift(t, 3)
		m, err := x.load(t.Context(), x.thread)
		x.must(err)
		x.must(second(x.beginMoving(t.Context(), m)))
		x.kms.before = func() {
			if len(x.kms.rewrapping) == 2 {
				x.kms.before = nil
				x.completed(x.rotate())
			}
		}
		if failed := rewrap(x); failed != "[]" {
			t.Errorf("%s: %s", name, failed)
		}
		if m := x.meta(); m.KMS.KEKVersion != 2 || x.kms.before != nil {
			t.Errorf("%s: the thread is under version %d", name, m.KMS.KEKVersion)
		}
	}
}

func TestWrongAnswersOfTheKMSAreWaitedOut(t *testing.T) {
	for name, set := range map[string]func(*twinKMS, bool){
		"away":       func(k *twinKMS, on bool) { k.fail = map[bool]error{true: fault.New(fault.Unavailable, "away")}[on] },
		"unanswered": func(k *twinKMS, on bool) { k.shorten = on },
		"lagging":    func(k *twinKMS, on bool) { k.lag = map[bool]uint32{true: 1}[on] },
	} {
		w := newWorld(t)
		w.fill(t, 3)
		set(w.kms, true)
		calls := 0
		w.kms.before = func() {
			if calls++; calls == 6 {
				set(w.kms, false)
			}
		}
		if j := w.rewrap(t, true); j.Status != job.Completed || w.under(t)[2] != 3 {
			t.Errorf("%s: %+v, %v", name, j, w.under(t))
		}
	}
}

func TestAKMSWithFewerVersionsThanTheThreadsFailsTheJob(t *testing.T) {
	w := newWorld(t)
	w.fill(t, 2)
	w.rewrap(t, true)
	w.kms.rotations = 0
	if j := w.rewrap(t, false); j.Status != job.Failed || !strings.Contains(j.Error, "backup") {
		t.Errorf("the job ended as %+v", j)
	}
}
