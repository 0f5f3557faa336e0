package kms

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"pgregory.net/rapid"
)

func TestAnEnvelopeOpensUnderItsOwnKEKAndAADAlone(t *testing.T) {
	r := newRig(t)
	s := r.start()
	keks, aads := []string{"a", "b", "c"}, []string{"", "x", "y", "xy"}
	r.createKEK(s, keks...)
	for _, kek := range keks {
		for _, aad := range aads {
			e := r.seal(s, kek, "plain", aad)
			for _, otherKEK := range keks {
				for _, otherAAD := range aads {
					moved := e
					moved.KEKID = otherKEK
					if kek == otherKEK && aad == otherAAD {
						r.mustOpen(s, moved, otherAAD, "plain")
					} else {
						r.mustNotOpen(s, moved, otherAAD, fault.Unopenable)
					}
				}
			}
			for _, version := range []uint32{0, 2, 1<<32 - 1} {
				moved := e
				moved.KEKVersion = version
				r.mustNotOpen(s, moved, aad, fault.Unopenable)
			}
			moved := e
			moved.KEKID = "unknown"
			r.mustNotOpen(s, moved, aad, fault.NotFound)
		}
	}
}

// Where the raw DEK is the same, as no KMS would make it, AAD alone tells the
// ciphertexts of two envelopes apart.
func TestACiphertextIsBoundToKEKAndAADBesideItsDEK(t *testing.T) {
	raw := bytes.Repeat([]byte{9}, 32)
	ciphertext, err := newKey(t, raw).Seal([]byte("plain"), envelopeAAD("a", []byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "a", "b")
	for _, kek := range []string{"a", "b"} {
		for _, aad := range []string{"x", "y"} {
			ring, err := s.kek(ctx, kek)
			r.must(err)
			wrapped, version, err := ring.key.Wrap(raw, envelopeAAD(kek, []byte(aad)))
			r.must(err)
			s.keks.release(ring)
			e := kmsapi.Envelope{KEKID: kek, KEKVersion: version, WrappedDEK: wrapped, Ciphertext: ciphertext}
			if kek == "a" && aad == "x" {
				r.mustOpen(s, e, aad, "plain")
			} else {
				r.mustNotOpen(s, e, aad, fault.Unopenable)
			}
		}
	}
}

func TestAnyPlaintextAndAADComeBackAndOtherAADDoesNot(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	key := r.createDEK(s, "t").KeyID
	rapid.Check(t, func(t *rapid.T) {
		plain := string(rapid.SliceOf(rapid.Byte()).Draw(t, "plain"))
		aad := string(rapid.SliceOf(rapid.Byte()).Draw(t, "aad"))
		other := string(rapid.SliceOf(rapid.Byte()).Filter(func(b []byte) bool { return string(b) != aad }).Draw(t, "other"))
		e := r.seal(s, "v", plain, aad)
		r.mustOpen(s, e, aad, plain)
		r.mustNotOpen(s, e, other, fault.Unopenable)
		c := r.encrypt(s, key, plain, aad)
		r.mustDecrypt(s, key, c, aad, plain)
		r.mustNotDecrypt(s, key, c, other, fault.Unopenable)
	})
}

func TestPartsOfTwoEnvelopesDoNotOpenTogether(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	a, b := r.seal(s, "v", "plain a", "aad a"), r.seal(s, "v", "plain b", "aad b")
	same := r.seal(s, "v", "plain a", "aad a")
	for _, other := range []kmsapi.Envelope{b, same} {
		e := a
		e.WrappedDEK = other.WrappedDEK
		r.mustNotOpen(s, e, "aad a", fault.Unopenable)
		e = a
		e.Ciphertext = other.Ciphertext
		r.mustNotOpen(s, e, "aad a", fault.Unopenable)
	}
	dek := r.createDEK(s, "t")
	r.mustNotOpen(s, kmsapi.Envelope{KEKID: kmsapi.ThreadsKEK, KEKVersion: 1, WrappedDEK: dek.WrappedDEK, Ciphertext: r.encrypt(s, dek.KeyID, "x", "aad")}, "aad", fault.Unopenable)
}

func TestEveryFlippedOrMissingByteOfAnEnvelopeIsNoticed(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	e := r.seal(s, "v", "plain", "aad")
	eachFlip(e.WrappedDEK, func(bad []byte) {
		moved := e
		moved.WrappedDEK = bad
		r.mustNotOpen(s, moved, "aad", fault.Unopenable)
	})
	eachFlip(e.Ciphertext, func(bad []byte) {
		moved := e
		moved.Ciphertext = bad
		r.mustNotOpen(s, moved, "aad", fault.Unopenable)
	})
}

func TestEverySealHasADEKOfItsOwn(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	items := make([]kmsapi.SealItem, 500)
	for i := range items {
		items[i] = kmsapi.SealItem{KEKID: "v", Plaintext: []byte("same"), AAD: []byte("same")}
	}
	out, err := s.Seal(ctx, items)
	r.must(err)
	ring, err := s.kek(ctx, "v")
	r.must(err)
	seen := map[string]bool{}
	for _, res := range out {
		raw, err := ring.key.Unwrap(1, res.Envelope.WrappedDEK, envelopeAAD("v", []byte("same")))
		r.must(err)
		seen[string(raw)] = true
	}
	if len(seen) != len(items) {
		t.Errorf("%d seals under %d DEKs", len(items), len(seen))
	}
}

func TestAnEnvelopeOpensAfterItsKEKWasRotated(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	old := r.seal(s, "v", "plain", "aad")
	ring, err := keyring.Parse(ctx, r.root, "v", r.get(layout.KEK("v")).Value)
	r.must(err)
	rotated, err := ring.Rotate(ctx, r.root, day)
	r.must(err)
	r.put(layout.KEK("v"), rotated.Marshal())

	s = r.start()
	r.mustOpen(s, old, "aad", "plain")
	if infos := r.createKEK(s, "v"); infos[0].Version != 2 {
		t.Errorf("primary %d", infos[0].Version)
	}
	fresh := r.seal(s, "v", "plain", "aad")
	if fresh.KEKVersion != 2 {
		t.Errorf("sealed under version %d", fresh.KEKVersion)
	}
	moved := old
	moved.WrappedDEK, moved.KEKVersion, err = rotated.Rewrap(1, old.WrappedDEK, envelopeAAD("v", []byte("aad")))
	r.must(err)
	r.mustOpen(s, moved, "aad", "plain")
	fresh.KEKVersion = 1
	r.mustNotOpen(s, fresh, "aad", fault.Unopenable)
}

func TestSwappedOrFlippedKEKRowsOpenNothing(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "a", "b")
	e := r.seal(s, "a", "plain", "")
	row, other := r.get(layout.KEK("a")).Value, r.get(layout.KEK("b")).Value
	try := func(bad []byte) {
		r.put(layout.KEK("a"), bad)
		s := r.start()
		r.mustNotOpen(s, e, "", fault.Damaged)
		if out, _ := s.Seal(ctx, []kmsapi.SealItem{{KEKID: "a"}}); out[0].Err == nil {
			t.Error("sealed under a damaged KEK")
		}
		if _, err := s.CreateKEK(ctx, []string{"a"}); err == nil {
			t.Error("a damaged KEK was made anew")
		}
	}
	try(other)
	try(nil)
	eachFlip(row, try)
	r.put(layout.KEK("a"), row)
	r.mustOpen(r.start(), e, "", "plain")

	r.put(layout.KEK(kmsapi.ThreadsKEK), row)
	if _, err := r.tryStart(); err == nil {
		t.Error("started with another KEK's row for the threads")
	}
}

func TestEveryFailedOpenIsOneError(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	key := r.createDEK(s, "t").KeyID
	e := r.seal(s, "v", "plain", "aad")
	c := r.encrypt(s, key, "plain", "aad")
	bend := func(change func(*kmsapi.Envelope)) kmsapi.Envelope {
		bad := e
		bad.WrappedDEK, bad.Ciphertext = bytes.Clone(e.WrappedDEK), bytes.Clone(e.Ciphertext)
		change(&bad)
		return bad
	}
	var errs []error
	add := func(_ string, err error) { errs = append(errs, err) }
	add(openOne(s, e, "other"))
	add(openOne(s, bend(func(b *kmsapi.Envelope) { b.WrappedDEK[20] ^= 1 }), "aad"))
	add(openOne(s, bend(func(b *kmsapi.Envelope) { b.WrappedDEK = nil }), "aad"))
	add(openOne(s, bend(func(b *kmsapi.Envelope) { b.Ciphertext[20] ^= 1 }), "aad"))
	add(openOne(s, bend(func(b *kmsapi.Envelope) { b.Ciphertext = nil }), "aad"))
	add(openOne(s, bend(func(b *kmsapi.Envelope) { b.KEKVersion = 7 }), "aad"))
	add(openOne(s, bend(func(b *kmsapi.Envelope) { b.KEKID = kmsapi.ThreadsKEK }), "aad"))
	add(decryptOne(s, key, c, "other"))
	add(decryptOne(s, key, c[:10], "aad"))
	add(decryptOne(s, r.createDEK(s, "t").KeyID, c, "aad"))
	for i, err := range errs {
		f := fault.Of(err)
		if f.Code != fault.Unopenable || f.Type != "" || f.Message != fault.Of(errs[0]).Message {
			t.Errorf("failure %d tells itself apart: %s", i, fmt.Sprint(f.Code, f.Type, f.Message))
		}
	}
}
