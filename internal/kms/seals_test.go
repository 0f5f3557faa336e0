package kms

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
)

func small(block, most int64) func(*Config) {
	return func(c *Config) { c.SealBlock, c.MaxSeals = block, most }
}

// wornOut reports whether err is what a DEK answers that may not seal any more.
func wornOut(err error) bool {
	return errors.Is(err, fault.Conflict) && fault.Of(err).Type == "dek_worn_out"
}

func TestADEKRefusesToSealPastItsLimit(t *testing.T) {
	r := newRig(t)
	s := r.start(small(4, 20))
	key := r.createDEK(s, "t").KeyID
	// Of 20 seals, 5 are those of the row, one per block.
	for i := range 15 {
		if _, err := encryptOne(s, key, "x", ""); err != nil {
			t.Fatalf("seal %d: %v", i+1, err)
		}
	}
	for _, s := range []*Service{s, r.start(small(4, 20)), r.start(small(2, 20))} {
		if _, err := encryptOne(s, key, "x", ""); !wornOut(err) {
			t.Errorf("seal 16: %v", err)
		}
	}
	if got := r.record(key).Seals; got != 20 {
		t.Errorf("the row counts %d seals", got)
	}
	s = r.start()
	r.mustDecrypt(s, key, r.encrypt(s, key, "x", ""), "", "x") // the default limit is higher
}

func TestAWornOutDEKStillDecrypts(t *testing.T) {
	r := newRig(t)
	s := r.start(small(2, 2))
	key := r.createDEK(s, "t").KeyID
	c := r.encrypt(s, key, "x", "")
	if _, err := encryptOne(s, key, "x", ""); !wornOut(err) {
		t.Fatal(err)
	}
	r.mustDecrypt(s, key, c, "", "x")
	r.mustDecrypt(r.start(), key, c, "", "x")
}

func TestTheDefaultLimitIsHalfOfTwoToTheThirtyTwo(t *testing.T) {
	r := newRig(t)
	s := r.start()
	raw := make([]byte, 32)
	r.forge(s, "dek-old", raw, func(rec *record) { rec.Seals = 1<<31 - 3 })
	r.encrypt(s, "dek-old", "x", "")
	r.encrypt(s, "dek-old", "x", "") // three were left, and one was the row's
	if _, err := encryptOne(s, "dek-old", "x", ""); !wornOut(err) {
		t.Errorf("past 2^31: %v", err)
	}
	for _, seals := range []int64{1 << 31, 1<<32 + 5, 1<<63 - 1} {
		r.forge(s, "dek-older", raw, func(rec *record) { rec.Seals = seals })
		if _, err := encryptOne(r.start(), "dek-older", "x", ""); !wornOut(err) {
			t.Errorf("at %d: %v", seals, err)
		}
	}
}

func TestACrashWastesSealsAndNeverForgetsThem(t *testing.T) {
	r := newRig(t)
	key := r.createDEK(r.start(small(4, 40)), "t").KeyID
	done := 0
	for {
		s := r.start(small(4, 40)) // and the last one crashed
		if _, err := encryptOne(s, key, "x", ""); wornOut(err) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		done++
	}
	if done != 9 { // 10 blocks, of which the first was the creator's
		t.Errorf("%d seals by processes that crashed after one", done)
	}
}

func TestABatchLargerThanABlockIsOneReservation(t *testing.T) {
	r := newRig(t)
	st := &faultyStore{Store: r.store}
	r.store = st
	s := r.start(small(4, 1000))
	key := r.createDEK(s, "t").KeyID
	before := st.commits
	items := make([]kmsapi.EncryptItem, 100)
	for i := range items {
		items[i].KeyID = key
	}
	out, err := s.Encrypt(ctx, items)
	r.must(err)
	for i, res := range out {
		if res.Err != nil || res.KeyVersion != 1 {
			t.Errorf("item %d: version %d, %v", i, res.KeyVersion, res.Err)
		}
	}
	if st.commits-before != 1 {
		t.Errorf("%d commits", st.commits-before)
	}
}

func TestMostSealsCostNoWriteOfTheStore(t *testing.T) {
	r := newRig(t)
	st := &faultyStore{Store: r.store}
	r.store = st
	s := r.start()
	key := r.createDEK(s, "t").KeyID
	before := st.commits
	for range 4095 {
		r.encrypt(s, key, "", "")
	}
	if st.commits != before {
		t.Errorf("%d commits for the first block", st.commits-before)
	}
	for range 4096 {
		r.encrypt(s, key, "", "")
	}
	if st.commits != before+2 {
		t.Errorf("%d commits for two blocks", st.commits-before)
	}
}

func TestTwoProcessesThatReserveAtOnceAreBothCounted(t *testing.T) {
	r := newRig(t)
	st := &faultyStore{Store: r.store}
	r.store = st
	key := r.createDEK(r.start(small(4, 100)), "t").KeyID
	one, two := r.start(small(4, 100)), r.start(small(4, 100))
	st.failing(func(*store.Batch) (error, bool) { // one has read the row and is about to commit
		st.failing(nil)
		r.encrypt(two, key, "x", "")
		return nil, false
	})
	r.encrypt(one, key, "x", "")
	if got := r.record(key).Seals; got != 12 {
		t.Errorf("the row counts %d seals, want 12 for three blocks", got)
	}
}

// underFire uses a key in many lives of three processes, over a store that fails
// at random. It returns how often it was used.
func (r *rig) underFire(most int64, use func(*Service) error, worn func(error) bool) int64 {
	st := &faultyStore{Store: r.store}
	r.store = st
	st.failing(func(*store.Batch) (error, bool) {
		switch rand.IntN(6) {
		case 0:
			return errors.New("disk"), true
		case 1:
			return errors.New("disk"), false
		}
		return nil, false
	})
	var used atomic.Int64
	r.together(3, func(int) error { // processes
		for range 8 { // lives
			s, err := r.tryStart(small(5, most))
			if err != nil {
				return err
			}
			r.together(4, func(int) error {
				for range 6 {
					switch err := use(s); {
					case err == nil:
						used.Add(1)
					case !worn(err) && !errors.Is(err, fault.Unavailable):
						return err
					}
				}
				return nil
			})
		}
		return nil
	})
	return used.Load()
}

// Whatever the store does, the seals that were made never exceed the limit.
func TestSealsNeverExceedTheLimitUnderCrashesFailuresAndRaces(t *testing.T) {
	const most = 300
	r := newRig(t)
	key := r.createDEK(r.start(small(5, most)), "t").KeyID
	made := r.underFire(most, func(s *Service) error { _, err := encryptOne(s, key, "x", ""); return err }, wornOut)
	if counted := r.record(key).Seals; made == 0 || made > counted || counted > most {
		t.Errorf("%d seals made, %d counted, %d allowed", made, counted, most)
	}
}
