//go:build !race

package aead

import "testing"

// The race detector allocates on its own, so these counts hold without it.

func TestSealAndOpenAllocateTheirResultAlone(t *testing.T) {
	k, plaintext, aad := newKey(t, rawKey()), make([]byte, 1024), AAD("test/v1")
	sealed := seal(t, k, plaintext, aad)
	for name, f := range map[string]func(){
		"Seal": func() { k.Seal(plaintext, aad) },
		"Open": func() { k.Open(sealed, aad) },
		"AAD":  func() { aad = AAD("test/v1", "vault", "path") },
	} {
		if n := testing.AllocsPerRun(100, f); n != 1 {
			t.Errorf("%s makes %v allocations, want 1", name, n)
		}
	}
}
