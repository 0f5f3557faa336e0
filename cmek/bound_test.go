package cmek

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/internal/aead"
)

// here is where the tests' bound values live.
var here = Context{VaultID: "7f1e7d0c-5f43-4c8c-8e0b-6f1d6f0a2b11", Path: "db/password"}

func encryptBound(t testing.TB, k *Key, c Context, plaintext string) string {
	t.Helper()
	value, err := EncryptBoundValue(k, c, []byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// mustNotOpen fails unless the answer is the one error of every failed open,
// itself and not a kin of it, and no bytes.
func mustNotOpen(t *testing.T, k *Key, c Context, value, why string) {
	t.Helper()
	if got, err := DecryptValueAt(k, c, value); err != ErrDecrypt || got != nil {
		t.Errorf("%s: DecryptValueAt = %q, %v; want nothing and ErrDecrypt", why, got, err)
	}
}

func edited(t *testing.T, value string, edit func(blob []byte) []byte) string {
	t.Helper()
	blob, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(edit(blob))
}

func TestABoundValueOpensWhereItBelongs(t *testing.T) {
	k := Generate()
	for _, n := range []int{0, 1, 15, 16, 1000, 1 << 20} {
		plaintext := strings.Repeat("x", n)
		value := encryptBound(t, k, here, plaintext)
		if got, err := DecryptValueAt(k, here, value); err != nil || string(got) != plaintext {
			t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
		}
		if info, err := Inspect(value); err != nil || info != (Info{FormBase64, 2, n}) {
			t.Errorf("%d bytes: Inspect = %+v, %v", n, info, err)
		}
	}
	blob, err := EncryptBound(k, here, []byte("x"))
	if got, openErr := DecryptAt(k, here, blob); err != nil || openErr != nil || string(got) != "x" || len(blob) != 1+BoundOverhead {
		t.Errorf("in bytes: %d of them, %q, %v, %v", len(blob), got, err, openErr)
	}
}

func TestABoundValueOpensNowhereElse(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringN(1, 20, -1)
		one := Context{text.Draw(rt, "vault"), text.Draw(rt, "path")}
		other := Context{text.Draw(rt, "other vault"), text.Draw(rt, "other path")}
		if one == other {
			return
		}
		if got, err := DecryptValueAt(countingKey(t), other, encryptBound(t, countingKey(t), one, "x")); err != ErrDecrypt || got != nil {
			rt.Errorf("of %q, at %q: %q, %v", one, other, got, err)
		}
	})
}

func TestABoundValueMovedToAnotherPathVaultOrKeyDoesNotOpen(t *testing.T) {
	k := countingKey(t)
	value := encryptBound(t, k, here, "x")
	mustNotOpen(t, k, Context{here.VaultID, "db/other"}, value, "another path")
	mustNotOpen(t, k, Context{"7f1e7d0c-5f43-4c8c-8e0b-6f1d6f0a2b12", here.Path}, value, "another vault")
	mustNotOpen(t, k, Context{here.VaultID + here.Path[:1], here.Path[1:]}, value, "one character from path to vault")
	mustNotOpen(t, k, Context{here.Path, here.VaultID}, value, "path and vault changed about")
	mustNotOpen(t, Generate(), here, value, "another key")
}

func TestABoundValueNeedsItsContext(t *testing.T) {
	k := Generate()
	value := encryptBound(t, k, here, "x")
	for _, c := range []Context{{}, {VaultID: here.VaultID}, {Path: here.Path}} {
		if got, err := DecryptValueAt(k, c, value); err != ErrNeedsContext || got != nil {
			t.Errorf("DecryptValueAt(%+v) = %q, %v", c, got, err)
		}
		if got, err := EncryptBoundValue(k, c, nil); err != ErrNeedsContext || got != "" {
			t.Errorf("EncryptBoundValue(%+v) = %q, %v", c, got, err)
		}
		if got, err := ReencryptValueAt(k, k, c, value); err != ErrNeedsContext || got != "" {
			t.Errorf("ReencryptValueAt(%+v) = %q, %v", c, got, err)
		}
	}
	if got, err := DecryptValue(k, value); err != ErrNeedsContext || got != nil {
		t.Errorf("DecryptValue = %q, %v", got, err)
	}
	if got, err := ReencryptValue(k, k, value); err != ErrNeedsContext || got != "" {
		t.Errorf("ReencryptValue = %q, %v", got, err)
	}
	if errors.Is(ErrNeedsContext, ErrNotBlob) {
		t.Error("a bound blob is a blob")
	}
}

func TestEveryFlippedBitOfABoundValueFails(t *testing.T) {
	k := countingKey(t)
	value := encryptBound(t, k, here, "value")
	for bit := 8; bit < 8*(BoundOverhead+5); bit++ {
		mustNotOpen(t, k, here, edited(t, value, func(b []byte) []byte { b[bit/8] ^= 1 << (bit % 8); return b }), fmt.Sprintf("bit %d", bit))
	}
}

func TestAnotherVersionByteDoesNotOpen(t *testing.T) {
	k := countingKey(t)
	flip := func(b []byte) []byte { b[0] ^= plainVersion ^ boundVersion; return b }
	plain := encryptValue(t, k, strings.Repeat("x", BoundOverhead))
	mustNotOpen(t, k, here, edited(t, plain, flip), "version 1 made 2")
	bound := encryptBound(t, k, here, "x")
	mustNotOpen(t, k, here, edited(t, bound, flip), "version 2 made 1")
	mustNotOpen(t, k, Context{}, edited(t, bound, flip), "version 2 made 1, without a context")
	if got, err := DecryptValueAt(k, here, edited(t, edited(t, bound, flip), flip)); err != nil || string(got) != "x" {
		t.Errorf("and back: %q, %v", got, err)
	}
}

func TestATruncatedBoundValueDoesNotOpen(t *testing.T) {
	k := countingKey(t)
	value := encryptBound(t, k, here, "value")
	for n := range BoundOverhead + 5 {
		cut := edited(t, value, func(b []byte) []byte { return b[:n] })
		if got, err := DecryptValueAt(k, here, cut); got != nil || (n < BoundOverhead) != (err == ErrTooShort) || n >= BoundOverhead && err != ErrDecrypt {
			t.Errorf("first %d bytes: %q, %v", n, got, err)
		}
	}
}

// What opens under two keys in version 1 is in the vectors, made by their
// generator. The same ciphertext in a bound blob fits both sealing keys; only
// the commitment refuses it, which the test shows by opening without it.
func TestACiphertextThatFitsTwoKeysOpensUnderTheCommittedOneOnly(t *testing.T) {
	v := readVectors(t)
	opened := map[string]bool{}
	for _, r := range v.Values {
		if strings.HasPrefix(r.Name, "a tag that fits two keys") {
			plaintext, err := DecryptValue(newKey(t, r.Key), r.Value)
			if err != nil {
				t.Errorf("%s: %v", r.Name, err)
			}
			opened[r.Value+string(plaintext)] = true
			opened[r.Value] = true
		}
	}
	if len(opened) != 3 {
		t.Errorf("want one value of version 1 that opens to two plaintexts: %d", len(opened))
	}
	keys := map[string]error{}
	for _, r := range v.Bound {
		if !strings.HasPrefix(r.Name, "a tag that fits two keys") {
			continue
		}
		k, blob := newKey(t, r.Key), must(base64.StdEncoding.DecodeString(r.Value))(t)
		_, keys[r.Value+k.Fingerprint()] = DecryptValueAt(k, Context{r.Vault, r.Path}, r.Value)
		_, sealer, err := k.bind(here, blob[1:33])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sealer.Open(blob[65:], k.boundAAD(here)); err != nil {
			t.Errorf("%s: the tag does not fit, and proves nothing: %v", r.Name, err)
		}
	}
	var got []error
	for _, err := range keys {
		got = append(got, err)
	}
	if len(got) != 2 || (got[0] == nil) == (got[1] == nil) || !errors.Is(errors.Join(got...), ErrDecrypt) {
		t.Errorf("want one key that opens it and one that does not: %v", got)
	}
}

func TestReencryptKeepsFormAndVersion(t *testing.T) {
	old, fresh := Generate(), Generate()
	plain := encryptValue(t, old, "x")
	for name, value := range map[string]string{
		"base64": plain,
		"hex":    hex.EncodeToString(must(base64.StdEncoding.DecodeString(plain))(t)[1:]),
		"bound":  encryptBound(t, old, here, "x"),
	} {
		got, err := ReencryptValueAt(old, fresh, here, value)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if before, after := must(Inspect(value))(t), must(Inspect(got))(t); before != after {
			t.Errorf("%s: %+v became %+v", name, before, after)
		}
		if plaintext, err := DecryptValueAt(fresh, here, got); err != nil || string(plaintext) != "x" {
			t.Errorf("%s: %q, %v", name, plaintext, err)
		}
		mustNotOpen(t, old, here, got, name+" under the old key")
	}
	elsewhere := Context{here.VaultID, "db/other"}
	if got, err := ReencryptValueAt(old, fresh, elsewhere, encryptBound(t, old, here, "x")); err != ErrDecrypt || got != "" {
		t.Errorf("moved first: %q, %v", got, err)
	}
}

func TestTwoBoundBlobsShareNoRandomBytes(t *testing.T) {
	k := Generate()
	a, b := must(EncryptBound(k, here, []byte("value")))(t), must(EncryptBound(k, here, []byte("value")))(t)
	for i := 1; i+8 <= len(a); i += 8 {
		if bytes.Equal(a[i:i+8], b[i:i+8]) {
			t.Errorf("bytes %d to %d are the same", i, i+8)
		}
	}
}

func TestAWipedKeyBindsAndChecksNothing(t *testing.T) {
	k := Generate()
	value, check := encryptBound(t, k, here, "x"), k.Check(here.VaultID)
	k.Wipe()
	if blob, err := EncryptBound(k, here, nil); err != errWiped || blob != nil {
		t.Errorf("EncryptBound = %x, %v", blob, err)
	}
	mustNotOpen(t, k, here, value, "wiped key")
	if k.Check(here.VaultID) != "" || CheckMatches(k, here.VaultID, "") || CheckMatches(k, here.VaultID, check) {
		t.Error("a wiped key has a check")
	}
}

// For the race detector.
func TestWipeMayRunBesideBoundUse(t *testing.T) {
	k := Generate()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				value, _ := EncryptBoundValue(k, here, nil)
				DecryptValueAt(k, here, value)
				k.Check(here.VaultID)
			}
		})
	}
	k.Wipe()
	wg.Wait()
}

func TestTheBoundExampleIsAsFORMATSays(t *testing.T) {
	k := countingKey(t)
	salt := must(hex.DecodeString("404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"))(t)
	both := must(k.derive(salt, boundKind, commitmentSize+aead.KeySize))(t)
	aad := hex.EncodeToString(k.boundAAD(here))
	doc := strings.ReplaceAll(string(must(os.ReadFile("FORMAT.md"))(t)), "` `", "")
	value := ""
	for _, v := range readVectors(t).Bound {
		if v.Name == "ASCII" {
			value = v.Value
		}
	}
	for _, want := range []string{hex.EncodeToString(both[:32]), hex.EncodeToString(both[32:]), aad, value, k.Check(here.VaultID)} {
		if want == "" || !strings.Contains(doc, "`"+want+"`") {
			t.Errorf("FORMAT.md does not show %q", want)
		}
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Other clients bind bodies to the same place; vectors.json has one.
func TestTheBodyOfAMessageIsBoundToItsThread(t *testing.T) {
	if got, want := MessageContext("t"), (Context{VaultID: "thread:t", Path: "message"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
