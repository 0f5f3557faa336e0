package kmsserver

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

func (f *fakeKMS) CMEKRotationKey(context.Context, string) (kmsapi.CMEKRotationKey, error) {
	k := kmsapi.CMEKRotationKey{KeyID: "k", Suite: kmsapi.CMEKRotationSuite, PublicKey: []byte("public"), Expires: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	return k, f.note("CMEKRotationKey")
}

func (f *fakeKMS) OpenCMEKRotation(_ context.Context, o kmsapi.OpenCMEKRotation) (string, error) {
	f.saw(o.Old, o.New)
	if err := f.item(0, string(o.Old)); err != nil {
		return "", err
	}
	return "session-of-" + o.Vault, f.note("OpenCMEKRotation")
}

func (f *fakeKMS) CMEKRotationAlive(_ context.Context, session string) (bool, error) {
	return session != "missing", f.note("CMEKRotationAlive")
}

func (f *fakeKMS) CloseCMEKRotation(context.Context, string) error {
	return f.note("CloseCMEKRotation")
}

func (f *fakeKMS) Reencrypt(_ context.Context, session string, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error) {
	if session == "missing" {
		return nil, fault.New(fault.NotFound, "gone").WithType(kmsapi.TypeCMEKSessionGone)
	}
	out := make([]kmsapi.ReencryptResult, len(items))
	for i, item := range items {
		e := item.Envelope
		if out[i].Err = f.item(i, e.KEKID); out[i].Err == nil {
			e.WrappedDEK, e.Ciphertext = []byte("fresh"), bytes.Clone(e.Ciphertext)
			out[i].Envelope, out[i].Opened = e, kmsapi.OpenedOld
		}
	}
	return out, f.note("Reencrypt")
}

// rotation is the JSON of a request for a session, with this as both keys.
func rotation(key string) string {
	key = base64.StdEncoding.EncodeToString([]byte(key))
	return `{"vault":"v","old_fingerprint":"f","new_fingerprint":"g","old":"` + key + `","new":"` + key + `"}`
}

func TestACustomersKeysAreWipedWithTheirRequestAndAreInNoLogOrError(t *testing.T) {
	r := newRig(t)
	var saw [][]byte
	r.kms.seen = func(b ...[]byte) { saw = append(saw, b...) }
	o := kmsapi.OpenCMEKRotation{Vault: "v", OldFingerprint: "f", NewFingerprint: "g", Old: []byte(canary), New: []byte(canary)}
	wire := string(kmsapi.CMEKRotation.AppendRequest(nil, []kmsapi.OpenCMEKRotation{o}))
	answers := []string{
		r.do(r.client(cryptoUID), "POST /cmek_rotation", "", rotation(canary)).body,
		r.do(r.client(cryptoUID), "POST /cmek_rotation", kmsapi.ContentType, wire).body,
		r.do(r.client(cryptoUID), "POST /cmek_rotation", "", rotation(canary)[1:]).body,
		r.do(r.client(cryptoUID), "POST /cmek_rotation", "", strings.Replace(rotation(canary), `"new"`, `"nwe"`, 1)).body,
		r.do(r.client(cryptoUID), "POST /cmek_rotation", "", strings.Replace(rotation(canary), `"vault":"v"`, `"vault":7`, 1)).body,
		r.do(r.client(cryptoUID), "POST /cmek_rotation", kmsapi.ContentType, wire[1:]).body,
		r.do(r.client(adminUID), "POST /cmek_rotation", "", rotation(canary)).body,
	}
	r.kms.failed = func(int, string) error { return fault.New(fault.Invalid, "no") }
	answers = append(answers,
		r.do(r.client(cryptoUID), "POST /cmek_rotation", "", rotation(canary)).body,
		r.do(r.client(cryptoUID), "POST /cmek_rotation", kmsapi.ContentType, wire).body)
	if len(saw) != 8 {
		t.Fatalf("the KMS saw %d keys", len(saw))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := r.Close(ctx); err != nil { // every handler has returned
		t.Fatal(err)
	}
	for i, key := range saw {
		if !bytes.Equal(key, make([]byte, len(canary))) {
			t.Errorf("key %d is still in memory: %q", i, key)
		}
	}
	for _, text := range append(answers, r.log.String()) {
		if strings.Contains(text, canary) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(canary))) {
			t.Errorf("a key turns up in %s", text)
		}
	}
}
