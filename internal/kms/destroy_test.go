package kms

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// isInUse reports whether err is what a version answers that may not be destroyed.
func isInUse(err error) bool {
	return errors.Is(err, fault.Conflict) && fault.Of(err).Type == "kek_version_in_use"
}

func TestAVersionOfAVaultsKEKIsDestroyedOnlyOnceReleased(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	old := r.seal(s, "v", "plain", "aad")
	for below, code := range map[uint32]fault.Code{0: fault.Invalid, 1: "", 2: fault.Invalid, 1<<32 - 1: fault.Invalid} {
		if err := s.ReleaseKEK(ctx, "v", below); code == "" && err != nil || code != "" && !errors.Is(err, code) {
			t.Errorf("release below %d of a KEK with one version: %v", below, err)
		}
	}
	if err := s.DestroyKEKVersion(ctx, "v", 1); !isInUse(err) {
		t.Errorf("the primary: %v", err)
	}
	r.rotate(s, "v")
	r.rotate(s, "v")
	for _, version := range []uint32{0, 4, 1<<32 - 1} {
		if err := s.DestroyKEKVersion(ctx, "v", version); !errors.Is(err, fault.NotFound) {
			t.Errorf("version %d: %v", version, err)
		}
	}
	if err := s.DestroyKEKVersion(ctx, "w", 1); !errors.Is(err, fault.NotFound) {
		t.Errorf("no such KEK: %v", err)
	}
	r.must(s.ReleaseKEK(ctx, "v", 2))
	r.must(s.ReleaseKEK(ctx, "v", 1)) // takes nothing back
	for version, refused := range map[uint32]bool{2: true, 3: true} {
		if err := s.DestroyKEKVersion(ctx, "v", version); isInUse(err) != refused {
			t.Errorf("version %d: %v", version, err)
		}
	}
	other := r.start()
	r.mustOpen(other, old, "aad", "plain")
	out, err := s.Rewrap(ctx, []kmsapi.RewrapItem{{KEKID: "v", KEKVersion: 1, WrappedDEK: old.WrappedDEK, AAD: []byte("aad")}})
	r.must(errors.Join(err, out[0].Err))
	moved := old
	moved.WrappedDEK, moved.KEKVersion = out[0].WrappedDEK, out[0].KEKVersion

	r.must(s.DestroyKEKVersion(ctx, "v", 1))
	r.must(s.DestroyKEKVersion(ctx, "v", 1)) // may be repeated
	for _, s := range []*Service{s, r.start()} {
		r.mustNotOpen(s, old, "aad", fault.Unopenable)
		r.mustOpen(s, moved, "aad", "plain")
		r.mustOpen(s, r.seal(s, "v", "x", ""), "", "x")
	}
	keys, err := s.Keys(ctx, kmsapi.KeysQuery{After: kmsapi.ThreadsKEK})
	r.must(err)
	var states []string
	for _, v := range keys.KEKs[0].Versions {
		states = append(states, fmt.Sprint(v.State, " ", v.Released))
	}
	if diff := cmp.Diff([]string{"destroyed true", "decrypt-only false", "enabled false"}, states); diff != "" {
		t.Error(diff)
	}
}

func TestAVersionOfTheThreadsKEKIsDestroyedOnlyWhenNoDEKLiesUnderIt(t *testing.T) {
	r := newRig(t)
	s := r.start()
	ids := r.createDEKs(s, 300)
	_, err := s.rotateFrom(ctx, kmsapi.ThreadsKEK, 1) // without its job
	r.must(err)
	r.must(s.ReleaseKEK(ctx, kmsapi.ThreadsKEK, 2)) // says nothing of the threads' DEKs
	for left := len(ids); left > 0; {
		err := s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 1)
		if !isInUse(err) || !strings.Contains(err.Error(), fmt.Sprintf(" %d DEKs of threads", left)) {
			t.Fatalf("%d are left: %v", left, err)
		}
		n := min(left, 199)
		items := make([]kmsapi.RewrapItem, n)
		for i := range items {
			items[i].KeyID = ids[left-1-i]
		}
		_, err = s.Rewrap(ctx, items)
		r.must(err)
		left -= n
	}
	bad := r.get(layout.DEK(ids[7]))
	for name, row := range map[string][]byte{"cut": bad.Value[:40], "of another": r.get(layout.DEK(ids[8])).Value} {
		r.put(bad.Key, row)
		if err := s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 1); !isInUse(err) || !strings.Contains(err.Error(), ids[7]) {
			t.Errorf("with a row that is %s: %v", name, err)
		}
	}
	r.must(s.ShredDEK(ctx, ids[7]))
	r.must(s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 1))
	for _, id := range ids[:5] {
		r.mustDecrypt(s, id, r.encrypt(r.start(), id, "x", ""), "", "x")
	}
}

func TestWhatIsCountedOfAKEKOutlivesTheVersionThatSealedIt(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.must(s.ShredDEK(ctx, r.createDEK(s, "t").KeyID))
	r.rotate(s, kmsapi.ThreadsKEK)
	r.must(s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 1))
	for _, s := range []*Service{s, r.start()} {
		if info := r.createDEK(s, "t"); info.KEKVersion != 2 {
			t.Errorf("version %d", info.KEKVersion)
		}
	}
	keys, err := s.Keys(ctx, kmsapi.KeysQuery{})
	if r.must(err); keys.KEKs[0].Versions[0].Wraps != 4096 {
		t.Errorf("%+v", keys.KEKs[0].Versions[0])
	}
}

// awayRoot is a root that refuses to take anything away, for so many times, and
// knows what it was asked to.
type awayRoot struct {
	keyring.Root
	refuse int
	asked  []string
}

func (a *awayRoot) Kind() string { return "pkcs11" }

func (a *awayRoot) DestroyKEK(_ context.Context, name keyring.Name, stored []byte) error {
	a.asked = append(a.asked, fmt.Sprint(name.KEKID, " ", name.Version, " ", len(stored) > 0))
	if a.refuse--; a.refuse >= 0 {
		return errors.New("token away")
	}
	return nil
}

func TestTheRootsPartOfADestructionCanBeRepeated(t *testing.T) {
	r := newRig(t)
	away := &awayRoot{Root: r.root, refuse: 2}
	r.root = away
	s := r.start()
	r.createKEK(s, "v")
	old := r.seal(s, "v", "x", "")
	r.rotate(s, "v")
	r.must(s.ReleaseKEK(ctx, "v", 2))
	for range 2 {
		if err := s.DestroyKEKVersion(ctx, "v", 1); !errors.Is(err, fault.Unavailable) {
			t.Errorf("the token is away: %v", err)
		}
		r.mustNotOpen(s, old, "", fault.Unopenable)
		s = r.start()
	}
	r.must(s.DestroyKEKVersion(ctx, "v", 1))
	if diff := cmp.Diff([]string{"v 1 true", "v 1 true", "v 1 true"}, away.asked); diff != "" {
		t.Error(diff)
	}
}

func TestAKEKThatLostARaceIsTakenOutOfTheRoot(t *testing.T) {
	r := newRig(t)
	away := &awayRoot{Root: r.root}
	st := &faultyStore{Store: r.store}
	r.root, r.store = away, st
	s, other := r.start(), r.start()
	race := func(f func()) {
		st.failing(func(*batch) (error, bool) { st.failing(nil); f(); return nil, false })
	}
	race(func() { r.createKEK(other, "v") })
	r.createKEK(s, "v")
	race(func() { r.rotate(other, "v") })
	r.rotate(s, "v")
	if diff := cmp.Diff([]string{"v 1 true", "v 2 true"}, away.asked); diff != "" {
		t.Error(diff)
	}
	r.mustOpen(s, r.seal(s, "v", "x", ""), "", "x")
}

func TestAShreddedDEKIsGoneForGood(t *testing.T) {
	r := newRig(t)
	s := r.start(small(2, 100))
	key, other := r.createDEK(s, "t").KeyID, r.createDEK(s, "t").KeyID
	c, kept := r.encrypt(s, key, "x", ""), r.encrypt(s, other, "x", "")
	using := s.deks.take(key)
	r.must(s.ShredDEK(ctx, key))
	for _, s := range []*Service{s, r.start()} {
		r.mustNotDecrypt(s, key, c, "", fault.NotFound)
		if _, err := encryptOne(s, key, "x", ""); !errors.Is(err, fault.NotFound) {
			t.Errorf("Encrypt: %v", err)
		}
		if _, err := s.GetWrapped(ctx, key); !errors.Is(err, fault.NotFound) {
			t.Errorf("GetWrapped: %v", err)
		}
		out, err := s.Rewrap(ctx, []kmsapi.RewrapItem{{KeyID: key}})
		if r.must(err); !errors.Is(out[0].Err, fault.NotFound) {
			t.Errorf("Rewrap: %v", out[0].Err)
		}
		if err := s.ShredDEK(ctx, key); !errors.Is(err, fault.NotFound) {
			t.Errorf("again: %v", err)
		}
		r.mustDecrypt(s, other, kept, "", "x")
	}
	if err := s.ShredDEK(ctx, "../x"); !errors.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if err := s.takeSeals(ctx, using.key, 5); !errors.Is(err, fault.NotFound) { // a call that was running brings nothing back
		t.Errorf("a reservation: %v", err)
	}
	s.deks.release(using)
	if _, err := using.key.key.Seal(nil, nil); err == nil {
		t.Error("the key was not wiped when its last user let go")
	}
	for row := range r.dump() {
		if strings.Contains(row, key) {
			t.Errorf("the store has %s", row)
		}
	}
}

// A load that had read the row before it was shredded must not bring the key
// back into the cache, nor a keyring from before a rotation.
func TestALoadThatBeganBeforeADropDoesNotStay(t *testing.T) {
	r := newRig(t)
	s := r.start()
	key := r.createDEK(s, "t").KeyID
	s = r.start()
	epoch := s.deks.epoch()
	late, _, err := s.load(ctx, key)
	r.must(err)
	r.must(s.ShredDEK(ctx, key))
	slot, err := s.deks.add(key, late, epoch)
	r.must(err)
	s.deks.release(slot)
	if s.deks.take(key) != nil {
		t.Error("a shredded DEK is in the cache")
	}
	if _, err := late.key.Seal(nil, nil); err == nil {
		t.Error("it was not wiped")
	}
}

// readingStore calls then once, after it has read key.
type readingStore struct {
	store.Store
	key  string
	then func()
}

func (s *readingStore) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := s.Store.Get(ctx, key)
	if key == s.key {
		s.key = ""
		s.then()
	}
	return rec, err
}

func TestADEKThatIsRewrappedAndItsOldVersionDestroyedWhileItIsLoadedDecrypts(t *testing.T) {
	r := newRig(t)
	reading := &readingStore{Store: r.store}
	s := r.start(func(c *Config) { c.Store = reading })
	key := r.createDEK(s, "t").KeyID
	c := r.encrypt(s, key, "x", "")
	s.deks.drop(key)
	reading.key, reading.then = layout.DEK(key), func() {
		r.rotate(s, kmsapi.ThreadsKEK)
		r.must(s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 1))
	}
	r.mustDecrypt(s, key, c, "", "x")
}
