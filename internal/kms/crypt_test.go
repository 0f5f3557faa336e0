package kms

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
)

func TestACiphertextDecryptsUnderItsOwnKeyIDAndAADAlone(t *testing.T) {
	r := newRig(t)
	s := r.start()
	var keys []string
	for _, thread := range []string{"t1", "t1", "t2", "t2"} {
		keys = append(keys, r.createDEK(s, thread).KeyID)
	}
	aads := []string{"", "x", "y", "xy"}
	for _, key := range keys {
		for _, aad := range aads {
			c := r.encrypt(s, key, "plain", aad)
			if len(c) != len("plain")+28 {
				t.Errorf("ciphertext of %d bytes", len(c))
			}
			for _, otherKey := range append(keys, "dek-unknown") {
				for _, otherAAD := range aads {
					switch {
					case otherKey == "dek-unknown":
						r.mustNotDecrypt(s, otherKey, c, otherAAD, fault.NotFound)
					case otherKey == key && otherAAD == aad:
						r.mustDecrypt(s, otherKey, c, otherAAD, "plain")
					default:
						r.mustNotDecrypt(s, otherKey, c, otherAAD, fault.Unopenable)
					}
				}
			}
		}
	}
}

// AAD alone must do what differing keys do otherwise.
func TestACiphertextIsBoundToKeyIDAndVersionBesideItsDEK(t *testing.T) {
	r := newRig(t)
	s := r.start()
	key := r.createDEK(s, "t").KeyID
	c := r.encrypt(s, key, "plain", "aad")
	raw := r.rawDEK(s, key)
	r.forge(s, "dek-same", raw, func(*record) {})
	r.mustNotDecrypt(s, "dek-same", c, "aad", fault.Unopenable)
	r.mustDecrypt(s, "dek-same", r.encrypt(s, "dek-same", "own", ""), "", "own")

	r.forge(s, key, raw, func(rec *record) { rec.Version = 2 })
	s = r.start()
	r.mustNotDecrypt(s, key, c, "aad", fault.Unopenable)
	r.forge(s, key, raw, func(*record) {})
	r.mustDecrypt(r.start(), key, c, "aad", "plain")
}

func TestEveryFlippedOrMissingByteOfACiphertextIsNoticed(t *testing.T) {
	r := newRig(t)
	s := r.start()
	key := r.createDEK(s, "t").KeyID
	eachFlip(r.encrypt(s, key, "plain", "aad"), func(bad []byte) {
		r.mustNotDecrypt(s, key, bad, "aad", fault.Unopenable)
	})
}

func TestAnUnknownKeyIDIsNotFound(t *testing.T) {
	r := newRig(t)
	s := r.start()
	key := r.createDEK(s, "t").KeyID
	for _, id := range []string{"", "dek-", key[:len(key)-1], key + "0", strings.ToUpper(key), "../" + key, key + "\x00", strings.Repeat("a", 1<<20)} {
		_, eErr := encryptOne(s, id, "x", "")
		_, dErr := decryptOne(s, id, make([]byte, 40), "")
		_, wErr := s.GetWrapped(ctx, id)
		for _, err := range []error{eErr, dErr, wErr} {
			if !errors.Is(err, fault.NotFound) {
				t.Errorf("%.40q: %v", id, err)
			}
		}
	}
	if n := len(s.deks.slots); n != 1 {
		t.Errorf("unknown key IDs fill the cache: %d slots", n)
	}
}

func TestADEKsRowSaysWhatWasAnswered(t *testing.T) {
	r := newRig(t)
	s := r.start()
	info := r.createDEK(s, "t1")
	want := record{ThreadID: "t1", KEKID: info.KEKID, KEKVersion: info.KEKVersion, Wrapped: info.WrappedDEK, Version: 1, Created: day, Seals: 4096}
	if diff := cmp.Diff(want, r.record(info.KeyID)); diff != "" || info.KEKID != kmsapi.ThreadsKEK || info.KEKVersion != 1 || len(info.WrappedDEK) != 60 {
		t.Errorf("%+v: %s", info, diff)
	}
	wrapped, err := s.GetWrapped(ctx, info.KeyID)
	if !bytes.Equal(wrapped, info.WrappedDEK) || err != nil {
		t.Errorf("GetWrapped: %v", err)
	}
}

func TestSwappedOrFlippedDEKRowsOpenNothing(t *testing.T) {
	r := newRig(t)
	s := r.start()
	a, b := r.createDEK(s, "t1").KeyID, r.createDEK(s, "t1").KeyID
	c := r.encrypt(s, a, "plain", "")
	row, other := r.get(layout.DEK(a)).Value, r.get(layout.DEK(b)).Value
	try := func(bad []byte) {
		r.put(layout.DEK(a), bad)
		s := r.start()
		r.mustNotDecrypt(s, a, c, "", fault.Damaged)
		if _, err := encryptOne(s, a, "x", ""); !errors.Is(err, fault.Damaged) {
			t.Errorf("Encrypt: %v", err)
		}
		if _, err := s.GetWrapped(ctx, a); !errors.Is(err, fault.Damaged) {
			t.Errorf("GetWrapped: %v", err)
		}
	}
	try(other)
	try(nil)
	try(append(bytes.Clone(other[:28]), row[28:]...))
	try(append(bytes.Clone(row[:28]), other[28:]...))
	eachFlip(row, try)
	r.put(layout.DEK(a), row)
	r.mustDecrypt(r.start(), a, c, "", "plain")
}

// An attacker who can write rows may try to give a DEK to another thread, hide
// its age, or make its count of seals small.
func TestAnEditedDEKRowOpensNothing(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	key, other := r.createDEK(s, "t1").KeyID, r.createDEK(s, "t1").KeyID
	r.encrypt(s, key, "x", "")
	row := r.get(layout.DEK(key)).Value
	for name, edit := range map[string]func(*record){
		"thread":      func(rec *record) { rec.ThreadID = "t2" },
		"KEK":         func(rec *record) { rec.KEKID = "v" },
		"no such KEK": func(rec *record) { rec.KEKID = "w" },
		"bad KEK ID":  func(rec *record) { rec.KEKID = "a:b" },
		"KEK version": func(rec *record) { rec.KEKVersion = 2 },
		"wrapped":     func(rec *record) { rec.Wrapped = r.record(other).Wrapped },
		"version":     func(rec *record) { rec.Version = 2 },
		"age":         func(rec *record) { rec.Created = day.AddDate(1, 0, 0) },
		"seals":       func(rec *record) { rec.Seals = 0 },
	} {
		rec := r.record(key)
		edit(&rec)
		edited, err := rec.marshal(newKey(t, make([]byte, 32)), key)
		r.must(err)
		r.put(layout.DEK(key), append(bytes.Clone(row[:28]), edited[28:]...))
		if _, err := encryptOne(r.start(), key, "x", ""); !errors.Is(err, fault.Damaged) {
			t.Errorf("%s: %v", name, err)
		}
		r.put(layout.DEK(key), row)
	}
}

// What lies in a thread's metadata for recovery opens with the AAD documented at
// dekAAD, and no other.
func TestAWrappedDEKIsBoundToItsKeyIDAndThread(t *testing.T) {
	r := newRig(t)
	s := r.start()
	ring, err := s.kek(ctx, kmsapi.ThreadsKEK)
	r.must(err)
	type name struct{ key, thread string }
	var names []name
	var wrapped [][]byte
	for _, thread := range []string{"t1", "t1", "t2"} {
		info := r.createDEK(s, thread)
		names, wrapped = append(names, name{info.KeyID, thread}), append(wrapped, info.WrappedDEK)
	}
	names = append(names, name{names[0].key, "t2"}, name{names[2].key, "t1"}, name{"", ""})
	for i, n := range names {
		for j, w := range wrapped {
			_, err := ring.key.Unwrap(1, w, aead.AAD("keyfold/thread-dek/v1", n.key, n.thread))
			if (err == nil) != (i == j) {
				t.Errorf("the DEK of %v as %v: %v", names[j], n, err)
			}
		}
	}
}

// A row's seal names its key ID, whatever else in the row does.
func TestARowsSealIsOfItsOwnKeyID(t *testing.T) {
	r := newRig(t)
	s := r.start()
	key := r.createDEK(s, "t").KeyID
	raw, rec := r.rawDEK(s, key), r.record(key)
	for _, sealedAs := range []string{key, "dek-other", ""} {
		row, err := rec.marshal(newKey(t, raw), sealedAs)
		r.must(err)
		r.put(layout.DEK(key), row)
		if _, _, err := s.load(ctx, key); (err == nil) != (sealedAs == key) {
			t.Errorf("sealed as %q: %v", sealedAs, err)
		}
	}
}

// The key in the cache is right, and the row under it is not: it must not be
// written over with a count that somebody else chose.
func TestARowThatWasSwappedUnderACachedKeyIsNoticedAtTheNextReservation(t *testing.T) {
	r := newRig(t)
	s := r.start(func(c *Config) { c.SealBlock = 2 })
	a, b := r.createDEK(s, "t").KeyID, r.createDEK(s, "t").KeyID
	r.encrypt(s, a, "x", "")
	own := r.get(layout.DEK(a)).Value
	for name, row := range map[string][]byte{"another key's": r.get(layout.DEK(b)).Value, "cut": own[:40], "empty": nil} {
		r.put(layout.DEK(a), row)
		if _, err := encryptOne(s, a, "x", ""); !errors.Is(err, fault.Damaged) {
			t.Errorf("%s row: %v", name, err)
		}
		if got := r.get(layout.DEK(a)).Value; !bytes.Equal(got, row) {
			t.Errorf("%s row was written over", name)
		}
	}
	r.put(layout.DEK(a), own)
	r.encrypt(s, a, "x", "")
}

func FuzzDEKRow(f *testing.F) {
	r := newRig(f)
	s := r.start()
	key := r.createDEK(s, "t").KeyID
	row := r.get(layout.DEK(key)).Value
	f.Add(row)
	f.Add(row[:28])
	f.Add(append(bytes.Clone(row[:28]), `{"kek_id":"threads","kek_version":1}`...))
	f.Fuzz(func(t *testing.T, bad []byte) {
		if bytes.Equal(bad, row) {
			return
		}
		r := &rig{TB: t, store: r.store, root: r.root}
		r.put(layout.DEK(key), bad)
		if _, _, err := s.load(ctx, key); !errors.Is(err, fault.Damaged) {
			t.Errorf("forged row: %v", err)
		}
	})
}
