package vault

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
)

func TestGenerateWritesARandomVersion(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	at := r.present().Add(time.Hour)
	_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{
		Type: "password", Value: ptr("old"), Metadata: json.RawMessage(`{"b": 1}`), ExpiresAt: &at, MaxAccessCount: ptr(1),
	}, PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, c := range []struct {
		req      api.GenerateSecret
		length   int
		alphabet string
	}{
		{api.GenerateSecret{}, 32, charsets["hex"]},
		{api.GenerateSecret{Length: ptr(8), Charset: "hex"}, 8, charsets["hex"]},
		{api.GenerateSecret{Length: ptr(1024), Charset: "base64"}, 1024, charsets["base64"]},
		{api.GenerateSecret{Length: ptr(100), Charset: "alphanumeric"}, 100, charsets["alphanumeric"]},
		{api.GenerateSecret{Length: ptr(1023), Charset: "ascii"}, 1023, charsets["ascii"]},
	} {
		made, err := r.Generate(t.Context(), owner, v, "a", c.req)
		if err != nil || made.Version != i+2 || made.Type != "password" || string(made.Metadata) != `{"b": 1}` || made.ExpiresAt != nil {
			t.Fatalf("Generate = %+v, %v", made, err)
		}
		for range 2 { // the read limit of version 1 is its own
			got, err := r.read(v, "a")
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Secret.Value) != c.length || strings.Trim(got.Secret.Value, c.alphabet) != "" {
				t.Errorf("%+v made %q", c.req, got.Secret.Value)
			}
			seen[got.Secret.Value] = true
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d different values of 5", len(seen))
	}
	if made, err := r.Generate(t.Context(), owner, v, "a", api.GenerateSecret{Type: "api_key"}); err != nil || made.Type != "api_key" {
		t.Errorf("with a type: %+v, %v", made, err)
	}
}

func TestGenerateRefuses(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	sealed, key := r.sealed()
	r.put(v, "a", "x")
	r.put(sealed, "a", blob(t, key, "x"))
	generate := func(vaultID, path string, req api.GenerateSecret) error {
		_, err := r.Generate(t.Context(), owner, vaultID, path, req)
		return err
	}
	for _, n := range []int{7, 0, -1, 1025, 1 << 40} {
		want(t, "length", generate(v, "a", api.GenerateSecret{Length: &n}), fault.Invalid)
	}
	for _, c := range []string{"HEX", "base32", "\x00"} {
		want(t, "charset", generate(v, "a", api.GenerateSecret{Charset: c}), fault.Invalid)
	}
	want(t, "type", generate(v, "a", api.GenerateSecret{Type: "x"}), fault.Invalid)
	want(t, "no such path", generate(v, "b", api.GenerateSecret{}), fault.NotFound)
	want(t, "a sealed vault", generate(sealed, "a", api.GenerateSecret{}), fault.Invalid)
	want(t, "a sealed vault, no such path", generate(sealed, "b", api.GenerateSecret{}), fault.Invalid)
	if err := r.DeleteSecret(t.Context(), owner, v, "a"); err != nil {
		t.Fatal(err)
	}
	want(t, "a deleted path", generate(v, "a", api.GenerateSecret{}), fault.NotFound)
}

// A chi-square test with 93 degrees of freedom exceeds 190 with a probability
// far below 1e-8. Bytes modulo 94 without rejection give some 9,000 here.
func TestCharactersAreUniform(t *testing.T) {
	alphabet := charsets["ascii"]
	if len(alphabet) != 94 {
		t.Fatalf("%d characters", len(alphabet))
	}
	const each = 2000
	var count [256]float64
	for _, c := range []byte(random(alphabet, each*len(alphabet))) {
		count[c]++
	}
	chi := 0.0
	for _, c := range []byte(alphabet) {
		chi += (count[c] - each) * (count[c] - each) / each
	}
	if chi > 190 {
		t.Errorf("chi-square is %.0f", chi)
	}
}
