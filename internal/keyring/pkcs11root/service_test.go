//go:build cgo && !windows

package pkcs11root

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/keyring/roottest"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

func TestATokenKeepsTheContract(t *testing.T) {
	h := newHSM(t)
	roottest.Run(t, "pkcs11", func(t testing.TB) keyring.Root {
		r, err := Open(ctx, h.config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Wipe)
		return r
	})
}

func (h *hsm) service(st store.Store, r keyring.Root) *kms.Service {
	h.Helper()
	s, err := kms.New(ctx, kms.Config{Store: st, Root: r})
	h.must(err)
	h.Cleanup(s.Close)
	return s
}

func seal(s *kms.Service, kekID, plaintext string) (kmsapi.Envelope, error) {
	out, err := s.Seal(ctx, []kmsapi.SealItem{{KEKID: kekID, Plaintext: []byte(plaintext), AAD: aad}})
	if err != nil {
		return kmsapi.Envelope{}, err
	}
	return out[0].Envelope, out[0].Err
}

func opens(s *kms.Service, e kmsapi.Envelope) (string, error) {
	out, err := s.Open(ctx, []kmsapi.OpenItem{{Envelope: e, AAD: aad}})
	if err != nil {
		return "", err
	}
	return string(out[0].Plaintext), out[0].Err
}

func TestTheKMSWorksOnATokenAndGoesOnAfterAStart(t *testing.T) {
	h, st := newHSM(t), memstore.New()
	r := h.open()
	s := h.service(st, r)
	for _, id := range []string{"v1", "v2"} {
		_, err := s.CreateKEK(ctx, []string{id})
		h.must(err)
	}
	keys, err := s.CreateDEK(ctx, []kmsapi.CreateDEKItem{{ThreadID: "t"}})
	h.must(err)
	h.must(keys[0].Err)
	keyID := keys[0].DEK.KeyID
	sealed, err := s.Encrypt(ctx, []kmsapi.EncryptItem{{KeyID: keyID, Plaintext: []byte("a message"), AAD: aad}})
	h.must(err)
	h.must(sealed[0].Err)
	e, err := seal(s, "v1", "a secret")
	h.must(err)

	s.Close()
	r.Wipe() // the last one of the process: the library starts anew
	r = h.open()
	s = h.service(st, r)
	if got, err := opens(s, e); err != nil || got != "a secret" {
		t.Errorf("an envelope of before: %q, %v", got, err)
	}
	got, err := s.Decrypt(ctx, []kmsapi.DecryptItem{{KeyID: keyID, Ciphertext: sealed[0].Ciphertext, AAD: aad}})
	if h.must(err); got[0].Err != nil || string(got[0].Plaintext) != "a message" {
		t.Errorf("a message of before: %q, %v", got[0].Plaintext, got[0].Err)
	}
	e.KEKID = "v2"
	if _, err := opens(s, e); !errors.Is(err, fault.Unopenable) {
		t.Errorf("under another KEK: %v", err)
	}
}

func TestAKEKOnATokenIsRotatedAndItsOldVersionDestroyed(t *testing.T) {
	h, st := newHSM(t), memstore.New()
	r := h.open()
	s := h.service(st, r)
	_, err := s.CreateKEK(ctx, []string{"v"})
	h.must(err)
	e, err := seal(s, "v", "a secret")
	h.must(err)
	rotated, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: "v"})
	if h.must(err); rotated.KEKVersion != 2 {
		t.Fatalf("%+v", rotated)
	}
	moved, err := s.Rewrap(ctx, []kmsapi.RewrapItem{{KEKID: "v", KEKVersion: e.KEKVersion, WrappedDEK: e.WrappedDEK, AAD: aad}})
	h.must(err)
	h.must(moved[0].Err)
	before := h.objects(r)
	h.must(s.ReleaseKEK(ctx, "v", 2))
	h.must(s.DestroyKEKVersion(ctx, "v", 1))
	if n := h.objects(r); n != before-1 {
		t.Errorf("%d objects on the token, %d before", n, before)
	}
	s.Close()
	r.Wipe()
	s = h.service(st, h.open())
	if _, err := opens(s, e); !errors.Is(err, fault.Unopenable) {
		t.Errorf("under the destroyed version: %v", err)
	}
	e.WrappedDEK, e.KEKVersion = moved[0].WrappedDEK, moved[0].KEKVersion
	if got, err := opens(s, e); err != nil || got != "a secret" {
		t.Errorf("after the rewrap: %q, %v", got, err)
	}
}

// A token cannot be restored with the store: what was destroyed on it stays so.
func TestAStoreFromBeforeADestructionGoesOnWithoutTheLostVersion(t *testing.T) {
	h, st := newHSM(t), memstore.New()
	r := h.open()
	s := h.service(st, r)
	_, err := s.CreateKEK(ctx, []string{"v"})
	h.must(err)
	old, err := seal(s, "v", "an old secret")
	h.must(err)
	_, err = s.RotateKEK(ctx, kmsapi.Rotate{KEKID: "v"})
	h.must(err)
	young, err := seal(s, "v", "a young secret")
	h.must(err)
	var backup store.Batch
	for rec, err := range store.All(ctx, st, store.Prefix("kek")) {
		h.must(err)
		backup.Put(rec.Key, rec.Value)
	}
	h.must(s.ReleaseKEK(ctx, "v", 2))
	h.must(s.DestroyKEKVersion(ctx, "v", 1))
	s.Close()
	_, err = st.Commit(ctx, &backup)
	h.must(err)

	s = h.service(st, r)
	if _, err := opens(s, old); fault.Of(err).Code != fault.Damaged {
		t.Errorf("under the lost version: %v", err)
	}
	if got, err := opens(s, young); err != nil || got != "a young secret" {
		t.Errorf("under the primary: %q, %v", got, err)
	}
	if e, err := seal(s, "v", "a new one"); err != nil || e.KEKVersion != 2 {
		t.Errorf("a new envelope: version %d, %v", e.KEKVersion, err)
	}
	keys, err := s.Keys(ctx, kmsapi.KeysQuery{After: "threads"})
	h.must(err)
	if v := keys.KEKs[0].Versions; !v[0].Lost || v[0].State != "decrypt-only" || v[1].Lost {
		t.Errorf("%+v", v)
	}
	if err := s.DestroyKEKVersion(ctx, "v", 1); !errors.Is(err, fault.Conflict) {
		t.Errorf("the release is forgotten, and it is destroyed: %v", err)
	}
	h.must(s.ReleaseKEK(ctx, "v", 2))
	h.must(s.DestroyKEKVersion(ctx, "v", 1))
	rotated, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: "v"})
	if h.must(err); rotated.KEKVersion != 3 {
		t.Errorf("%+v", rotated)
	}
}

// objects counts the keys on the token.
func (h *hsm) objects(r *Root) (n int) {
	h.Helper()
	h.must(r.do(func(_ *conn, s session) error {
		found, err := r.search(s)
		n = len(found)
		return err
	}))
	return n
}

func TestAKeyringOnATokenRotatesAndIsBoundToIt(t *testing.T) {
	h := newHSM(t)
	r := h.open()
	ring, err := keyring.New(ctx, r, "a", time.Now())
	h.must(err)
	w1, _, err := ring.Wrap(dek, aad)
	h.must(err)
	ring, err = ring.Rotate(ctx, r, time.Now())
	h.must(err)
	row := ring.Marshal()
	r.Wipe()
	r = h.open()
	ring, err = keyring.Parse(ctx, r, "a", row)
	h.must(err)
	w2, n, err := ring.Rewrap(1, w1, aad)
	h.must(err)
	for n, w := range map[uint32][]byte{1: w1, n: w2} {
		if got, err := ring.Unwrap(n, w, aad); err != nil || !bytes.Equal(got, dek) {
			t.Errorf("version %d: %v", n, err)
		}
	}
	if _, err := keyring.Parse(ctx, r, "b", row); !errors.Is(err, fault.Damaged) {
		t.Errorf("a row under another KEK ID: %v", err)
	}
	h.InitToken(h, "other")
	r.Wipe()
	h.config.Token = "other"
	if _, err := keyring.Parse(ctx, h.open(), "a", row); !errors.Is(err, fault.Damaged) {
		t.Errorf("a row under another token: %v", err)
	}
}

// The store holds the names of objects where a file root has wrapped KEKs.
func TestTheStoreHoldsNoMaterialOfAKEK(t *testing.T) {
	h, st := newHSM(t), memstore.New()
	h.service(st, h.open())
	rows := 0
	for rec, err := range store.All(ctx, st, store.Prefix("kek:")) {
		h.must(err)
		var versions []struct{ Stored []byte }
		h.must(json.Unmarshal(rec.Value[aead.KeySize+aead.Overhead:], &versions))
		for _, v := range versions {
			if rows++; len(v.Stored) != nameSize {
				t.Errorf("%s keeps %d bytes of a KEK; a name has %d", rec.Key, len(v.Stored), nameSize)
			}
		}
	}
	if rows == 0 {
		t.Error("there is no row")
	}
}

func TestTheKMSSaysUnavailableWhileTheTokenIsAwayAndGoesOn(t *testing.T) {
	h, st := newHSM(t), memstore.New()
	r := h.open()
	s := h.service(st, r)
	_, err := s.CreateKEK(ctx, []string{"v"})
	h.must(err)
	e, err := seal(s, "v", "x")
	h.must(err)
	back := losses["the token is removed"](h, r)
	for what, err := range map[string]error{
		"seal":   second(seal(s, "v", "y")),
		"open":   second(opens(s, e)),
		"create": second(s.CreateKEK(ctx, []string{"new"})),
	} {
		h.mustBeAway(what, err)
	}
	back()
	if got, err := opens(s, e); err != nil || got != "x" {
		t.Errorf("when it is back: %q, %v", got, err)
	}
	_, err = s.CreateKEK(ctx, []string{"new"})
	h.must(err)
}

func second[T any](_ T, err error) error { return err }

func BenchmarkWrap(b *testing.B) {
	benchSessions(b, func(k keyring.KEK, _ []byte) error { _, err := k.Wrap(dek, aad); return err })
}

func BenchmarkUnwrap(b *testing.B) {
	benchSessions(b, func(k keyring.KEK, w []byte) error { _, err := k.Unwrap(w, aad); return err })
}

func benchSessions(b *testing.B, f func(keyring.KEK, []byte) error) {
	for _, sessions := range []int{1, 2, 8} {
		b.Run(fmt.Sprint(sessions, "sessions"), func(b *testing.B) {
			h := newHSM(b)
			h.config.Sessions = sessions
			k, _ := h.kek(h.open(), kekA)
			w := h.wrap(k)
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					h.must(f(k, w))
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

func BenchmarkSeal1KiB(b *testing.B) {
	for _, callers := range []int{2, 32} {
		b.Run(fmt.Sprint(callers, "callers"), func(b *testing.B) {
			h, st := newHSM(b), memstore.New()
			s := h.service(st, h.open())
			_, err := s.CreateKEK(ctx, []string{"v"})
			h.must(err)
			text := string(make([]byte, 1<<10))
			b.ReportAllocs()
			b.SetParallelism(callers / 2) // times the cores, which are two where this is measured
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, err := seal(s, "v", text)
					h.must(err)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

func BenchmarkUnwrapAmong(b *testing.B) {
	for _, n := range []int{1, 500} {
		b.Run(fmt.Sprint(n, "KEKs"), func(b *testing.B) {
			h := newHSM(b)
			r := h.open()
			for range n - 1 {
				_, err := r.MakeKEK(ctx, kekA)
				h.must(err)
			}
			k, _ := h.kek(r, kekA)
			w := h.wrap(k)
			for b.Loop() {
				h.mustUnwrap(k, w)
			}
		})
	}
}
