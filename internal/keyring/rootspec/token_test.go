//go:build cgo && unix

package rootspec

import (
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/keyring/roottest"
)

func TestATokenOpensByItsURI(t *testing.T) {
	h := roottest.NewSoftHSM(t)
	for _, text := range []string{h.URI(), strings.Replace(h.URI(), "file:", "file://", 1) + "&x-pool=1"} {
		root, err := Open(ctx, "", env(Env, text))
		if err != nil {
			t.Fatal(err)
		}
		stored, err := root.MakeKEK(ctx, keyring.Name{KEKID: "a", Version: 1})
		if err != nil || root.Kind() != "pkcs11" || root.Check(ctx) != nil {
			t.Errorf("%d bytes, %v", len(stored), err)
		}
		root.Wipe()
	}
	if r, err := Open(ctx, strings.Replace(h.URI(), "token=keyfold", "token=other", 1), env()); err == nil || r != nil || !strings.Contains(err.Error(), "token=keyfold") {
		t.Errorf("another token: %v", err)
	}
}
