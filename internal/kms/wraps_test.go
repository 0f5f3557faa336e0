package kms

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// kekWornOut reports whether err is what a KEK answers that may not wrap any more.
func kekWornOut(err error) bool {
	return errors.Is(err, fault.Conflict) && fault.Of(err).Type == "kek_worn_out"
}

func TestAKEKRefusesToWrapPastItsLimitAndGoesOnOnceRotated(t *testing.T) {
	r := newRig(t)
	s := r.start(small(4, 20))
	r.createKEK(s, "v")
	var e kmsapi.Envelope
	for range 15 { // of 20 wraps, 5 are those of the row, one per block
		e = r.seal(s, "v", "plain", "")
	}
	for _, s := range []*Service{s, r.start(small(4, 20)), r.start(small(2, 20))} {
		if _, err := sealOne(s, "v", "x", ""); !kekWornOut(err) {
			t.Errorf("wrap 16: %v", err)
		}
		r.mustOpen(s, e, "", "plain")
	}
	r.rotate(s, "v")
	out, err := s.Rewrap(ctx, []kmsapi.RewrapItem{{KEKID: "v", KEKVersion: 1, WrappedDEK: e.WrappedDEK}})
	r.must(errors.Join(err, out[0].Err))
	for range 14 {
		e = r.seal(s, "v", "plain", "")
	}
	if _, err := sealOne(s, "v", "x", ""); !kekWornOut(err) || e.KEKVersion != 2 {
		t.Errorf("wrap 16 of version 2: %v", err)
	}
}

func TestThreadsDEKsAndTheirRewrapsAreWrapsToo(t *testing.T) {
	r := newRig(t)
	s := r.start(small(2, 60))
	ids := r.createDEKs(s, 30)
	if _, err := s.CreateDEK(ctx, make([]kmsapi.CreateDEKItem, 30)); !kekWornOut(err) {
		t.Errorf("past the limit: %v", err)
	}
	r.rotate(s, kmsapi.ThreadsKEK)
	r.mustLieUnder(2, ids...)
	keys, err := s.Keys(ctx, kmsapi.KeysQuery{})
	r.must(err)
	for i, v := range keys.KEKs[0].Versions {
		if v.Wraps < 30 || v.Wraps > 33 {
			t.Errorf("version %d counts %d wraps", i+1, v.Wraps)
		}
	}
}

// Whatever the store does, the wraps that were made never exceed the limit.
func TestWrapsNeverExceedTheLimitUnderCrashesFailuresAndRaces(t *testing.T) {
	const most = 300
	r := newRig(t)
	r.createKEK(r.start(), "v")
	made := r.underFire(most, func(s *Service) error { _, err := sealOne(s, "v", "x", ""); return err }, kekWornOut)
	ring, rev, err := r.start().readKEK(ctx, "v")
	r.must(err)
	use, _, err := r.start().use(ctx, ring, rev)
	r.must(err)
	if made == 0 || made > use.Wraps[1] || use.Wraps[1] > most {
		t.Errorf("%d wraps made, %d counted, %d allowed", made, use.Wraps[1], most)
	}
}

func TestTwoProcessesThatReserveWrapsAtOnceAreBothCounted(t *testing.T) {
	r := newRig(t)
	st := &faultyStore{Store: r.store}
	r.store = st
	one, two := r.start(small(4, 100)), r.start(small(4, 100))
	r.createKEK(one, "v")
	st.failing(func(*store.Batch) (error, bool) { // one has read the row and is about to commit
		st.failing(nil)
		r.seal(two, "v", "x", "")
		return nil, false
	})
	r.seal(one, "v", "x", "")
	keys, err := one.Keys(ctx, kmsapi.KeysQuery{After: kmsapi.ThreadsKEK})
	if r.must(err); keys.KEKs[0].Versions[0].Wraps != 8 {
		t.Errorf("%d wraps are counted, want 8 for two blocks", keys.KEKs[0].Versions[0].Wraps)
	}
}

func TestMostWrapsCostNoWriteOfTheStore(t *testing.T) {
	r := newRig(t)
	st := &faultyStore{Store: r.store}
	r.store = st
	s := r.start()
	r.createKEK(s, "v")
	before := st.commits
	for range 4096 + 100 {
		r.seal(s, "v", "", "")
	}
	if n := st.commits - before; n != 2 {
		t.Errorf("%d commits for two blocks", n)
	}
}

func TestACountThatWasEditedOrMovedIsDamage(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v", "w")
	r.seal(s, "v", "x", "")
	r.seal(s, "w", "x", "")
	r.rotate(s, "v")
	key := layout.KEKUse("v")
	good := r.get(key).Value
	body := string(good[60:])
	if want := `{"kek_version":1,"wraps":{"1":4096},"released":0}`; body != want {
		t.Fatalf("the row is %s, want %s", body, want)
	}
	edited := func(old, new string) []byte {
		return append(bytes.Clone(good[:60]), bytes.Replace(good[60:], []byte(old), []byte(new), 1)...)
	}
	for name, row := range map[string][]byte{
		"fewer wraps":   edited("4096", "4095"),
		"released":      edited(`"released":0`, `"released":2`),
		"version 0":     edited(`"kek_version":1`, `"kek_version":0`),
		"version 2":     edited(`"kek_version":1`, `"kek_version":2`),
		"version 9":     edited(`"kek_version":1`, `"kek_version":9`),
		"another KEK's": r.get(layout.KEKUse("w")).Value,
		"cut":           good[:50],
		"no JSON":       good[:61],
	} {
		r.put(key, row)
		s := r.start()
		_, sealErr := sealOne(s, "v", "x", "")
		_, keysErr := s.Keys(ctx, kmsapi.KeysQuery{})
		for i, err := range []error{sealErr, keysErr, s.ReleaseKEK(ctx, "v", 2), s.DestroyKEKVersion(ctx, "v", 1)} {
			if !errors.Is(err, fault.Damaged) {
				t.Errorf("%s, call %d: %v", name, i, err)
			}
		}
	}
	r.put(key, good)
	r.seal(s, "v", "x", "")
	r.must(s.ReleaseKEK(ctx, "v", 2))
	r.must(s.DestroyKEKVersion(ctx, "v", 1))
	r.seal(r.start(), "v", "x", "") // what is counted is sealed by the primary now
}

// getsStore counts reads of one key.
type getsStore struct {
	store.Store
	key  string
	gets atomic.Int64
}

func (g *getsStore) Get(ctx context.Context, key string) (store.Record, error) {
	if key == g.key {
		g.gets.Add(1)
	}
	return g.Store.Get(ctx, key)
}

func TestAVersionThatOnlyAnotherProcessKnowsIsLookedForAndNoMoreThanNeeded(t *testing.T) {
	r := newRig(t)
	gets := &getsStore{Store: r.store, key: layout.KEK("v")}
	r.store = gets
	var clock atomic.Int64
	late := r.start(func(c *Config) { c.Now = func() time.Time { return day.Add(time.Duration(clock.Load())) } })
	s := r.start()
	r.createKEK(s, "v")
	r.mustOpen(late, r.seal(s, "v", "one", ""), "", "one")
	r.rotate(s, "v")
	two := r.seal(s, "v", "two", "")
	r.together(8, func(int) error {
		got, err := openOne(late, two, "")
		if err == nil && got != "two" {
			err = errors.New(got)
		}
		return err
	})
	if e := r.seal(late, "v", "x", ""); e.KEKVersion != 2 {
		t.Errorf("it seals under version %d", e.KEKVersion)
	}
	for range 3 {
		before := gets.gets.Load()
		for range 500 {
			wrong := two
			wrong.KEKVersion = 3 + rand.Uint32N(1<<30)
			r.mustNotOpen(late, wrong, "", fault.Unopenable)
		}
		if n := gets.gets.Load() - before; n > 1 {
			t.Errorf("%d reads of the store for versions that never were", n)
		}
		clock.Add(int64(lookPause))
	}
	r.rotate(s, "v")
	three := r.seal(s, "v", "three", "")
	r.mustOpen(late, three, "", "three")
}

func TestAProcessThatMissedARotationLearnsOfItAtItsNextBlock(t *testing.T) {
	r := newRig(t)
	late, s := r.start(small(4, 100)), r.start()
	r.createKEK(s, "v")
	r.seal(late, "v", "x", "")
	r.rotate(s, "v")
	for i := range 6 {
		if e := r.seal(late, "v", "x", ""); e.KEKVersion == 1 && i >= 3 {
			t.Errorf("seal %d is under version 1", i)
		}
	}
}
