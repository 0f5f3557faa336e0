package server

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/token"
)

func TestAnybodyMayReadTheKeysOfTokens(t *testing.T) {
	root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := kms.New(t.Context(), kms.Config{Store: memstore.New(), Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	st := memstore.New()
	mux := httpx.New(httpx.Config{Rows: tokens{service: token.New(token.Config{Store: st, Box: sealed.New(st, k)})}.rows()})
	get := func(path string, status int, cache string) (body map[string]any) {
		t.Helper()
		w := answered(mux, "GET", path, "", "Authorization", "Bearer stale")
		if w.Code != status || w.Header().Get("Cache-Control") != cache {
			t.Errorf("%s: %d, %q, %s", path, w.Code, w.Header().Get("Cache-Control"), w.Body)
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Error(err)
		}
		return body
	}
	const fiveMinutes = "public, max-age=300"
	set := get("/.well-known/jwks.json", 200, fiveMinutes)
	keys, _ := set["keys"].([]any)
	if len(set) != 1 || len(keys) != 1 {
		t.Fatal(set)
	}
	one, _ := keys[0].(map[string]any)
	public := get("/v1/auth/jwt-public-key", 200, fiveMinutes)
	text, _ := public["public_key_base64"].(string)
	if len(public) != 2 || public["alg"] != "EdDSA" || strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(text) != one["x"] {
		t.Errorf("%v and %v", public, one)
	}
	if len(one) != 6 || one["kty"] != "OKP" || one["crv"] != "Ed25519" || one["alg"] != "EdDSA" || one["use"] != "sig" || one["kid"] == "" {
		t.Error(one)
	}
	st.Close()
	get("/.well-known/jwks.json", 503, "no-store")
	get("/v1/auth/jwt-public-key", 503, "no-store")
}
