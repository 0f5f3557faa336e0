package kms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
)

// sameRoot gives every KEK the same key, so that AAD alone tells them apart.
type sameRoot struct{ keyring.Root }

func (sameRoot) Kind() string { return "file" }

func (sameRoot) MakeKEK(context.Context, keyring.Name) ([]byte, error) { return []byte("x"), nil }

func (sameRoot) LoadKEK(context.Context, keyring.Name, []byte) (keyring.KEK, error) {
	key, err := aead.NewKey(make([]byte, 32))
	return sameKEK{key}, err
}

type sameKEK struct{ *aead.Key }

func (k sameKEK) Wrap(dek, aad []byte) ([]byte, error)       { return k.Seal(dek, aad) }
func (k sameKEK) Unwrap(wrapped, aad []byte) ([]byte, error) { return k.Open(wrapped, aad) }

// place is where something wrapped or sealed belongs, and alone may open.
type place struct {
	name string
	open func(blob []byte) error
}

// checkPairs opens the blob of every place in every place.
func checkPairs(t *testing.T, places []place, blobs [][]byte) {
	t.Helper()
	for i, p := range places {
		for j, blob := range blobs {
			if err := p.open(blob); (err == nil) != (i == j) {
				t.Errorf("what belongs to %s, as %s: %v", places[j].name, p.name, err)
			}
		}
	}
}

// All that a KEK wraps: thread DEKs, envelopes' DEKs, the audit key's DEK, and
// the seals of both rows of a KEK; over KEK, version, key ID, thread and AAD.
func TestWhatAKEKWrappedOpensInItsOwnPlaceAlone(t *testing.T) {
	aads := map[string][]byte{"the audit's key": auditAAD()}
	for _, key := range []string{"a", "b", "dek-1"} {
		for _, thread := range []string{"a", "b", "t"} {
			aads["the DEK "+key+" of thread "+thread] = dekAAD(key, thread)
		}
	}
	for _, kek := range []string{"a", "b"} {
		for _, aad := range []string{"", "a", "b", "xy"} {
			aads["the DEK of an envelope of "+kek+" with "+aad] = envelopeAAD(kek, []byte(aad))
		}
	}
	dek := bytes.Repeat([]byte{7}, 32)
	var places []place
	var blobs [][]byte
	add := func(name string, blob []byte, err error, open func([]byte) error) {
		if err != nil {
			t.Fatal(err)
		}
		places, blobs = append(places, place{name, open}), append(blobs, blob)
	}
	for _, id := range []string{"a", "b", kmsapi.ThreadsKEK, auditKEK} {
		one, err := keyring.New(ctx, sameRoot{}, id, day)
		if err != nil {
			t.Fatal(err)
		}
		two, err := one.Rotate(ctx, sameRoot{}, day)
		if err != nil {
			t.Fatal(err)
		}
		for _, ring := range []*keyring.Keyring{one, two} {
			for name, aad := range aads {
				blob, version, err := ring.Wrap(dek, aad)
				add(fmt.Sprint(name, " under ", id, " ", version), blob, err, func(b []byte) error {
					_, err := two.Unwrap(version, b, aad)
					return err
				})
			}
		}
		row := two.Marshal()
		add("the keyring "+id, row[:60], nil, func(b []byte) error {
			_, err := keyring.Parse(ctx, sameRoot{}, id, append(bytes.Clone(b), row[60:]...))
			return err
		})
		use, err := two.MarshalUse(keyring.Use{Released: 1})
		add("the count of "+id, use[:60], err, func(b []byte) error {
			_, err := two.ParseUse(append(bytes.Clone(b), use[60:]...))
			return err
		})
	}
	checkPairs(t, places, blobs)
}

// All that a DEK seals: messages, the row of the DEK, an envelope's ciphertext
// and the audit's key; over key ID, version, KEK and AAD.
func TestWhatADEKSealedOpensInItsOwnPlaceAlone(t *testing.T) {
	aads := map[string][]byte{"the audit's key": auditAAD()}
	for _, id := range []string{"a", "b", "a1"} {
		for _, aad := range []string{"", "a", "1", "2", "1a"} {
			aads["an envelope of "+id+" with "+aad] = envelopeAAD(id, []byte(aad))
			aads["the row of "+id+" with "+aad] = rowAAD(id, []byte(aad))
			aads["the wrapped DEK "+id+" of thread "+aad] = dekAAD(id, aad)
			for _, version := range []uint32{1, 2, 12} {
				aads[fmt.Sprint("a message of ", id, " ", version, " with ", aad)] = ciphertextAAD(&dek{id: id, version: version}, []byte(aad))
			}
		}
	}
	key := newKey(t, make([]byte, 32))
	var places []place
	var blobs [][]byte
	for name, aad := range aads {
		blob, err := key.Seal([]byte("plain"), aad)
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, blob)
		places = append(places, place{name, func(b []byte) error { _, err := key.Open(b, aad); return err }})
	}
	checkPairs(t, places, blobs)
}

// The same through the Service, with keys as it makes them.
func TestAnEnvelopeOpensUnderItsOwnVersionAloneWhateverElseIsThere(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "a", "b")
	type at struct {
		kek     string
		version uint32
		aad     string
	}
	var places []at
	var envelopes []kmsapi.Envelope
	for range 3 {
		for _, kek := range []string{"a", "b"} {
			for _, aad := range []string{"", "x"} {
				e := r.seal(s, kek, "plain", aad)
				places, envelopes = append(places, at{kek, e.KEKVersion, aad}), append(envelopes, e)
			}
			r.rotate(s, kek)
		}
	}
	for i, p := range places {
		for j, e := range envelopes {
			e.KEKID, e.KEKVersion = p.kek, p.version
			if i == j {
				r.mustOpen(s, e, p.aad, "plain")
			} else {
				r.mustNotOpen(s, e, p.aad, fault.Unopenable)
			}
		}
	}
}

func TestTheAuditsKeyIsNoEnvelopeAndTheReverse(t *testing.T) {
	r := newRig(t)
	_, err := AuditKey(ctx, r.store, r.root, day)
	r.must(err)
	s := r.start()
	r.createKEK(s, "v")
	row, rev, err := s.auditRow(ctx)
	r.must(err)
	for _, aad := range []string{"", string(auditAAD())} {
		r.mustNotOpen(s, row, aad, fault.Unopenable)
	}
	for _, kek := range []string{auditKEK, kmsapi.ThreadsKEK} {
		if _, err := sealOne(s, kek, "x", ""); !errors.Is(err, fault.Invalid) {
			t.Errorf("Seal under %s: %v", kek, err)
		}
	}
	if _, err := s.CreateKEK(ctx, []string{auditKEK}); !errors.Is(err, fault.Invalid) {
		t.Errorf("CreateKEK: %v", err)
	}
	e := r.seal(s, "v", string(make([]byte, 32)), "")
	for _, forged := range []kmsapi.Envelope{
		{KEKVersion: 1, WrappedDEK: e.WrappedDEK, Ciphertext: e.Ciphertext},
		{KEKVersion: 1, WrappedDEK: row.WrappedDEK, Ciphertext: e.Ciphertext},
		{KEKVersion: 2, WrappedDEK: row.WrappedDEK, Ciphertext: row.Ciphertext},
		{},
	} {
		b := newBatch(r, func(b *batch) error { return putAuditRow(b, forged, rev) })
		rev, err = r.store.Commit(ctx, b)
		r.must(err)
		if _, err := AuditKey(ctx, r.store, r.root, day); !errors.Is(err, fault.Damaged) {
			t.Errorf("a forged row: %v", err)
		}
	}
	for _, text := range []string{"", "{", `{"seed":"x"}`} {
		r.put(layout.AuditKey(), []byte(text))
		if _, err := AuditKey(ctx, r.store, r.root, day); !errors.Is(err, fault.Damaged) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
