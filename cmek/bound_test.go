package cmek

import (
	"errors"
	"testing"
)

// here is where the tests' bound values live.
var here = Context{VaultID: "7f1e7d0c-5f43-4c8c-8e0b-6f1d6f0a2b11", Path: "db/password"}

func encryptBound(t testing.TB, k *Key, plaintext string) string {
	t.Helper()
	value, err := EncryptBoundValue(k, here, []byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestABoundValueOpensWhereItBelongs(t *testing.T) {
	k := Generate()
	value := encryptBound(t, k, "my-secret-value")
	if got, err := DecryptValueAt(k, here, value); err != nil || string(got) != "my-secret-value" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := DecryptValue(k, value); !errors.Is(err, ErrNeedsContext) {
		t.Errorf("without its place: %v", err)
	}
}
