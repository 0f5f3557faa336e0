package cmek

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

func TestGenerateIsFresh(t *testing.T) {
	a, b := Generate(), Generate()
	if len(a.Bytes()) != KeySize || bytes.Equal(a.Bytes(), b.Bytes()) || bytes.Equal(a.Bytes(), make([]byte, KeySize)) {
		t.Error("a short, a repeated or a zero key")
	}
	if !ValidFingerprint(a.Fingerprint()) {
		t.Errorf("fingerprint %q", a.Fingerprint())
	}
}

func TestAKeyIs32Bytes(t *testing.T) {
	for n := range 65 {
		k, err := NewKey(make([]byte, n))
		if n != KeySize && (!errors.Is(err, ErrKeySize) || k != nil) {
			t.Errorf("%d bytes: %v, %v", n, k, err)
		}
	}
}

func TestNewKeyAndBytesCopy(t *testing.T) {
	raw := countingKey(t).Bytes()
	k := newKey(t, raw)
	clear(raw)
	clear(k.Bytes())
	if !bytes.Equal(k.Bytes(), countingKey(t).Bytes()) {
		t.Error("the key changed with a slice of the caller")
	}
}

func TestAWipedKeyIsOfNoUse(t *testing.T) {
	k := countingKey(t)
	raw := k.m.raw.Load()
	k.Wipe()
	k.Wipe() // again is fine
	if !bytes.Equal(raw[:], make([]byte, KeySize)) || len(k.Bytes()) != 0 {
		t.Error("raw bytes are left")
	}
	if blob, err := Encrypt(k, nil); err == nil || blob != nil {
		t.Errorf("Encrypt = %x, %v", blob, err)
	}
	if value, err := EncryptValue(k, nil); err == nil || value != "" {
		t.Errorf("EncryptValue = %s, %v", value, err)
	}
	if text, err := MarshalKeyFile(k, KeyFileInfo{}); err == nil || text != nil {
		t.Errorf("MarshalKeyFile = %s, %v", text, err)
	}
	if k.Fingerprint() != countingFingerprint {
		t.Error("the fingerprint is gone")
	}
}

// For the race detector.
func TestWipeMayRunBesideUse(t *testing.T) {
	k := Generate()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				EncryptValue(k, nil)
				k.Bytes()
				MarshalKeyFile(k, KeyFileInfo{})
			}
		})
	}
	k.Wipe()
	wg.Wait()
}

var verbs = []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%b", "%o", "%c", "%U", "%t", "%e", "%z", "%50v", "%.3s"}

func TestAKeyPrintsRedacted(t *testing.T) {
	k := countingKey(t)
	for _, verb := range verbs {
		for _, v := range []any{k, *k} {
			if got := fmt.Sprintf(verb, v); got != "[redacted]" {
				t.Errorf("%s of a %T prints %q", verb, v, got)
			}
		}
	}
	if k.String() != "[redacted]" || k.GoString() != "[redacted]" || k.LogValue().String() != "[redacted]" {
		t.Error("a printing method shows something else")
	}
}

// hidden holds a key where fmt and the encoders cannot reach its methods.
type hidden struct {
	p *Key
	v Key
}

func TestNoPrinterShowsTheRawKey(t *testing.T) {
	raw := bytes.Repeat([]byte{0xa1, 0xb2, 0xc3, 0xd4}, 8)
	k := newKey(t, raw)
	values := []any{k, *k, hidden{k, *k}, &hidden{k, *k}, []Key{*k}, map[string]*Key{"k": k}, struct{ K *Key }{k}, struct{ K Key }{*k}}
	var out bytes.Buffer
	text, asJSON := slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))
	for _, v := range values {
		b, _ := json.Marshal(v)
		out.Write(b)
		for _, verb := range verbs {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		text.Info("a key", "k", v)
		asJSON.Info("a key", "k", v)
	}
	for _, form := range []string{
		string(raw[:4]), "a1b2c3d4", "A1B2C3D4", "a1 b2 c3", "161 178 195", "161,178,195", "0xa1, 0xb2", "obLD1K", `\xa1\xb2`,
	} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the raw key shows as %q in:\n%s", form, out.String())
		}
	}
	if n := strings.Count(out.String(), `k=[redacted]`) + strings.Count(out.String(), `"k":"[redacted]"`); n != 4 {
		t.Errorf("slog shows %d of 4 keys as redacted", n)
	}
}

func TestMarshalRefuses(t *testing.T) {
	k := countingKey(t)
	for _, v := range []any{k, *k, struct{ K *Key }{k}, map[Key]int{*k: 1}, []Key{*k}} {
		if b, err := json.Marshal(v); err == nil || len(b) != 0 {
			t.Errorf("%T marshals to %s", v, b)
		}
	}
}

func TestParseKeyTextShowsNothingOfTheKey(t *testing.T) {
	text := hex.EncodeToString(countingKey(t).Bytes())
	for _, s := range []string{text[1:], text + "zz", text + text} {
		if _, err := ParseKeyText(s); err == nil || strings.Contains(err.Error(), s[:8]) {
			t.Errorf("ParseKeyText: %v", err)
		}
	}
}
