//go:build !race

package kms

import (
	"slices"
	"testing"

	"github.com/keyfold/keyfold/internal/kmsapi"
)

// The race detector allocates on its own, so these counts hold without it.

func TestHotPathsAllocateNoMoreThanTheyDid(t *testing.T) {
	r := newRig(t)
	s := r.start(audited(&recorder{}))
	r.createKEK(s, "v")
	key := r.createDEK(s, "t").KeyID
	one, hundred := items(1, key), items(100, key)
	c := r.encrypt(s, key, "x", "")
	e := r.seal(s, "v", "x", "")
	old, fresh := rawKeys()
	session := r.openRotation(s, askFor(t, "v", old, fresh))
	values := slices.Repeat(r.sealedValues(s, "v", old, "x"), 100)
	for _, path := range []struct {
		name string
		most float64
		call func()
	}{
		{"Encrypt", 9, func() { s.Encrypt(ctx, one) }},
		{"Encrypt of 100", 306, func() { s.Encrypt(ctx, hundred) }},
		{"Decrypt", 9, func() { s.Decrypt(ctx, []kmsapi.DecryptItem{{KeyID: key, Ciphertext: c}}) }},
		{"Seal", 12, func() { s.Seal(ctx, []kmsapi.SealItem{{KEKID: "v"}}) }},
		{"Reencrypt of 100", 2812, func() { s.Reencrypt(ctx, session, values) }},
		{"Open", 10, func() { s.Open(ctx, []kmsapi.OpenItem{{Envelope: e}}) }},
	} {
		if n := testing.AllocsPerRun(200, path.call); n > path.most {
			t.Errorf("%s makes %v allocations, want at most %v", path.name, n, path.most)
		}
	}
}
