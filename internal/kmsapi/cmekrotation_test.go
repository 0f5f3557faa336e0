package kmsapi

import (
	"bytes"
	"crypto/hpke"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheSealedKeysOfTheProtocolOpen opens the example with the private key that
// PROTOCOL.md gives away, by what PROTOCOL.md says alone.
func TestTheSealedKeysOfTheProtocolOpen(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	private, err := hex.DecodeString(regexp.MustCompile("private half of the key above is `([0-9a-f]{64})`").FindStringSubmatch(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	var asked []OpenCMEKRotation
	for _, e := range examples(t) {
		if e.path == CMEKRotation.Path {
			items, _, err := CMEKRotation.ParseRequestJSON([]byte(e.request.json))
			if err != nil {
				t.Fatal(err)
			}
			asked = append(asked, items...)
		}
	}
	if len(asked) != 2 {
		t.Fatalf("%d examples, want one with raw keys and one with the same sealed", len(asked))
	}
	if got := openAsWritten(t, private, asked[1]); !bytes.Equal(got, append(bytes.Clone(asked[0].Old), asked[0].New...)) {
		t.Errorf("the sealed keys are %x", got)
	}
}

func openAsWritten(t *testing.T, private []byte, o OpenCMEKRotation) []byte {
	t.Helper()
	kem, err := hpke.NewKEM(0x0010)
	if err != nil {
		t.Fatal(err)
	}
	kdf, err := hpke.NewKDF(0x0001)
	if err != nil {
		t.Fatal(err)
	}
	suite, err := hpke.NewAEAD(0x0002)
	if err != nil {
		t.Fatal(err)
	}
	key, err := kem.NewPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	info := "keyfold/cmek-rotation/v1\n" + o.Vault + "\n" + o.OldFingerprint + "\n" + o.NewFingerprint
	r, err := hpke.NewRecipient(o.Sealed.Enc, key, kdf, suite, []byte(info))
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := r.Open(nil, o.Sealed.Ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	if got := CMEKRotationInfo(o.Vault, o.OldFingerprint, o.NewFingerprint); string(got) != info {
		t.Errorf("CMEKRotationInfo is %q", got)
	}
	return plaintext
}

func TestACustomersKeysAreNotPrinted(t *testing.T) {
	o := OpenCMEKRotation{Vault: "v", Old: []byte("the old key, which nobody prints"), New: []byte("the new key, which nobody prints")}
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	for _, v := range []any{o, &o, []OpenCMEKRotation{o}, struct{ O OpenCMEKRotation }{o}, map[string]any{"o": o}} {
		fmt.Fprintf(&out, "%v %+v %#v %s %q %x %X %d\n", v, v, v, v, v, v, v, v)
	}
	log.Info("x", "o", o, "p", &o)
	for _, key := range [][]byte{o.Old, o.New} {
		for _, form := range []string{string(key[:8]), base64.StdEncoding.EncodeToString(key)[:16], hex.EncodeToString(key)[:16], strings.ToUpper(hex.EncodeToString(key)[:16]), strings.Trim(fmt.Sprint(key[:4]), "[]")} {
			if strings.Contains(out.String(), form) {
				t.Errorf("a key turns up as %s in %s", form, &out)
			}
		}
	}
}
