package kms

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// ticking is a clock that goes on by a second whenever it is asked.
func ticking() func(*Config) {
	var asked atomic.Int64
	return func(c *Config) {
		c.Now = func() time.Time { return day.Add(time.Duration(asked.Add(1)) * time.Second) }
	}
}

func (r *rig) mustLieUnder(version uint32, keyIDs ...string) {
	r.Helper()
	for _, id := range keyIDs {
		if got := r.record(id).KEKVersion; got != version {
			r.Errorf("%s lies under version %d, want %d", id, got, version)
		}
	}
}

func (r *rig) createDEKs(s *Service, n int) []string {
	r.Helper()
	items := make([]kmsapi.CreateDEKItem, n)
	for i := range items {
		items[i].ThreadID = fmt.Sprint("t", i)
	}
	out, err := s.CreateDEK(ctx, items)
	r.must(err)
	ids := make([]string, n)
	for i, res := range out {
		r.must(res.Err)
		ids[i] = res.DEK.KeyID
	}
	return ids
}

func TestARotationCountsAtOnce(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	old := r.seal(s, "v", "plain", "")
	got, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: "v"})
	if want := (kmsapi.Rotated{KEKID: "v", KEKVersion: 2}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if e := r.seal(s, "v", "x", ""); e.KEKVersion != 2 {
		t.Errorf("sealed under version %d", e.KEKVersion)
	}
	r.mustOpen(s, old, "", "plain")
	r.mustOpen(r.start(), old, "", "plain")
	if info := r.createKEK(s, "v"); info[0].Version != 2 {
		t.Error(info)
	}
}

func TestARotationWithIfVersionMayBeRepeated(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	for _, id := range []string{"v", kmsapi.ThreadsKEK} {
		for range 3 {
			got, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: id, IfVersion: 1})
			if err != nil || got.KEKVersion != 2 || (got.Job.ID == "") != (id == "v") {
				t.Errorf("%+v, %v", got, err)
			}
			r.finish(s, got.Job.ID)
		}
		if _, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: id, IfVersion: 3}); !errors.Is(err, fault.Conflict) {
			t.Errorf("of a version that is not there yet: %v", err)
		}
	}
	r.together(8, func(int) error {
		got, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: "v", IfVersion: 2})
		if err == nil && got.KEKVersion != 3 {
			err = fmt.Errorf("primary %d", got.KEKVersion)
		}
		return err
	})
}

func TestABadRotationChangesNothing(t *testing.T) {
	r := newRig(t)
	s := r.start()
	before := r.dump()
	for want, asked := range map[fault.Code][]kmsapi.Rotate{
		fault.Invalid:  {{}, {All: true, KEKID: "v"}, {All: true, IfVersion: 1}},
		fault.NotFound: {{KEKID: "w"}, {KEKID: "a:b"}, {KEKID: "w", IfVersion: 1}},
	} {
		for _, q := range asked {
			if _, err := s.RotateKEK(ctx, q); !errors.Is(err, want) {
				t.Errorf("%+v: %v", q, err)
			}
		}
	}
	if diff := cmp.Diff(before, r.dump()); diff != "" {
		t.Error(diff)
	}
}

func TestTheJobBringsEveryDEKUnderThePrimary(t *testing.T) {
	r := newRig(t)
	s := r.start(ticking())
	ids := r.createDEKs(s, 250)
	ciphertexts := map[string][]byte{}
	for _, id := range ids {
		ciphertexts[id] = r.encrypt(s, id, "plain", "aad")
	}
	first := r.record(ids[0])
	got := r.rotate(s, kmsapi.ThreadsKEK)
	j, err := s.Job(ctx, got.Job.ID)
	if err != nil || j.Status != "completed" || j.Kind != "kek.rotate" || j.Total != 250 || j.Processed != 250 || j.Failed != 0 {
		t.Errorf("%+v, %v", j, err)
	}
	r.mustLieUnder(2, ids...)
	want := first
	want.KEKVersion, want.Wrapped, want.Seals = 2, nil, first.Seals+1
	now := r.record(ids[0])
	wrapped, err := s.GetWrapped(ctx, ids[0])
	if err != nil || !bytes.Equal(wrapped, now.Wrapped) || bytes.Equal(wrapped, first.Wrapped) {
		t.Errorf("GetWrapped: %v", err)
	}
	if now.Wrapped = nil; !cmp.Equal(now, want) {
		t.Error("the row changed in more than its KEK version:", cmp.Diff(want, now))
	}
	for _, s := range []*Service{s, r.start()} {
		for id, c := range ciphertexts {
			r.mustDecrypt(s, id, c, "aad", "plain")
		}
		if info := r.createDEK(s, "t"); info.KEKVersion != 2 {
			t.Errorf("a new DEK is under version %d", info.KEKVersion)
		}
	}
	if jobs, err := s.Jobs(ctx); err != nil || len(jobs) != 1 || jobs[0].ID != j.ID {
		t.Errorf("%+v, %v", jobs, err)
	}
}

func TestTheJobOverAllLeavesKEKsThatAreYoungerThanItself(t *testing.T) {
	r := newRig(t)
	s := r.start(ticking())
	var keks []string
	for i := range 2*keksPerStep + 5 {
		keks = append(keks, fmt.Sprint("v", i))
	}
	r.createKEK(s, keks...)
	ids := r.createDEKs(s, 3)
	r.auditKey()
	ahead, err := keyring.New(ctx, r.root, "ahead", day.AddDate(1, 0, 0)) // the clock was wrong then
	r.must(err)
	r.put(layout.KEK("ahead"), ahead.Marshal())
	r.put(layout.KEK("broken"), bytes.Clone(ahead.Marshal()))

	got, err := s.RotateKEK(ctx, kmsapi.Rotate{All: true})
	r.must(err)
	if again, err := s.RotateKEK(ctx, kmsapi.Rotate{All: true}); err != nil || again.Job.ID != got.Job.ID && again.Job.Created.Equal(got.Job.Created) {
		t.Errorf("%+v, %v", again, err)
	}
	j := r.finish(s, got.Job.ID)
	if diff := cmp.Diff([]string{"kek:broken"}, j.FailedOf); diff != "" || j.Failed != 1 || j.Processed != len(keks)+4+3 {
		t.Errorf("%+v: %s", j, diff)
	}
	r.mustLieUnder(r.primary(s, kmsapi.ThreadsKEK), ids...)
	for _, kek := range append(keks, auditKEK, kmsapi.ThreadsKEK, "ahead") {
		if p := r.primary(s, kek); p < 2 {
			t.Errorf("%s has primary %d", kek, p)
		}
	}
	began := s.now()
	r.createKEK(s, "young")
	r.must(s.rotateOlder(ctx, "young", began))
	if p := r.primary(s, "young"); p != 1 {
		t.Errorf("a KEK younger than the job has primary %d", p)
	}
	for range 2 { // asked again, by whose clock is behind
		r.must(s.rotateOlder(ctx, "young", began.AddDate(1, 0, 0)))
	}
	if p := r.primary(s, "young"); p != 2 {
		t.Errorf("a job that was asked twice made primary %d", p)
	}
}

func (r *rig) primary(s *Service, kek string) uint32 {
	r.Helper()
	p, err := s.primary(ctx, kek)
	r.must(err)
	return p
}

func TestADEKThatDoesNotOpenIsNamedAndLeftAsItIs(t *testing.T) {
	r := newRig(t)
	s := r.start()
	ids := r.createDEKs(s, 5)
	rec := r.record(ids[3])
	rec.KEKVersion = 9
	forged, err := rec.marshal(newKey(t, r.rawDEK(s, ids[3])), ids[3])
	r.must(err)
	bad := map[string][]byte{
		ids[1]:      r.get(layout.DEK(ids[2])).Value,
		ids[3]:      forged,
		"dek-zzzzz": []byte("no row"),
	}
	for id, row := range bad {
		r.put(layout.DEK(id), row)
	}
	s = r.start()
	got := r.rotate(s, kmsapi.ThreadsKEK)
	j := r.finish(s, got.Job.ID)
	if j.Failed != 3 || j.Processed != 6 || len(j.FailedOf) != 3 {
		t.Errorf("%+v", j)
	}
	for _, id := range j.FailedOf {
		if row := bad[id]; row == nil || !bytes.Equal(r.get(layout.DEK(id)).Value, row) {
			t.Errorf("%s is named, and its row changed or good", id)
		}
	}
	r.mustLieUnder(2, ids[0], ids[2], ids[4])
}

// A process that has not heard of a rotation makes a DEK after the job has
// passed: it must not come under the old version.
func TestADEKOfAProcessThatMissedTheRotationIsUnderThePrimary(t *testing.T) {
	r := newRig(t)
	late, s := r.start(), r.start()
	ids := []string{r.createDEK(late, "t").KeyID}
	r.rotate(s, kmsapi.ThreadsKEK)
	info := r.createDEK(late, "t")
	if info.KEKVersion != 2 {
		t.Errorf("version %d", info.KEKVersion)
	}
	r.rotate(s, kmsapi.ThreadsKEK)
	out, err := late.Rewrap(ctx, []kmsapi.RewrapItem{{KeyID: ids[0]}, {KeyID: info.KeyID}})
	r.must(err)
	for _, res := range out {
		if res.Err != nil || res.KEKVersion != 3 {
			t.Errorf("rewrapped by it: version %d, %v", res.KEKVersion, res.Err)
		}
	}
	r.mustLieUnder(3, ids[0], info.KeyID)
	r.must(s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 1))
	r.must(s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 2))
	for _, s := range []*Service{late, s, r.start()} {
		r.mustDecrypt(s, info.KeyID, r.encrypt(late, info.KeyID, "x", ""), "", "x")
	}
}

func TestEveryWriteOfADEKsRowMeetsARotationThatWasCommittedMeanwhile(t *testing.T) {
	for name, write := range map[string]func(s *Service, id string) (string, error){
		"CreateDEK": func(s *Service, _ string) (string, error) {
			info, err := createDEKOne(s, "t")
			return info.KeyID, err
		},
		"Rewrap": func(s *Service, id string) (string, error) {
			out, err := s.Rewrap(ctx, []kmsapi.RewrapItem{{KeyID: id}})
			if err == nil {
				err = out[0].Err
			}
			return id, err
		},
		"a reservation": func(s *Service, id string) (string, error) { _, err := encryptOne(s, id, "x", ""); return id, err },
	} {
		r := newRig(t)
		st := &faultyStore{Store: r.store}
		r.store = st
		s, other := r.start(small(2, 1<<31)), r.start()
		id := r.createDEK(s, "t").KeyID
		r.encrypt(s, id, "x", "")                             // the block is used up
		_, err := other.rotateFrom(ctx, kmsapi.ThreadsKEK, 1) // without its job
		r.must(err)
		met := false
		st.failing(func(b *store.Batch) (error, bool) {
			for _, w := range b.Writes {
				if w.Key == layout.KEKUse(kmsapi.ThreadsKEK) {
					return nil, false
				}
			}
			st.failing(nil) // s has read, decided and is about to commit
			met = true
			r.rotate(other, kmsapi.ThreadsKEK)
			return nil, false
		})
		got, err := write(s, id)
		if err != nil || !met {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r.mustLieUnder(3, got)
	}
}

// A batch that was prepared under a primary which is destroyed meanwhile, since
// no DEK lay under it yet, must not bring DEKs under it.
func TestABatchOfTheJobThatMetARotationIsNotCommitted(t *testing.T) {
	r := newRig(t)
	s := r.start()
	ids := r.createDEKs(s, 3)
	rotate := func(from uint32) {
		_, err := s.rotateFrom(ctx, kmsapi.ThreadsKEK, from)
		r.must(err)
	}
	rotate(1)
	step, err := s.stepDEKs(ctx, "", deksPerStep)
	r.must(err)
	rotate(2)
	r.must(s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 2))
	if _, err := r.store.Commit(ctx, &step.Batch); !errors.Is(err, store.ErrConflict) || len(step.Batch.Writes) != 3 {
		t.Errorf("%d writes: %v", len(step.Batch.Writes), err)
	}
	r.mustLieUnder(1, ids...)
}

// Nor may it bring back a DEK that was shredded meanwhile, or forget seals that
// were reserved.
func TestABatchOfTheJobThatMetAChangeOfARowIsNotCommitted(t *testing.T) {
	r := newRig(t)
	s := r.start(small(2, 100))
	id := r.createDEK(s, "t").KeyID
	for name, change := range map[string]func(){
		"a reservation": func() { r.must(s.takeSeals(ctx, &dek{id: id, key: newKey(t, r.rawDEK(s, id))}, 5)) },
		"the end":       func() { r.must(s.ShredDEK(ctx, id)) },
	} {
		id = r.createDEK(s, "t").KeyID
		_, err := s.rotateFrom(ctx, kmsapi.ThreadsKEK, r.primary(s, kmsapi.ThreadsKEK))
		r.must(err)
		step, err := s.stepDEKs(ctx, "", deksPerStep)
		r.must(err)
		change()
		if _, err := r.store.Commit(ctx, &step.Batch); !errors.Is(err, store.ErrConflict) || len(step.Batch.Writes) == 0 {
			t.Errorf("%s: %d writes, %v", name, len(step.Batch.Writes), err)
		}
	}
}

// Rotations go on while DEKs are made, used and shut out of the cache.
func TestRotationsUnderTraffic(t *testing.T) {
	r := newRig(t)
	s := r.start(small(8, 1<<31), func(c *Config) { c.CacheEntries = 7; c.Now = time.Now })
	r.createKEK(s, "v", "w")
	ids := r.createDEKs(s, 110)
	var stop atomic.Bool
	var made atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.together(4, func(n int) error {
			for !stop.Load() {
				if err := useAtRandom(s, ids, []string{"v", "w"}); err != nil {
					return err
				}
				if made.Add(1) > 100 {
					continue
				}
				info, err := createDEKOne(s, fmt.Sprint("t", n))
				if err != nil {
					return err
				}
				c, err := encryptOne(s, info.KeyID, "own", "")
				if err != nil {
					return err
				}
				if got, err := decryptOne(s, info.KeyID, c, ""); err != nil || got != "own" {
					return fmt.Errorf("a fresh DEK: %q, %w", got, err)
				}
			}
			return nil
		})
	}()
	before := map[string][]byte{}
	for _, id := range ids {
		before[id] = r.encrypt(s, id, "before", "")
	}
	for round := range 4 {
		r.rotate(s, "v")
		r.rotate(s, kmsapi.ThreadsKEK)
		if err := s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, uint32(round+1)); err != nil {
			t.Errorf("destroy of version %d: %v", round+1, err)
		}
	}
	got, err := s.RotateKEK(ctx, kmsapi.Rotate{All: true})
	r.must(err)
	r.finish(s, got.Job.ID)
	stop.Store(true)
	<-done
	for key := range r.dump() {
		if id, ok := bytes.CutPrefix([]byte(key), []byte("dek:")); ok {
			r.mustLieUnder(6, string(id))
		}
	}
	for _, s := range []*Service{s, r.start()} {
		for id, c := range before {
			r.mustDecrypt(s, id, c, "", "before")
		}
	}
	if made.Load() == 0 {
		t.Error("nothing was made meanwhile")
	}
}
