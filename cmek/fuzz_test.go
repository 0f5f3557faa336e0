package cmek

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzBlob holds the law of one text: whatever parses is written back as the
// same text, and is of one form only.
func FuzzBlob(f *testing.F) {
	for _, v := range readVectors(f).Values {
		f.Add(v.Value)
	}
	for _, v := range readVectors(f).Bound {
		f.Add(v.Value)
	}
	k := Generate()
	f.Fuzz(func(t *testing.T, value string) {
		blob, base64Err := decodeBase64(value)
		if base64Err == nil {
			_, _, base64Err = parseBlob(blob)
		}
		_, hexErr := parseHex(value)
		if isHex := hexErr == nil && isLowerHex(value); isHex && base64Err == nil {
			t.Fatalf("%q is of both forms", value)
		} else if _, err := Inspect(value); (err == nil) != (isHex || base64Err == nil) {
			t.Fatalf("%q: Inspect says %v", value, err)
		}

		s, body, err := parseValue(value)
		if back := formatBlob(s.form, append([]byte{s.version}, body...)); err == nil && back != value {
			t.Fatalf("%q parses and is written back as %q", value, back)
		}
		if err != nil && !errors.Is(err, ErrNotBlob) {
			t.Fatalf("%q: %v is no error of shape", value, err)
		}
		if err == nil {
			err = ErrDecrypt
		}
		if _, got := DecryptValueAt(k, here, value); got != err {
			t.Fatalf("%q: DecryptValueAt says %v, want %v", value, got, err)
		}
		if s.version == boundVersion && err == ErrDecrypt {
			err = ErrNeedsContext
		}
		if _, got := DecryptValue(k, value); got != err {
			t.Fatalf("%q: DecryptValue says %v, want %v", value, got, err)
		}
	})
}

// FuzzKeyFile: whatever is read as a key is written, and read back, as the same key.
func FuzzKeyFile(f *testing.F) {
	for _, v := range readVectors(f).KeyFiles {
		f.Add(v.File)
	}
	for _, v := range readVectors(f).KeyTexts {
		f.Add([]byte(v.Text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		k, err := ParseKeyFile(data)
		if !bytes.Equal(data, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			return
		}
		text, err := MarshalKeyFile(k, KeyFileInfo{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseKeyFile(text)
		if err != nil || !bytes.Equal(again.Bytes(), k.Bytes()) {
			t.Fatalf("read back: %v", err)
		}
	})
}
