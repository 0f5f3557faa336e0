package kms

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
)

func TestARewrapAnswersEachItemInItsPlace(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v", "w")
	a, b := r.seal(s, "v", "plain a", "aad"), r.seal(s, "w", "plain b", "aad")
	key := r.createDEK(s, "t").KeyID
	c := r.encrypt(s, key, "x", "")
	r.rotate(s, "v")
	_, err := s.rotateFrom(ctx, kmsapi.ThreadsKEK, 1)
	r.must(err)
	item := func(e kmsapi.Envelope, aad string) kmsapi.RewrapItem {
		return kmsapi.RewrapItem{KEKID: e.KEKID, KEKVersion: e.KEKVersion, WrappedDEK: e.WrappedDEK, AAD: []byte(aad)}
	}
	future, moved, both := item(a, "aad"), item(a, "aad"), item(a, "aad")
	future.KEKVersion, moved.KEKID, both.KeyID = 9, "w", key
	out, err := s.Rewrap(ctx, []kmsapi.RewrapItem{
		item(a, "aad"), item(b, "aad"), {KeyID: key}, {KeyID: key},
		item(a, "other"), future, moved, both, {KEKID: "x"}, {KeyID: "dek-x"}, {},
		{KeyID: key, AAD: []byte("aad")}, {KeyID: key, KEKVersion: 1}, // which would bind nothing
	})
	r.must(err)
	codes := []fault.Code{"", "", "", "", fault.Unopenable, fault.Unopenable, fault.Unopenable, fault.Invalid, fault.NotFound, fault.NotFound, fault.Invalid, fault.Invalid, fault.Invalid}
	for i, code := range codes {
		if err := out[i].Err; code == "" && err != nil || code != "" && (!errors.Is(err, code) || out[i].WrappedDEK != nil) {
			t.Errorf("item %d: %v, want %s", i, err, code)
		}
	}
	moveTo := func(e kmsapi.Envelope, res kmsapi.RewrapResult) kmsapi.Envelope {
		e.WrappedDEK, e.KEKID, e.KEKVersion = res.WrappedDEK, res.KEKID, res.KEKVersion
		return e
	}
	if out[0].KEKVersion != 2 || bytes.Equal(out[0].WrappedDEK, a.WrappedDEK) {
		t.Errorf("%+v", out[0])
	}
	if diff := cmp.Diff(b, moveTo(b, out[1])); diff != "" {
		t.Errorf("what was under the primary: %s", diff)
	}
	r.mustOpen(s, moveTo(a, out[0]), "aad", "plain a")
	r.mustOpen(s, a, "aad", "plain a")
	r.mustLieUnder(2, key)
	for _, res := range out[2:4] {
		if !bytes.Equal(res.WrappedDEK, r.record(key).Wrapped) || res.KEKVersion != 2 || res.KEKID != kmsapi.ThreadsKEK {
			t.Error("what is answered of a thread's DEK is not what is stored")
		}
	}
	r.mustDecrypt(r.start(), key, c, "", "x")
	before := r.dump()
	_, err = s.Rewrap(ctx, []kmsapi.RewrapItem{{KeyID: key}})
	r.must(err)
	if diff := cmp.Diff(before, r.dump()); diff != "" {
		t.Errorf("a DEK under the primary is written again: %s", diff)
	}
}

func TestARewrapOfADamagedRowChangesNothing(t *testing.T) {
	r := newRig(t)
	s := r.start()
	key, good := r.createDEK(s, "t").KeyID, r.createDEK(s, "t").KeyID
	_, err := s.rotateFrom(ctx, kmsapi.ThreadsKEK, 1)
	r.must(err)
	row := r.get(layout.DEK(key)).Value
	rec := r.record(key)
	rec.KEKVersion = 9
	forged, err := rec.marshal(newKey(t, make([]byte, 32)), key)
	r.must(err)
	for _, bad := range [][]byte{r.get(layout.DEK(good)).Value, row[:50], append(bytes.Clone(row[:28]), forged[28:]...)} {
		r.put(layout.DEK(key), bad)
		out, err := s.Rewrap(ctx, []kmsapi.RewrapItem{{KeyID: key}, {KeyID: good}})
		r.must(err)
		if !errors.Is(out[0].Err, fault.Damaged) || out[1].Err != nil || !bytes.Equal(r.get(layout.DEK(key)).Value, bad) {
			t.Errorf("%v, %v", out[0].Err, out[1].Err)
		}
	}
	r.mustLieUnder(2, good)
}
