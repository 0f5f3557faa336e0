package aead

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// rawKey returns 32 distinct bytes, so that any run of them is found in output.
func rawKey() []byte {
	raw := make([]byte, KeySize)
	for i := range raw {
		raw[i] = byte(0xa0 + i)
	}
	return raw
}

func newKey(t testing.TB, raw []byte) *Key {
	t.Helper()
	k, err := NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func seal(t testing.TB, k *Key, plaintext, aad []byte) []byte {
	t.Helper()
	sealed, err := k.Seal(plaintext, aad)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// mustNotOpen fails unless Open answers ErrOpen itself, not a kin of it, and
// gives out no bytes.
func mustNotOpen(t *testing.T, k *Key, sealed, aad []byte, why string) {
	t.Helper()
	got, err := k.Open(sealed, aad)
	if err != ErrOpen || got != nil {
		t.Errorf("%s: Open = %x, %v; want nothing and ErrOpen", why, got, err)
	}
}

func TestWhatIsSealedOpens(t *testing.T) {
	k, aad := newKey(t, rawKey()), AAD("test/v1", "a")
	for _, n := range []int{0, 1, 15, 16, 17, 1000, 1 << 20} {
		plaintext := bytes.Repeat([]byte{0x5a}, n)
		sealed := seal(t, k, plaintext, aad)
		if len(sealed) != n+Overhead {
			t.Errorf("%d bytes seal to %d, want %d", n, len(sealed), n+Overhead)
		}
		got, err := k.Open(sealed, aad)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%d bytes: Open gave %d bytes, %v", n, len(got), err)
		}
	}
}

// goldenCiphertext is "my-secret-value" under rawKey, nonce 01..0c and the AAD
// below, made and checked with two other implementations of AES-256-GCM.
const goldenCiphertext = "f52a6a0d5d3cf78e34ef2056e856c0bd3441a4ad68aaa49931c3e87d2eae01"

// What is stored today must open for ever.
func TestAStoredBlobStillOpens(t *testing.T) {
	sealed, _ := hex.DecodeString("0102030405060708090a0b0c" + goldenCiphertext)
	got, err := newKey(t, rawKey()).Open(sealed, AAD("test/v1", "vault", "path"))
	if err != nil || string(got) != "my-secret-value" {
		t.Errorf("Open = %q, %v", got, err)
	}
}

func TestTheAADEncodingStands(t *testing.T) {
	want := "01" +
		"0000000000000007" + hex.EncodeToString([]byte("test/v1")) +
		"0000000000000005" + hex.EncodeToString([]byte("vault")) +
		"0000000000000000"
	if got := hex.EncodeToString(AAD("test/v1", "vault", "")); got != want {
		t.Errorf("AAD = %s, want %s", got, want)
	}
}

func TestAnotherKeyDoesNotOpen(t *testing.T) {
	sealed := seal(t, newKey(t, rawKey()), []byte("x"), nil)
	for bit := range KeySize * 8 {
		raw := rawKey()
		raw[bit/8] ^= 1 << (bit % 8)
		mustNotOpen(t, newKey(t, raw), sealed, nil, fmt.Sprintf("key bit %d", bit))
	}
}

func TestAnotherAADDoesNotOpen(t *testing.T) {
	k := newKey(t, rawKey())
	sealed := seal(t, k, []byte("x"), AAD("test/v1", "a", "b"))
	for _, aad := range [][]byte{
		nil,
		{},
		AAD("test/v1"),
		AAD("test/v1", "a"),
		AAD("test/v1", "a", "B"),
		AAD("test/v1", "b", "a"),
		AAD("test/v1", "ab", ""),
		AAD("test/v2", "a", "b"),
		AAD("test/v1", "a", "b", ""),
		append(AAD("test/v1", "a", "b"), 0),
	} {
		mustNotOpen(t, k, sealed, aad, fmt.Sprintf("AAD %x", aad))
	}
}

func TestABlobSealedWithoutAADDoesNotOpenWithOne(t *testing.T) {
	k := newKey(t, rawKey())
	mustNotOpen(t, k, seal(t, k, []byte("x"), nil), AAD("test/v1"), "AAD added")
}

func TestEveryFlippedBitFails(t *testing.T) {
	k, aad := newKey(t, rawKey()), AAD("test/v1")
	sealed := seal(t, k, []byte("value"), aad)
	for bit := range len(sealed) * 8 {
		flipped := bytes.Clone(sealed)
		flipped[bit/8] ^= 1 << (bit % 8)
		mustNotOpen(t, k, flipped, aad, fmt.Sprintf("bit %d", bit))
	}
}

func TestEveryTruncationAndExtensionFails(t *testing.T) {
	k, aad := newKey(t, rawKey()), AAD("test/v1")
	sealed := seal(t, k, []byte("value"), aad)
	for n := range len(sealed) {
		mustNotOpen(t, k, sealed[:n], aad, fmt.Sprintf("first %d bytes", n))
		mustNotOpen(t, k, sealed[len(sealed)-n:], aad, fmt.Sprintf("last %d bytes", n))
	}
	mustNotOpen(t, k, append(bytes.Clone(sealed), 0), aad, "one byte more")
	mustNotOpen(t, k, append([]byte{0}, sealed...), aad, "one byte before")
}

func TestOpenLeavesItsInputAlone(t *testing.T) {
	k := newKey(t, rawKey())
	sealed := seal(t, k, []byte("value"), nil)
	before := bytes.Clone(sealed)
	if _, err := k.Open(sealed, nil); err != nil || !bytes.Equal(sealed, before) {
		t.Errorf("Open changed its input, or failed: %v", err)
	}
}

func TestEverySealHasAFreshNonce(t *testing.T) {
	k, seen := newKey(t, rawKey()), map[string]bool{}
	for range 10_000 {
		nonce := string(seal(t, k, nil, nil)[:12])
		if seen[nonce] {
			t.Fatal("a nonce came twice")
		}
		seen[nonce] = true
	}
}

func TestAKeyIs32Bytes(t *testing.T) {
	for n := range 65 {
		k, err := NewKey(make([]byte, n))
		if n == KeySize {
			if err != nil {
				t.Errorf("32 bytes: %v", err)
			}
		} else if !errors.Is(err, ErrKeySize) || k != nil {
			t.Errorf("%d bytes: NewKey = %v, %v; want ErrKeySize", n, k, err)
		}
	}
}

func TestNewKeyKeepsNoHoldOnTheRawBytes(t *testing.T) {
	raw := rawKey()
	k := newKey(t, raw)
	sealed := seal(t, k, []byte("x"), nil)
	clear(raw)
	if _, err := k.Open(sealed, nil); err != nil {
		t.Error("the key changed with the caller's slice")
	}
}

func TestGenerateRawIsFresh(t *testing.T) {
	a, b := GenerateRaw(), GenerateRaw()
	if len(a) != KeySize || bytes.Equal(a, b) || bytes.Equal(a, make([]byte, KeySize)) {
		t.Error("GenerateRaw gave a short, a repeated or a zero key")
	}
}

func TestAWipedKeyNeitherSealsNorOpens(t *testing.T) {
	k := newKey(t, rawKey())
	sealed := seal(t, k, []byte("x"), nil)
	k.Wipe()
	k.Wipe() // again is fine
	if out, err := k.Seal([]byte("x"), nil); err == nil || out != nil {
		t.Errorf("Seal = %x, %v after Wipe", out, err)
	}
	mustNotOpen(t, k, sealed, nil, "after Wipe")
	mustNotOpen(t, new(Key), sealed, nil, "a zero Key")
}

// For the race detector: a cache may wipe a key that a request still holds.
func TestWipeMayRunBesideUse(t *testing.T) {
	k := newKey(t, rawKey())
	sealed := seal(t, k, []byte("x"), nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				k.Open(sealed, nil)
				k.Seal(nil, nil)
			}
		})
	}
	k.Wipe()
	wg.Wait()
	mustNotOpen(t, k, sealed, nil, "after Wipe")
}

var verbs = []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%b", "%o", "%c", "%U", "%t", "%e", "%z", "%50v", "%.3s"}

func TestAKeyPrintsRedacted(t *testing.T) {
	k := newKey(t, rawKey())
	for _, verb := range verbs {
		if got := fmt.Sprintf(verb, k); got != "[redacted]" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if got := fmt.Sprint(struct{ K *Key }{k}); got != "{[redacted]}" {
		t.Errorf("inside a struct it prints %q", got)
	}
}

// unexported shows the key where fmt and the encoders cannot reach its methods.
type unexported struct{ k *Key }

func TestNoPrinterShowsTheRawKey(t *testing.T) {
	k := newKey(t, rawKey())
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("key", "k", k, "in", struct{ K *Key }{k}, "hidden", unexported{k})
	}
	if n := strings.Count(out.String(), "k=[redacted]") + strings.Count(out.String(), `"k":"[redacted]"`); n != 2 {
		t.Errorf("slog shows %d of 2 as redacted: %s", n, out.String())
	}
	for _, v := range []any{k, struct{ K *Key }{k}, unexported{k}} {
		b, err := json.Marshal(v)
		fmt.Fprintf(&out, "%s %v\n", b, err)
		for _, verb := range verbs {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, form := range rawForms(rawKey()) {
		if strings.Contains(out.String(), form) {
			t.Errorf("the raw key shows as %q in:\n%s", form, out.String())
		}
	}
}

// rawForms returns the first bytes of raw as printers would write them.
func rawForms(raw []byte) []string {
	r := raw[:6]
	return []string{
		string(r), hex.EncodeToString(r), strings.ToUpper(hex.EncodeToString(r)),
		strings.Trim(fmt.Sprint(r), "[]"), strings.Trim(fmt.Sprintf("%#v", r), "[]byte{}"), fmt.Sprintf("% x", r),
		strings.ReplaceAll(strings.Trim(fmt.Sprint(r), "[]"), " ", ","),
	}
}

// decodeAAD is the inverse of AAD. That there is one, for every list of
// fields, is the proof that no two lists share an encoding.
func decodeAAD(aad []byte) []string {
	var fields []string
	for rest := aad[1:]; len(rest) > 0; {
		n := binary.BigEndian.Uint64(rest)
		fields = append(fields, string(rest[8:8+n]))
		rest = rest[8+n:]
	}
	return fields
}

// anyField draws mostly fields made of what the encoding itself is made of.
func anyField() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune{0, 1, 2, 'a', 'b'}), 0, 20, -1),
		rapid.SampledFrom([]string{"", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x01a"}),
		rapid.String(),
	)
}

func TestAADGivesBackItsFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fields := rapid.SliceOfN(anyField(), 1, 6).Draw(t, "fields")
		if diff := cmp.Diff(fields, decodeAAD(AAD(fields[0], fields[1:]...))); diff != "" {
			t.Errorf("fields changed (-want +got):\n%s", diff)
		}
	})
}

func TestBytesMovedAcrossABorderChangeTheAAD(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.StringN(1, 20, -1).Draw(t, "whole")
		i := rapid.IntRange(0, len(whole)).Draw(t, "border")
		j := rapid.IntRange(0, len(whole)).Draw(t, "other border")
		a := AAD("test/v1", whole[:i], whole[i:])
		if b := AAD("test/v1", whole[:j], whole[j:]); bytes.Equal(a, b) != (i == j) {
			t.Errorf("%q split at %d and %d: equal is %v", whole, i, j, i != j)
		}
		if bytes.Equal(a, AAD("test/v1", whole)) || bytes.Equal(a, AAD("test/v1"+whole[:i], whole[i:])) {
			t.Errorf("%q split at %d equals a shorter list", whole, i)
		}
	})
}

func BenchmarkSeal1KiB(b *testing.B) {
	k, plaintext, aad := newKey(b, rawKey()), make([]byte, 1024), AAD("keyfold/bench/v1", "vault", "path", "1")
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		seal(b, k, plaintext, aad)
	}
}

func BenchmarkOpen1KiB(b *testing.B) {
	k, aad := newKey(b, rawKey()), AAD("keyfold/bench/v1", "vault", "path", "1")
	sealed := seal(b, k, make([]byte, 1024), aad)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open(sealed, aad); err != nil {
			b.Fatal(err)
		}
	}
}
