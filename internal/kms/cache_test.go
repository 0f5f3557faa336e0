package kms

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/internal/kmsapi"
)

// spyKey counts the live ones among its kind.
type spyKey struct {
	live  *atomic.Int64
	wiped atomic.Bool
}

func newSpy(live *atomic.Int64) *spyKey {
	live.Add(1)
	return &spyKey{live: live}
}

func (k *spyKey) Wipe() {
	if !k.wiped.Swap(true) {
		k.live.Add(-1)
	}
}

func TestACacheWipesWhatLeavesIt(t *testing.T) {
	var live atomic.Int64
	c := newCache[*spyKey](3)
	for i := range 10 {
		s, err := c.add(fmt.Sprint(i), newSpy(&live), epoch{})
		if err != nil {
			t.Fatal(err)
		}
		c.release(s)
		if s := c.take("0"); s != nil { // 0 is used all the time and stays
			c.release(s)
		} else {
			t.Fatalf("the key used last was evicted at %d", i)
		}
	}
	if live.Load() != 3 || len(c.slots) != 3 || c.recent.Len() != 3 || c.wiped != 7 {
		t.Errorf("%d keys live, %d slots, %d wiped", live.Load(), len(c.slots), c.wiped)
	}
	c.close()
	if live.Load() != 0 || c.wiped != 10 {
		t.Errorf("closed: %d keys live", live.Load())
	}
	if s, err := c.add("x", newSpy(&live), epoch{}); s != nil || err == nil || live.Load() != 0 {
		t.Error("a closed cache takes a key")
	}
}

func TestAKeyInUseIsWipedOnlyWhenLetGo(t *testing.T) {
	var live atomic.Int64
	c := newCache[*spyKey](1)
	first, _ := c.add("a", newSpy(&live), epoch{})
	again := c.take("a")
	second, _ := c.add("b", newSpy(&live), epoch{})
	if c.take("a") != nil || first.key.wiped.Load() {
		t.Fatal("an evicted key in use must be out of reach and usable")
	}
	c.release(first)
	if first.key.wiped.Load() {
		t.Fatal("wiped while another uses it")
	}
	c.close()
	c.release(again)
	if !first.key.wiped.Load() || second.key.wiped.Load() {
		t.Fatal("the last to let go wipes, and nobody else")
	}
	c.release(second)
	if live.Load() != 0 {
		t.Errorf("%d keys live", live.Load())
	}
}

func TestOfTwoLoadedKeysOfOneIDOneIsKept(t *testing.T) {
	var live atomic.Int64
	c := newCache[*spyKey](2)
	first, _ := c.add("a", newSpy(&live), epoch{})
	late := newSpy(&live)
	second, err := c.add("a", late, epoch{})
	if err != nil || second != first || !late.wiped.Load() || first.key.wiped.Load() {
		t.Error("the key that came late must be wiped and the first one given")
	}
}

func TestACallThatRunsKeepsItsKeysThroughEvictionAndClose(t *testing.T) {
	r := newRig(t)
	s := r.start(func(c *Config) { c.CacheEntries = 1 })
	a, b := r.createDEK(s, "t").KeyID, r.createDEK(s, "t").KeyID
	keys := s.hold(ctx, 1, func(int) string { return a }, useEncrypt)
	key := keys.item[0].slot.key.key
	r.encrypt(s, b, "x", "")
	s.Close()
	if res := encrypt(keys.item[0], kmsapi.EncryptItem{KeyID: a}); res.Err != nil {
		t.Errorf("the call failed by an eviction: %v", res.Err)
	}
	keys.release()
	if _, err := key.Seal(nil, nil); err == nil {
		t.Error("the key was not wiped when the call ended")
	}
}

func TestManyCallersOverMoreKeysThanTheCacheHoldsNeverFail(t *testing.T) {
	r := newRig(t)
	s := r.start(func(c *Config) { c.CacheEntries = 5 })
	var keys, keks []string
	for i := range 24 {
		keys = append(keys, r.createDEK(s, "t").KeyID)
		keks = append(keks, fmt.Sprintf("v%d", i))
	}
	r.createKEK(s, keks...)
	rounds := 15
	if testing.Short() {
		rounds = 5
	}
	r.together(32, func(int) error {
		for range rounds {
			if err := useAtRandom(s, keys, keks); err != nil {
				return err
			}
		}
		return nil
	})
	if n, k := len(s.deks.slots), len(s.keks.slots); n > 5 || k > 5 || s.deks.wiped < 100 || s.keks.wiped < 100 {
		t.Errorf("%d DEKs and %d KEKs cached, %d and %d wiped", n, k, s.deks.wiped, s.keks.wiped)
	}
	for _, e := range s.deks.slots {
		if sl := e.Value.(*slot[*dek]); sl.users != 0 {
			t.Errorf("%d users of an idle key", sl.users)
		}
	}
}

// useAtRandom is one caller's round: a batch encrypted, each item decrypted, and
// an envelope sealed and opened.
func useAtRandom(s *Service, keys, keks []string) error {
	batch := make([]kmsapi.EncryptItem, 1+rand.IntN(8))
	for i := range batch {
		batch[i] = kmsapi.EncryptItem{KeyID: keys[rand.IntN(len(keys))], Plaintext: fmt.Append(nil, rand.Int()), AAD: []byte("a")}
	}
	out, err := s.Encrypt(ctx, batch)
	if err != nil {
		return err
	}
	for i, res := range out {
		got, err := decryptOne(s, batch[i].KeyID, res.Ciphertext, "a")
		if err := errors.Join(res.Err, err); err != nil || got != string(batch[i].Plaintext) {
			return fmt.Errorf("item %d comes back as %q: %w", i, got, err)
		}
	}
	kek := keks[rand.IntN(len(keks))]
	e, err := sealOne(s, kek, "x", kek)
	if err != nil {
		return err
	}
	if got, err := openOne(s, e, kek); err != nil || got != "x" {
		return fmt.Errorf("an envelope opens as %q: %w", got, err)
	}
	return nil
}
