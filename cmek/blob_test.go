package cmek

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

const (
	countingFingerprint = "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"
	onesFingerprint     = "af9613760f72635fbdb44a5a0a63c39f12af30f950a6ee5c971be188e89c4051"
)

// countingKey is the contract's key, 00 01 .. 1f.
func countingKey(t testing.TB) *Key {
	raw := make([]byte, KeySize)
	for i := range raw {
		raw[i] = byte(i)
	}
	return newKey(t, raw)
}

func encryptValue(t testing.TB, k *Key, plaintext string) string {
	t.Helper()
	value, err := EncryptValue(k, []byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// The contract's vectors stand here as well as in the generated file, so that
// a mistake of the generator cannot hide.
func TestTheContractsVectorsOpen(t *testing.T) {
	k := countingKey(t)
	for _, v := range []struct {
		value, plaintext string
		info             Info
	}{
		{"AQECAwQFBgcICQoLDC3gPa5mMHGDGFnvi52pNfY=", "", Info{FormBase64, 1, 0}},
		{"AQECAwQFBgcICQoLDGiTd6aJ94LjOI8VJnxmj7xT6QmJI/izlA7zW+fshR0=", "my-secret-value", Info{FormBase64, 1, 15}},
		{"AQECAwQFBgcICQoLDNVQim49GiEBvD331mdI5OtDAjoRx4jmN2DCZA8=", "ключ🔑", Info{FormBase64, 1, 12}},
		{"0102030405060708090a0b0c689377a689f782e3388f15267c668fbc53e9098923f8b3940ef35be7ec851d", "my-secret-value", Info{FormHex, 0, 15}},
	} {
		if info, err := Inspect(v.value); err != nil || info != v.info {
			t.Errorf("Inspect(%s) = %+v, %v; want %+v", v.value, info, err, v.info)
		}
		if got, err := DecryptValue(k, v.value); err != nil || string(got) != v.plaintext {
			t.Errorf("DecryptValue(%s) = %q, %v; want %q", v.value, got, err, v.plaintext)
		}
	}
}

func TestTheContractsFingerprints(t *testing.T) {
	if got := countingKey(t).Fingerprint(); got != countingFingerprint {
		t.Errorf("fingerprint of 00..1f is %s", got)
	}
	if got := newKey(t, bytes.Repeat([]byte{0xff}, 32)).Fingerprint(); got != onesFingerprint {
		t.Errorf("fingerprint of ff..ff is %s", got)
	}
}

func TestTheContractsVectorsAreInTheFile(t *testing.T) {
	file := map[string]bool{}
	for _, v := range readVectors(t).Values {
		file[v.Value] = file[v.Value] || v.Class == ""
	}
	for _, value := range []string{
		"AQECAwQFBgcICQoLDC3gPa5mMHGDGFnvi52pNfY=",
		"AQECAwQFBgcICQoLDGiTd6aJ94LjOI8VJnxmj7xT6QmJI/izlA7zW+fshR0=",
		"AQECAwQFBgcICQoLDNVQim49GiEBvD331mdI5OtDAjoRx4jmN2DCZA8=",
		"0102030405060708090a0b0c689377a689f782e3388f15267c668fbc53e9098923f8b3940ef35be7ec851d",
	} {
		if !file[value] {
			t.Errorf("%s is missing from vectors.json", value)
		}
	}
}

func TestWhatIsEncryptedDecrypts(t *testing.T) {
	k := Generate()
	for _, n := range []int{0, 1, 2, 3, 15, 16, 1000, 1 << 20} {
		plaintext := bytes.Repeat([]byte{0xa5}, n)
		blob, err := Encrypt(k, plaintext)
		if err != nil || len(blob) != n+Overhead || blob[0] != 1 {
			t.Fatalf("Encrypt of %d bytes: %d bytes, %v", n, len(blob), err)
		}
		if got, err := Decrypt(k, blob); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("Decrypt of %d bytes: %v", n, err)
		}
		value := encryptValue(t, k, string(plaintext))
		if info, err := Inspect(value); err != nil || info != (Info{FormBase64, 1, n}) {
			t.Errorf("Inspect = %+v, %v; want the documented form of %d bytes", info, err, n)
		}
		if got, err := DecryptValue(k, value); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("DecryptValue of %d bytes: %v", n, err)
		}
	}
}

func TestEveryEncryptionHasAFreshNonce(t *testing.T) {
	k, seen := Generate(), map[string]bool{}
	for range 10_000 {
		blob, _ := Encrypt(k, nil)
		if seen[string(blob[1:13])] {
			t.Fatal("a nonce came twice")
		}
		seen[string(blob[1:13])] = true
	}
}

func TestAFailedOpenNamesNoCause(t *testing.T) {
	k, value := countingKey(t), "0102030405060708090a0b0c689377a689f782e3388f15267c668fbc53e9098923f8b3940ef35be7ec851d"
	wiped := countingKey(t)
	wiped.Wipe()
	for why, open := range map[string]func() ([]byte, error){
		"another key":         func() ([]byte, error) { return DecryptValue(Generate(), value) },
		"a flipped nonce":     func() ([]byte, error) { return DecryptValue(k, "f"+value[1:]) },
		"a flipped tag":       func() ([]byte, error) { return DecryptValue(k, value[:len(value)-1]+"f") },
		"a cut tag":           func() ([]byte, error) { return DecryptValue(k, value[:len(value)-2]) },
		"a wiped key":         func() ([]byte, error) { return DecryptValue(wiped, value) },
		"zeros, in bytes":     func() ([]byte, error) { return Decrypt(k, append([]byte{1}, make([]byte, 28)...)) },
		"another key, resave": func() ([]byte, error) { s, err := ReencryptValue(Generate(), k, value); return []byte(s), err },
	} {
		if got, err := open(); err != ErrDecrypt || len(got) != 0 {
			t.Errorf("%s: %x, %v; want nothing and ErrDecrypt itself", why, got, err)
		}
	}
}

func TestReencryptKeepsTheForm(t *testing.T) {
	old, fresh := countingKey(t), Generate()
	for value, want := range map[string]Info{
		"AQECAwQFBgcICQoLDC3gPa5mMHGDGFnvi52pNfY=":                                               {FormBase64, 1, 0},
		"AQECAwQFBgcICQoLDGiTd6aJ94LjOI8VJnxmj7xT6QmJI/izlA7zW+fshR0=":                           {FormBase64, 1, 15},
		"0102030405060708090a0b0c689377a689f782e3388f15267c668fbc53e9098923f8b3940ef35be7ec851d": {FormHex, 0, 15},
	} {
		plaintext, _ := DecryptValue(old, value)
		moved, err := ReencryptValue(old, fresh, value)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := Inspect(moved); err != nil || info != want {
			t.Errorf("came back as %+v, %v; want %+v", info, err, want)
		}
		if got, err := DecryptValue(fresh, moved); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("under the new key: %q, %v", got, err)
		}
		if _, err := DecryptValue(old, moved); err != ErrDecrypt {
			t.Error("the old key still opens it")
		}
		if again, _ := ReencryptValue(old, fresh, value); again == moved {
			t.Error("the nonce is not fresh")
		}
	}
}

func TestReencryptPassesFailuresOn(t *testing.T) {
	old, wiped := countingKey(t), Generate()
	wiped.Wipe()
	value := encryptValue(t, old, "x")
	if s, err := ReencryptValue(old, Generate(), "plain"); !errors.Is(err, ErrNotBlob) || s != "" {
		t.Errorf("plain text: %q, %v", s, err)
	}
	if s, err := ReencryptValue(old, wiped, value); err == nil || s != "" {
		t.Errorf("wiped new key: %q, %v", s, err)
	}
}

// The proof that the two forms share no text: the first byte of base64 is made
// of its first two characters, and no two lower-case hex digits make 0x01 or 0x02.
func TestNoHexTextIsBase64OfAVersion(t *testing.T) {
	const digits = "0123456789abcdef"
	for _, a := range digits {
		for _, b := range digits {
			raw, err := base64.StdEncoding.DecodeString(string(a) + string(b) + "00")
			if err != nil || raw[0] == plainVersion || raw[0] == boundVersion {
				t.Errorf("%c%c: first byte %x, %v", a, b, raw, err)
			}
		}
	}
}

// Version bytes whose base64 begins with a hex digit are never to be given
// out: FORMAT.md names these ranges.
func TestTheReservedVersionBytesAreThoseThatLookLikeHex(t *testing.T) {
	for v := range 256 {
		text := base64.StdEncoding.EncodeToString([]byte{byte(v), 0, 0})
		reserved := v >= 0x68 && v <= 0x7f || v >= 0xd0 && v <= 0xf7
		if isLowerHex(text[:1]) != reserved {
			t.Errorf("version 0x%02x begins with %q: reserved is %v", v, text[0], reserved)
		}
	}
}

// Upper-case hex is refused since some of it is the documented form as well.
func TestHexOfMixedCaseIsReadAsBase64(t *testing.T) {
	text := "Aa" + strings.Repeat("0", 58)
	if _, err := hex.DecodeString(text); err != nil {
		t.Fatal("the text is meant to be hex digits alone")
	}
	if info, err := Inspect(text); err != nil || info.Form != FormBase64 {
		t.Errorf("Inspect = %+v, %v", info, err)
	}
}

func TestErrorsShowNothingOfTheValue(t *testing.T) {
	canary := "canary-7f1e7d0c"
	k := Generate()
	for _, value := range []string{
		canary, base64.StdEncoding.EncodeToString([]byte(canary)), hex.EncodeToString([]byte(canary)),
		base64.StdEncoding.EncodeToString([]byte(strings.Repeat(canary, 3))), encryptValue(t, Generate(), canary),
	} {
		_, err := DecryptValue(k, value)
		if err == nil || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), value[:12]) {
			t.Errorf("%s: error %v", value, err)
		}
	}
}

func TestShapeErrorsAreErrNotBlob(t *testing.T) {
	for _, err := range []error{ErrTooShort, ErrUnknownVersion, ErrBadEncoding} {
		if !errors.Is(err, ErrNotBlob) || errors.Is(err, ErrDecrypt) {
			t.Errorf("%v has the wrong kin", err)
		}
	}
	if errors.Is(ErrDecrypt, ErrNotBlob) {
		t.Error("ErrDecrypt is not a matter of shape")
	}
}

func BenchmarkValue1KiB(b *testing.B) {
	k, plaintext := Generate(), make([]byte, 1024)
	value, bound := encryptValue(b, k, string(plaintext)), encryptBound(b, k, here, string(plaintext))
	for name, f := range map[string]func() error{
		"Encrypt":      func() error { _, err := EncryptValue(k, plaintext); return err },
		"Decrypt":      func() error { _, err := DecryptValue(k, value); return err },
		"EncryptBound": func() error { _, err := EncryptBoundValue(k, here, plaintext); return err },
		"DecryptBound": func() error { _, err := DecryptValueAt(k, here, bound); return err },
		"Inspect":      func() error { _, err := Inspect(value); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
