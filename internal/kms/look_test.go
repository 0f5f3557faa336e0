package kms

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// several runs do with two processes on one store, under a clock that stands still
// while anybody has something to do.
func several(t *testing.T, do func(r *rig, here, there *Service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		here, there := r.start(), r.start()
		defer here.Close()
		defer there.Close()
		do(r, here, there)
	})
}

// stale is what is claimed of how old a key in the cache is at most when it is used.
const stale = 1500 * time.Millisecond

func TestWhatOneProcessShredsTheOtherRefuses(t *testing.T) {
	several(t, func(r *rig, here, there *Service) {
		key := r.createDEK(here, "t").KeyID
		ciphertext := r.encrypt(there, key, "x", "")
		r.must(here.ShredDEK(ctx, key))
		time.Sleep(stale)
		r.mustNotDecrypt(there, key, ciphertext, "", fault.NotFound)
		if _, err := encryptOne(there, key, "x", ""); !errors.Is(err, fault.NotFound) {
			t.Errorf("Encrypt under a DEK that the other process shredded: %v", err)
		}
		if there.deks.take(key) != nil {
			t.Error("it is still in memory")
		}
	})
}

func TestWhatOneProcessRotatesAndDestroysTheOtherNeitherUsesNorOpens(t *testing.T) {
	several(t, func(r *rig, here, there *Service) {
		r.createKEK(here, "v")
		old := r.seal(there, "v", "x", "")
		r.mustOpen(there, old, "", "x")
		r.rotate(here, "v")
		time.Sleep(stale)
		if e := r.seal(there, "v", "y", ""); e.KEKVersion != 2 {
			t.Errorf("the other process seals under version %d", e.KEKVersion)
		}
		r.mustOpen(there, old, "", "x")
		r.must(here.ReleaseKEK(ctx, "v", 2))
		r.must(here.DestroyKEKVersion(ctx, "v", 1))
		time.Sleep(stale)
		r.mustNotOpen(there, old, "", fault.Unopenable)
	})
}

// sleepyStore sleeps 10 seconds, once, when somebody reads the row of key, and does
// meanwhile what others do.
type sleepyStore struct {
	store.Store
	key       atomic.Pointer[string]
	meanwhile func()
}

func (z *sleepyStore) Get(ctx context.Context, key string) (store.Record, error) {
	if p := z.key.Load(); p != nil && key == *p && z.key.CompareAndSwap(p, nil) {
		z.meanwhile()
		time.Sleep(10 * time.Second)
	}
	return z.Store.Get(ctx, key)
}

// A process holds one DEK of a call and stops for 10 seconds as it reads the other;
// the first is shredded meanwhile.
func TestAProcessThatSleptInACallAnswersWithNoDEKThatIsGone(t *testing.T) {
	for name, call := range map[string]func(s *Service, hot, cold string, ciphertext []byte) (answer []byte, err error){
		"Encrypt": func(s *Service, hot, cold string, _ []byte) ([]byte, error) {
			out, err := s.Encrypt(ctx, []kmsapi.EncryptItem{{KeyID: hot, Plaintext: []byte("x")}, {KeyID: cold}})
			if err != nil || out[1].Err != nil {
				t.Errorf("Encrypt under the other DEK: %v, %v", err, out)
			}
			return out[0].Ciphertext, out[0].Err
		},
		"Decrypt": func(s *Service, hot, cold string, ciphertext []byte) ([]byte, error) {
			out, err := s.Decrypt(ctx, []kmsapi.DecryptItem{{KeyID: hot, Ciphertext: ciphertext}, {KeyID: cold}})
			if err != nil || !errors.Is(out[1].Err, fault.Unopenable) {
				t.Errorf("Decrypt under the other DEK: %v, %v", err, out)
			}
			return out[0].Plaintext, out[0].Err
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			z := &sleepyStore{Store: r.store}
			here, there := r.start(), r.start(func(c *Config) { c.Store = z })
			defer here.Close()
			defer there.Close()
			hot, cold := r.createDEK(there, "t").KeyID, r.createDEK(here, "u").KeyID
			ciphertext := r.encrypt(there, hot, "x", "")
			z.meanwhile = func() { r.must(here.ShredDEK(ctx, hot)) }
			row := layout.DEK(cold)
			z.key.Store(&row)
			if answer, err := call(there, hot, cold, ciphertext); !errors.Is(err, fault.NotFound) || answer != nil {
				t.Errorf("%s under a DEK that was shredded meanwhile: %q, %v", name, answer, err)
			}
		})
	}
}

// What a process did with a KEK before it fell asleep it does not answer, if the
// KEK was rotated, or the version destroyed, meanwhile.
func TestAProcessThatSleptWithAKEKDoesItsWorkAgain(t *testing.T) {
	several(t, func(r *rig, here, there *Service) {
		r.createKEK(here, "v")
		old := r.seal(there, "v", "x", "")
		k, err := there.kek(ctx, "v")
		r.must(err)
		defer there.keks.release(k)
		if stands, err := there.stands(ctx, k); err != nil || !stands {
			t.Errorf("what was just done does not stand: %v", err)
		}
		r.rotate(here, "v")
		r.must(here.ReleaseKEK(ctx, "v", 2))
		r.must(here.DestroyKEKVersion(ctx, "v", 1))
		time.Sleep(10 * time.Second)
		if stands, err := there.stands(ctx, k); err != nil || stands {
			t.Errorf("what was done before 10 seconds stands: %v, %v", stands, err)
		}
		if e := r.seal(there, "v", "y", ""); e.KEKVersion != 2 {
			t.Errorf("it seals under version %d", e.KEKVersion)
		}
		r.mustNotOpen(there, old, "", fault.Unopenable)
	})
}

// lateStore sleeps 10 seconds after it has read the row of key, for so many times: what
// it read is old when it is answered. The last time it does what others do meanwhile.
type lateStore struct {
	store.Store
	key       string
	times     atomic.Int64
	meanwhile func()
}

func (l *lateStore) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := l.Store.Get(ctx, key)
	if key == l.key && l.times.Load() > 0 {
		if l.times.Add(-1) == 0 {
			l.meanwhile()
		}
		time.Sleep(10 * time.Second)
	}
	return rec, err
}

func TestALookThatIsOldWhenItIsThereIsDoneAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		late := &lateStore{Store: r.store}
		here, there := r.start(), r.start(func(c *Config) { c.Store = late })
		defer here.Close()
		defer there.Close()
		r.createKEK(here, "v")
		one, two := r.createDEK(there, "t").KeyID, r.createDEK(there, "u").KeyID
		first, second := r.encrypt(there, one, "x", ""), r.encrypt(there, two, "y", "")
		e := r.seal(there, "v", "x", "")
		time.Sleep(stale)

		late.key, late.meanwhile = layout.DEK(two), func() { r.must(here.ShredDEK(ctx, one)) }
		late.times.Store(2)
		out, err := there.Decrypt(ctx, []kmsapi.DecryptItem{{KeyID: one, Ciphertext: first}, {KeyID: two, Ciphertext: second}})
		r.must(err)
		if !errors.Is(out[0].Err, fault.NotFound) || out[0].Plaintext != nil || string(out[1].Plaintext) != "y" {
			t.Errorf("of two DEKs the first of which was shredded while the other was looked at: %v", out)
		}

		time.Sleep(stale)
		late.meanwhile = func() { r.must(here.ShredDEK(ctx, two)) }
		late.times.Store(2)
		r.mustNotDecrypt(there, two, second, "", fault.NotFound)

		late.key, late.meanwhile = layout.KEK("v"), func() {
			r.rotate(here, "v")
			r.must(here.ReleaseKEK(ctx, "v", 2))
			r.must(here.DestroyKEKVersion(ctx, "v", 1))
		}
		late.times.Store(2)
		r.mustNotOpen(there, e, "", fault.Unopenable)
	})
}

// A store whose every answer is old says nothing of a key.
func TestAStoreThatIsTooSlowIsSaidToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		late := &lateStore{Store: r.store, meanwhile: func() {}}
		s := r.start(func(c *Config) { c.Store = late })
		defer s.Close()
		r.createKEK(s, "v")
		key, f := r.createDEK(s, "t").KeyID, r.createCMEK(s, agent)
		e, ciphertext := r.seal(s, "v", "x", ""), r.encrypt(s, key, "x", "")
		value, err := sealCMEKOne(s, agent, f, "p", 2, "x")
		r.must(err)
		time.Sleep(stale)
		for what, call := range map[string]func() error{
			layout.DEK(key):   func() error { _, err := decryptOne(s, key, ciphertext, ""); return err },
			layout.KEK("v"):   func() error { _, err := openOne(s, e, ""); return err },
			layout.CMEKKey(f): func() error { _, err := openCMEKOne(s, agent, f, "p", value); return err },
		} {
			late.key = what
			late.times.Store(10)
			if err := call(); !errors.Is(err, fault.Unavailable) {
				t.Errorf("%s, which is looked at too slowly: %v", what, err)
			}
			late.times.Store(0)
			if err := call(); err != nil {
				t.Errorf("%s, which is looked at again: %v", what, err)
			}
		}
	})
}

// The audit takes 10 seconds to sync, and a customer's key is taken from its caller,
// or deleted, meanwhile.
func TestACustomersKeyThatIsRevokedBeforeTheAnswerAnswersNothing(t *testing.T) {
	for name, meanwhile := range map[string]func(s *Service, f string) error{
		"revoke": func(s *Service, f string) error { return s.RevokeCMEKKey(ctx, f, agent) },
		"delete": func(s *Service, f string) error {
			return errors.Join(s.RevokeCMEKKey(ctx, f, agent), s.DeleteCMEKKey(ctx, f))
		},
	} {
		for what, call := range map[string]func(s *Service, f, value string) (string, error){
			"open": func(s *Service, f, value string) (string, error) { return openCMEKOne(s, agent, f, "p", value) },
			"seal": func(s *Service, f, _ string) (string, error) { return sealCMEKOne(s, agent, f, "p", 2, "x") },
		} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				var before atomic.Pointer[func()]
				a := &recorder{before: func(audit.Event) {
					if do := before.Swap(nil); do != nil {
						(*do)()
						time.Sleep(10 * time.Second)
					}
				}}
				here, there := r.start(), r.start(audited(a))
				defer here.Close()
				defer there.Close()
				f := r.createCMEK(here, agent)
				value, err := sealCMEKOne(there, agent, f, "p", 2, "x")
				r.must(err)
				do := func() { r.must(meanwhile(here, f)) }
				before.Store(&do)
				if answer, err := call(there, f, value); answer != "" || !errors.Is(err, fault.Forbidden) {
					t.Errorf("%s, and a %s before the answer: %q, %v", what, name, answer, err)
				}
			})
		}
	}
}

// A KEK whose row did not change stands, however long the sleep was; where the
// store does not answer, nothing does.
func TestAKeyWhoseRowCannotBeLookedAtIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		away := &awayStore{Store: r.store}
		s := r.start(func(c *Config) { c.Store = away })
		defer s.Close()
		r.createKEK(s, "v")
		key := r.createDEK(s, "t").KeyID
		e, ciphertext := r.seal(s, "v", "x", ""), r.encrypt(s, key, "x", "")
		time.Sleep(time.Hour)
		r.mustOpen(s, e, "", "x")
		r.mustDecrypt(s, key, ciphertext, "", "x")
		away.is.Store(true)
		r.mustOpen(s, e, "", "x")
		r.mustDecrypt(s, key, ciphertext, "", "x")
		time.Sleep(stale)
		r.mustNotOpen(s, e, "", fault.Unavailable)
		r.mustNotDecrypt(s, key, ciphertext, "", fault.Unavailable)
		away.is.Store(false)
		r.mustOpen(s, e, "", "x")
		r.mustDecrypt(s, key, ciphertext, "", "x")
	})
}

type awayStore struct {
	store.Store
	is atomic.Bool
}

func (a *awayStore) Get(ctx context.Context, key string) (store.Record, error) {
	if a.is.Load() {
		return store.Record{}, errors.New("the store is away")
	}
	return a.Store.Get(ctx, key)
}

// A key that is used all the time is looked at once a second, not at each use.
func TestALookIsDoneOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		counted := &countedStore{Store: r.store}
		s := r.start(func(c *Config) { c.Store = counted })
		defer s.Close()
		r.createKEK(s, "v")
		key := r.createDEK(s, "t").KeyID
		r.seal(s, "v", "x", "")
		before := counted.gets.Load()
		for range 100 {
			r.seal(s, "v", "x", "")
			r.encrypt(s, key, "x", "")
			time.Sleep(lookAge / 10)
		}
		if n := counted.gets.Load() - before; n > 2*11 {
			t.Errorf("10 seconds cost %d reads of the store", n)
		}
	})
}

type countedStore struct {
	store.Store
	gets atomic.Int64
}

func (c *countedStore) Get(ctx context.Context, key string) (store.Record, error) {
	c.gets.Add(1)
	return c.Store.Get(ctx, key)
}

// Each process reserves blocks of its own, and all together no more than the limit.
func TestTheLimitOfUsesHoldsAcrossProcesses(t *testing.T) {
	const most, processes = 300, 3
	r := newRig(t)
	limit := func(c *Config) { c.MaxSeals, c.SealBlock = most, 16 }
	first := r.start(limit)
	defer first.Close()
	r.createKEK(first, "v")
	key := r.createDEK(first, "t").KeyID
	var seals, wraps atomic.Int64
	r.together(processes, func(int) error {
		s := r.start(limit)
		defer s.Close()
		for range most {
			_, err := encryptOne(s, key, "x", "")
			if err == nil {
				seals.Add(1)
			} else if fault.Of(err).Type != "dek_worn_out" {
				return fmt.Errorf("Encrypt: %w", err)
			}
			_, err = sealOne(s, "v", "x", "")
			if err == nil {
				wraps.Add(1)
			} else if fault.Of(err).Type != "kek_worn_out" {
				return fmt.Errorf("Seal: %w", err)
			}
		}
		return nil
	})
	for what, n := range map[string]int64{"seals": seals.Load(), "wraps": wraps.Load()} {
		if n > most || n < most-processes*32 {
			t.Errorf("%d %s by %d processes, of %d", n, what, processes, most)
		}
	}
}

// Two processes rotate and make DEKs together; then every DEK is under the last primary.
func TestARotationFindsEveryDEKThatAnyProcessMakes(t *testing.T) {
	r := newRig(t)
	here, there := r.start(), r.start()
	defer here.Close()
	defer there.Close()
	keys := make([]string, 60)
	var jobs sync.Map
	r.together(3, func(i int) error {
		if i == 2 {
			for range 4 {
				got, err := here.RotateKEK(ctx, kmsapi.Rotate{KEKID: kmsapi.ThreadsKEK})
				if err != nil {
					return err
				}
				jobs.Store(got.Job.ID, true)
			}
			return nil
		}
		for n := i; n < len(keys); n += 2 {
			dek, err := createDEKOne([]*Service{here, there}[i], "t")
			if err != nil {
				return err
			}
			keys[n] = dek.KeyID
		}
		return nil
	})
	jobs.Range(func(id, _ any) bool { r.finish(here, id.(string)); return true })
	for _, key := range keys {
		if v := r.record(key).KEKVersion; v != 5 {
			t.Errorf("%s lies under version %d", key, v)
		}
		r.mustDecrypt(there, key, r.encrypt(here, key, "x", ""), "", "x")
	}
	r.must(there.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 4))
}
