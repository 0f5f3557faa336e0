package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

func values() []any {
	rows := good()
	rows = append(rows, notOpening()...)
	rows = append(rows, flipped()...)
	rows = append(rows, cut()...)
	rows = append(rows, versions()...)
	return append(rows, encodings()...)
}

// base64Row has the shape of a blob in the documented form; text is its bytes.
func base64Row(name string, raw, blob []byte) valueRow {
	version, size := 1, len(blob)-29
	return valueRow{Name: name, Key: hex.EncodeToString(raw), Value: b64(blob), Form: "base64", Version: &version, Size: &size}
}

// hexRow has the shape of the older form; sealed is nonce | ciphertext | tag.
func hexRow(name string, raw, sealed []byte) valueRow {
	version, size := 0, len(sealed)-28
	return valueRow{Name: name, Key: hex.EncodeToString(raw), Value: hex.EncodeToString(sealed), Form: "hex", Version: &version, Size: &size}
}

func (r valueRow) opens(plaintext []byte) valueRow {
	text := b64(plaintext)
	r.Plaintext = &text
	return r
}

func (r valueRow) fails(class string) valueRow {
	r.Class = class
	return r
}

// shapeless is a text that fails before any key is asked.
func shapeless(name, text, class string) valueRow {
	return valueRow{Name: name, Key: hex.EncodeToString(key), Value: text, Class: class}
}

func good() []any {
	var rows []any
	both := func(name string, raw, nonce, plaintext []byte) {
		sealed := sealWith(raw, nonce, plaintext, nil)
		rows = append(rows, base64Row(name+", base64", raw, append([]byte{1}, sealed...)).opens(plaintext))
		rows = append(rows, hexRow(name+", hex", raw, sealed).opens(plaintext))
	}
	for _, c := range []struct{ name, plaintext string }{
		{"empty", ""},
		{"contract, ASCII", "my-secret-value"},
		{"contract, unicode", "ключ🔑"},
		{"one byte", "x"},
		{"two bytes", "xy"},
		{"a NUL", "\x00"},
		{"line breaks", "a\r\nb\n"},
		{"quotes and escapes", `{"a":"\"\\\u0000"}`},
		{"composed and decomposed", "\u00e9 e\u0301"},
		{"not UTF-8", "\xff\xfe\x80"},
		{"a byte order mark", "\ufeffx"},
		{"one block", strings.Repeat("a", 16)},
		{"one block and a byte", strings.Repeat("a", 17)},
		{"a blob inside", b64(blob([]byte("inner")))},
	} {
		both(c.name, key, nonce, []byte(c.plaintext))
	}
	both("every byte", key, nonce, counting(256, 0))
	both("1000 bytes", key, nonce, bytes.Repeat([]byte("0123456789"), 100))
	both("another key", otherKey, nonce, []byte("my-secret-value"))
	both("key with + and / in base64", urlKey, nonce, []byte("my-secret-value"))
	both("nonce of zeros", key, make([]byte, 12), []byte("my-secret-value"))
	both("nonce of ones", key, bytes.Repeat([]byte{0xff}, 12), []byte("my-secret-value"))
	rows = append(rows, twoKeysRows()...)
	return rows
}

// twoKeysRows are one value that two keys open: version 1 does not commit to a key.
func twoKeysRows() []any {
	sealed, under := twoKeys(key, otherKey, nil, nil)
	_, underOther := twoKeys(otherKey, key, nil, nil)
	value := append([]byte{1}, sealed...)
	return []any{
		base64Row("a tag that fits two keys, the one", key, value).opens(under),
		base64Row("a tag that fits two keys, the other", otherKey, value).opens(underOther),
	}
}

func notOpening() []any {
	plaintext := []byte("my-secret-value")
	sealed := sealWith(key, nonce, plaintext, nil)
	digest := sha256.Sum256(plaintext)
	last := bytes.Clone(key)
	last[31] ^= 0x80
	return []any{
		base64Row("wrong key, base64", otherKey, blob(plaintext)).fails("wrong_key"),
		hexRow("wrong key, hex", otherKey, sealed).fails("wrong_key"),
		base64Row("wrong key, empty plaintext", otherKey, blob(nil)).fails("wrong_key"),
		base64Row("wrong key by one bit", last, blob(plaintext)).fails("wrong_key"),
		base64Row("sealed with AAD", key, append([]byte{1}, sealWith(key, nonce, plaintext, []byte("x"))...)).fails("tampered"),
		base64Row("sealed with the version byte as AAD", key, append([]byte{1}, sealWith(key, nonce, plaintext, []byte{1})...)).fails("tampered"),
		base64Row("tag before ciphertext", key, append(append(blob(nil)[:13:13], sealed[len(sealed)-16:]...), sealed[12:len(sealed)-16]...)).fails("tampered"),
		base64Row("nothing but zeros", key, append([]byte{1}, make([]byte, 28)...)).fails("tampered"),
		base64Row("base64 of nothing but hex digits", key, digitsBlob()).fails("tampered"),
		hexRow("documented bytes in hex", key, blob(plaintext)).fails("tampered"),
		hexRow("a SHA-256 digest, never encrypted", key, digest[:]).fails("tampered"),
		hexRow("hex digits that are decimal", key, bytes.Repeat([]byte{0x12}, 28)).fails("tampered"),
	}
}

// digitsBlob has the base64 text "Aa00...": all hex digits, but of both cases.
func digitsBlob() []byte {
	b, _ := base64.StdEncoding.DecodeString("Aa" + strings.Repeat("0", 38))
	return b
}

// flipped changes one bit of every byte, in both forms.
func flipped() []any {
	full := blob([]byte("my-secret-value"))
	rows := []any{shapeless("flipped version byte", b64(flip(full, 0)), "unknown_version")}
	part := func(i int) string {
		switch {
		case i < 13:
			return "nonce"
		case i < len(full)-16:
			return "ciphertext"
		}
		return "tag"
	}
	for i := 1; i < len(full); i++ {
		name := fmt.Sprintf("flipped byte %d of the blob, in the %s", i, part(i))
		rows = append(rows, base64Row(name+", base64", key, flip(full, i)).fails("tampered"))
		rows = append(rows, hexRow(name+", hex", key, flip(full, i)[1:]).fails("tampered"))
	}
	return rows
}

// cut shortens and lengthens a blob, in both forms.
func cut() []any {
	full := blob([]byte("my-secret-value"))
	var rows []any
	for n := range len(full) {
		name := fmt.Sprintf("first %d bytes of the blob", n)
		if n < 29 {
			rows = append(rows, shapeless(name+", base64", b64(full[:n]), "too_short"))
		} else {
			rows = append(rows, base64Row(name+", base64", key, full[:n]).fails("tampered"))
		}
		if n > 1 && n < 29 {
			rows = append(rows, shapeless(name+", hex", hex.EncodeToString(full[1:n]), "too_short"))
		} else if n > 1 {
			rows = append(rows, hexRow(name+", hex", key, full[1:n]).fails("tampered"))
		}
	}
	longer := append(bytes.Clone(full), 0)
	return append(rows,
		base64Row("one byte more, base64", key, longer).fails("tampered"),
		hexRow("one byte more, hex", key, longer[1:]).fails("tampered"),
		base64Row("the blob twice", key, append(bytes.Clone(full), full...)).fails("tampered"),
	)
}

func versions() []any {
	var rows []any
	for _, v := range []byte{0x00, 0x03, 0x04, 0x10, 0x31, 0x41, 0x67, 0x80, 0xcf, 0xff} {
		b := blob([]byte("my-secret-value"))
		b[0] = v
		rows = append(rows, shapeless(fmt.Sprintf("version 0x%02x", v), b64(b), "unknown_version"))
	}
	bare := blob([]byte("my-secret-value"))[1:]
	bare[0] = 0x03
	return append(rows,
		shapeless("version 0x02 of fewer than 93 bytes", b64(append([]byte{2}, make([]byte, 91)...)), "too_short"),
		v2Row("bound, without a context", key, boundBlob(key, vaultID, path, []byte("my-secret-value"))).fails("needs_context"),
		v2Row("bound, nothing but zeros", key, append([]byte{2}, make([]byte, 92)...)).fails("needs_context"),
		shapeless("no version byte, base64", b64(bare), "unknown_version"),
		shapeless("too short before unknown version", b64(make([]byte, 28)), "too_short"),
		shapeless("unknown version at 29 bytes", b64(make([]byte, 29)), "unknown_version"),
	)
}

// encodings are texts that a lenient reader takes for the blob, and texts that
// are no blob at all.
func encodings() []any {
	one := b64(blob([]byte("x")))                // ends with no "="
	padded := b64(blob(nil))                     // ends with one "="
	twice := b64(blob([]byte("xy")))             // ends with "=="
	plus := b64(blob([]byte("my-secret-value"))) // holds + and /
	older := hex.EncodeToString(sealWith(key, nonce, []byte("my-secret-value"), nil))
	var rows []any
	for _, c := range []struct{ name, text string }{
		{"URL alphabet", strings.NewReplacer("+", "-", "/", "_").Replace(plus)},
		{"padding left out", strings.TrimRight(padded, "=")},
		{"double padding left out", strings.TrimRight(twice, "=")},
		{"half of double padding", strings.TrimSuffix(twice, "=")},
		{"padding too many", padded + "="},
		{"padding where none belongs", one + "===="},
		{"spare bits set, one =", spareBit(padded, 1)},
		{"spare bits set, two =", spareBit(twice, 2)},
		{"line break at the end", padded + "\n"},
		{"line break in the middle", padded[:20] + "\n" + padded[20:]},
		{"CRLF in the middle", padded[:20] + "\r\n" + padded[20:]},
		{"carriage return at the start", "\r" + padded},
		{"space before", " " + padded},
		{"space after", padded + " "},
		{"space in the middle", padded[:20] + " " + padded[20:]},
		{"tab after", padded + "\t"},
		{"NUL after", padded + "\x00"},
		{"byte order mark before", "\ufeff" + padded},
		{"two values joined", padded + padded},
		{"one character lost", padded[:len(padded)-1]},
		{"first character lost", padded[1:]},
		{"character outside of the alphabet", "AQ*" + padded[3:]},
		{"quoted", `"` + padded + `"`},
		{"data URL", "data:;base64," + padded},
		{"full-width letters", "\uff21\uff31" + padded[2:]},
		{"hex in upper case", strings.ToUpper(older)},
		{"hex with one letter in upper case", strings.Replace(older, "a", "A", 1)},
		{"hex of an odd length", older[:len(older)-1]},
		{"hex of an odd length, short", "abc"},
		{"hex with a line break", older + "\n"},
		{"hex with a space", older[:2] + " " + older[2:]},
		{"hex with colons", strings.ReplaceAll(older[:60], "0", ":")},
		{"plain text", "my-secret-value"},
		{"plain words", "correct horse battery staple"},
		{"a PEM header", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"},
		{"JSON", `{"value":"` + padded + `"}`},
		{"unicode", "ключ🔑"},
		{"one space", " "},
	} {
		rows = append(rows, shapeless(c.name, c.text, "bad_encoding"))
	}
	for _, c := range []struct{ name, text string }{
		{"plain text that is base64 of few bytes", "password"},
		{"hex of 54 characters", older[:54]},
		{"two hex digits", "00"},
		{"blob text, encoded again and cut", b64([]byte(padded))[:36]},
	} {
		rows = append(rows, shapeless(c.name, c.text, "too_short"))
	}
	return append(rows,
		shapeless("encoded twice", b64([]byte(padded)), "unknown_version"),
		shapeless("hex with a 0x", "0x"+older, "unknown_version"),
		shapeless("plain text in base64", b64([]byte("a value that was never encrypted")), "unknown_version"),
	)
}

// spareBit sets the lowest bit of the last character before n signs of
// padding: a bit that belongs to no byte.
func spareBit(text string, n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	at := len(text) - n - 1
	next := alphabet[strings.IndexByte(alphabet, text[at])|1]
	return text[:at] + string(next) + text[at+1:]
}
