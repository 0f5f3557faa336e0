package kms

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
	"go.uber.org/goleak"
)

func newKey(t testing.TB, raw []byte) *aead.Key {
	t.Helper()
	key, err := aead.NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAFreshStoreGetsTheThreadsKEKOnce(t *testing.T) {
	r := newRig(t)
	r.start().Close()
	before := r.dump()
	if _, ok := before[layout.KEK(kmsapi.ThreadsKEK)]; !ok || len(before) != 1 {
		t.Fatalf("%d records", len(before))
	}
	r.start()
	if diff := cmp.Diff(before, r.dump()); diff != "" {
		t.Errorf("the second start changes the store: %s", diff)
	}
}

func TestAWrongRootKeyIsRefusedAndChangesNothing(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	r.createDEK(s, "t")
	before := r.dump()
	wrong, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	r.must(err)
	got, err := r.tryStart(func(c *Config) { c.Root = wrong })
	if got != nil || !errors.Is(err, fault.Damaged) || !strings.Contains(err.Error(), "use the root key that this store was made with") {
		t.Errorf("New: %v, %v", got, err)
	}
	if diff := cmp.Diff(before, r.dump()); diff != "" {
		t.Errorf("the store changed: %s", diff)
	}
}

func TestAStoreThatLostTheThreadsKEKIsNotGivenANewOne(t *testing.T) {
	for _, keep := range []string{"kek:", "dek:"} {
		r := newRig(t)
		s := r.start()
		r.createKEK(s, "v")
		r.createDEK(s, "t")
		var b store.Batch
		b.Delete(layout.KEK(kmsapi.ThreadsKEK))
		for key := range r.dump() {
			if !strings.HasPrefix(key, keep) {
				b.Delete(key)
			}
		}
		_, err := r.store.Commit(ctx, &b)
		r.must(err)
		before := r.dump()
		if got, err := r.tryStart(); got != nil || !errors.Is(err, fault.Damaged) {
			t.Errorf("New on a store with %s alone: %v", keep, err)
		}
		if diff := cmp.Diff(before, r.dump()); diff != "" {
			t.Errorf("the store changed: %s", diff)
		}
	}
}

func TestAConfigurationOutOfBoundsIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no cache":                  func(c *Config) { c.CacheEntries = -1 },
		"a block for rows alone":    func(c *Config) { c.SealBlock = 1 },
		"more seals than may be":    func(c *Config) { c.MaxSeals = 1<<31 + 1 },
		"fewer seals than a block":  func(c *Config) { c.MaxSeals = 4095 },
		"a number of seals below 0": func(c *Config) { c.MaxSeals = -5 },
	} {
		r := newRig(t)
		if s, err := r.tryStart(change); s != nil || !errors.Is(err, fault.Invalid) || len(r.dump()) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEverythingOpensAfterARestart(t *testing.T) {
	dir := t.TempDir()
	open := func() store.Store {
		st, err := pebblestore.Open(dir, pebblestore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	r := newRig(t)
	r.store = open()
	s := r.start()
	r.createKEK(s, "vault-1")
	dek := r.createDEK(s, "t1")
	ciphertext := r.encrypt(s, dek.KeyID, "message", "aad")
	envelope := r.seal(s, "vault-1", "secret", "aad")
	s.Close()
	r.must(r.store.Close())

	r.store = open()
	root, err := keyring.OpenFileRoot(r.rootPath)
	r.must(err)
	r.root = root
	s = r.start()
	r.mustDecrypt(s, dek.KeyID, ciphertext, "aad", "message")
	r.mustOpen(s, envelope, "aad", "secret")
	r.mustDecrypt(s, dek.KeyID, r.encrypt(s, dek.KeyID, "again", ""), "", "again")
	wrapped, err := s.GetWrapped(ctx, dek.KeyID)
	if diff := cmp.Diff(dek.WrappedDEK, wrapped); diff != "" || err != nil {
		t.Errorf("GetWrapped: %v, %s", err, diff)
	}
	s.Close()
	r.must(r.store.Close())
}

func TestAKEKIsMadeOncePerID(t *testing.T) {
	r := newRig(t)
	s := r.start()
	longest := strings.Repeat("a", 128)
	ids := []string{"vault-1", "A_b.c-9", longest, "vault-1", kmsapi.ThreadsKEK, "."}
	infos := r.createKEK(s, ids...)
	for i, info := range infos {
		if info != (kmsapi.KEKInfo{KEKID: ids[i], Version: 1}) {
			t.Errorf("%d: %+v", i, info)
		}
	}
	before := r.dump()
	if diff := cmp.Diff(infos, r.createKEK(r.start(), ids...)); diff != "" {
		t.Errorf("asked again: %s", diff)
	}
	if diff := cmp.Diff(before, r.dump()); diff != "" || len(before) != 5 {
		t.Errorf("asking again changes the store of %d records: %s", len(before), diff)
	}
	if infos := r.createKEK(s); len(infos) != 0 {
		t.Errorf("of none: %v", infos)
	}
}

func TestABadKEKIDMakesNothing(t *testing.T) {
	r := newRig(t)
	s := r.start()
	before := r.dump()
	for _, id := range []string{"", strings.Repeat("a", 129), "a:b", "a/b", "a b", "ü", "a\x00", "a\n", "\xff"} {
		if _, err := s.CreateKEK(ctx, []string{"good", id}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", id, err)
		}
		if _, err := s.kek(ctx, id); !errors.Is(err, fault.NotFound) {
			t.Errorf("use of %q: %v", id, err)
		}
	}
	if diff := cmp.Diff(before, r.dump()); diff != "" {
		t.Error(diff)
	}
}

func TestProcessesThatRaceForAKEKGetTheSame(t *testing.T) {
	r := newRig(t)
	for round := range 20 {
		ids := []string{fmt.Sprintf("a%d", round), fmt.Sprintf("b%d", round)}
		services := []*Service{r.start(), r.start(), r.start(), r.start()}
		envelopes := make([]kmsapi.Envelope, len(services))
		r.together(len(services), func(i int) (err error) {
			if _, err := services[i].CreateKEK(ctx, ids); err != nil {
				return err
			}
			envelopes[i], err = sealOne(services[i], ids[i%2], "x", "")
			return err
		})
		for _, s := range append(services, r.start()) {
			for _, e := range envelopes {
				r.mustOpen(s, e, "", "x")
			}
		}
	}
}

func TestFirstStartsMayRace(t *testing.T) {
	for range 20 {
		r := newRig(t)
		services := make([]*Service, 4)
		keys := make([]kmsapi.DEKInfo, 4)
		r.together(len(services), func(i int) (err error) {
			if services[i], err = r.tryStart(); err == nil {
				keys[i], err = createDEKOne(services[i], "t")
			}
			return err
		})
		for _, s := range services {
			for j, k := range keys {
				r.mustDecrypt(s, k.KeyID, r.encrypt(services[j], k.KeyID, "x", ""), "", "x")
			}
		}
	}
}

func TestBatchesAreBounded(t *testing.T) {
	s := newRig(t).start()
	n := kmsapi.MaxBatch + 1
	calls := map[string]func(n int) (int, error){
		"CreateKEK": func(n int) (int, error) { r, err := s.CreateKEK(ctx, make([]string, n)); return len(r), err },
		"Seal":      func(n int) (int, error) { r, err := s.Seal(ctx, make([]kmsapi.SealItem, n)); return len(r), err },
		"Open":      func(n int) (int, error) { r, err := s.Open(ctx, make([]kmsapi.OpenItem, n)); return len(r), err },
		"CreateDEK": func(n int) (int, error) {
			r, err := s.CreateDEK(ctx, make([]kmsapi.CreateDEKItem, n))
			return len(r), err
		},
		"Encrypt": func(n int) (int, error) { r, err := s.Encrypt(ctx, make([]kmsapi.EncryptItem, n)); return len(r), err },
		"Decrypt": func(n int) (int, error) { r, err := s.Decrypt(ctx, make([]kmsapi.DecryptItem, n)); return len(r), err },
	}
	for name, call := range calls {
		if got, err := call(n); got != 0 || !errors.Is(err, fault.TooLarge) {
			t.Errorf("%s of %d: %d results, %v", name, n, got, err)
		}
		if got, err := call(0); got != 0 || err != nil {
			t.Errorf("%s of none: %d results, %v", name, got, err)
		}
		if got, err := call(n - 1); name != "CreateKEK" && (got != n-1 || err != nil) {
			t.Errorf("%s of %d: %d results, %v", name, n-1, got, err)
		}
	}
}

func TestAnItemFailsAloneInItsPlace(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	key := r.createDEK(s, "t").KeyID
	big := make([]byte, MaxPlaintext+1)
	codes := []fault.Code{"", fault.NotFound, fault.TooLarge, fault.TooLarge, ""}

	sealed, err := s.Seal(ctx, []kmsapi.SealItem{{KEKID: "v"}, {KEKID: "w"}, {KEKID: "v", Plaintext: big}, {KEKID: "v", AAD: big[:MaxAAD+1]}, {KEKID: "v", Plaintext: []byte("x")}})
	r.must(err)
	encrypted, err := s.Encrypt(ctx, []kmsapi.EncryptItem{{KeyID: key}, {KeyID: "w"}, {KeyID: key, Plaintext: big}, {KeyID: key, AAD: big[:MaxAAD+1]}, {KeyID: key, Plaintext: []byte("x")}})
	r.must(err)
	for i, code := range codes {
		for what, err := range map[string]error{"Seal": sealed[i].Err, "Encrypt": encrypted[i].Err} {
			if code == "" && err != nil || code != "" && !errors.Is(err, code) {
				t.Errorf("%s item %d: %v; want %s", what, i, err, code)
			}
		}
	}
	opened, err := s.Open(ctx, []kmsapi.OpenItem{{Envelope: sealed[1].Envelope}, {Envelope: sealed[0].Envelope}, {Envelope: sealed[4].Envelope, AAD: []byte("y")}, {Envelope: sealed[4].Envelope}})
	r.must(err)
	decrypted, err := s.Decrypt(ctx, []kmsapi.DecryptItem{{KeyID: "w"}, {KeyID: key, Ciphertext: encrypted[0].Ciphertext}, {KeyID: key, Ciphertext: encrypted[4].Ciphertext, AAD: []byte("y")}, {KeyID: key, Ciphertext: encrypted[4].Ciphertext}})
	r.must(err)
	for i, code := range []fault.Code{fault.NotFound, "", fault.Unopenable, ""} {
		for what, err := range map[string]error{"Open": opened[i].Err, "Decrypt": decrypted[i].Err} {
			if code == "" && err != nil || code != "" && !errors.Is(err, code) {
				t.Errorf("%s item %d: %v; want %s", what, i, err, code)
			}
		}
	}
	if len(opened[1].Plaintext) != 0 || len(decrypted[1].Plaintext) != 0 || string(opened[3].Plaintext) != "x" || string(decrypted[3].Plaintext) != "x" {
		t.Error("plaintexts are not in their places")
	}
	made, err := s.CreateDEK(ctx, []kmsapi.CreateDEKItem{{ThreadID: "t"}, {ThreadID: "a:b"}, {}, {ThreadID: "t"}})
	r.must(err)
	for i, code := range []fault.Code{"", fault.Invalid, fault.Invalid, ""} {
		if err := made[i].Err; code == "" && err != nil || code != "" && !errors.Is(err, code) {
			t.Errorf("CreateDEK item %d: %v; want %s", i, err, code)
		}
	}
	if made[0].DEK.KeyID == made[3].DEK.KeyID {
		t.Error("two DEKs of one thread share a key ID")
	}
}

func TestAClosedServiceAnswersUnavailableAndHoldsNoKey(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	key := r.createDEK(s, "t").KeyID
	e := r.seal(s, "v", "x", "")
	d, ring := s.deks.take(key), s.keks.take("v")
	s.deks.release(d)
	s.keks.release(ring)
	s.Close()
	s.Close()

	if _, err := d.key.key.Seal(nil, nil); err == nil {
		t.Error("a DEK is still usable")
	}
	if _, _, err := ring.key.Wrap(make([]byte, 32), nil); err == nil {
		t.Error("a KEK is still usable")
	}
	_, encErr := encryptOne(s, key, "x", "")
	_, openErr := openOne(s, e, "")
	_, kekErr := s.CreateKEK(ctx, []string{"v"})
	_, dekErr := s.CreateDEK(ctx, []kmsapi.CreateDEKItem{{ThreadID: "t"}})
	for i, err := range []error{encErr, openErr, kekErr, dekErr} {
		if !errors.Is(err, fault.Unavailable) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if len(s.deks.slots)+len(s.keks.slots) != 0 {
		t.Error("a closed cache holds keys")
	}
}

func TestAStoreThatFailsIsUnavailableAndAnswersNoKey(t *testing.T) {
	for _, tookEffect := range []bool{false, true} {
		r := newRig(t)
		flaky := &faultyStore{Store: r.store}
		r.store = flaky
		s := r.start()
		flaky.failing(func(*store.Batch) (error, bool) { return errors.New("disk"), tookEffect })
		if out, err := s.CreateDEK(ctx, []kmsapi.CreateDEKItem{{ThreadID: "t"}}); out != nil || !errors.Is(err, fault.Unavailable) {
			t.Errorf("CreateDEK: %v, %v", out, err)
		}
		if len(s.deks.slots) != 0 {
			t.Error("a DEK that may not be stored is in use")
		}
		if out, err := s.CreateKEK(ctx, []string{"v"}); out != nil || !errors.Is(err, fault.Unavailable) {
			t.Errorf("CreateKEK: %v, %v", out, err)
		}
		flaky.failing(nil)
		r.createKEK(s, "v")
		r.mustOpen(s, r.seal(s, "v", "x", ""), "", "x")
	}
	closed := memstore.New()
	closed.Close()
	r := newRig(t)
	r.store = closed
	if _, err := r.tryStart(); !errors.Is(err, fault.Unavailable) {
		t.Errorf("New on a closed store: %v", err)
	}
}

func TestCloseEndsWhatTheServiceBegan(t *testing.T) {
	old := goleak.IgnoreCurrent() // what the tests that play a crash left
	r := newRig(t)
	s := r.start(audited(&recorder{}))
	r.createDEKs(s, 5)
	_, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: kmsapi.ThreadsKEK})
	r.must(err)
	s.Close()
	goleak.VerifyNone(t, old)
}
