package main

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// keyTexts are keys as an environment variable may hold them.
func keyTexts() []any {
	var rows []any
	for _, c := range []struct {
		name, text string
		raw        []byte
	}{
		{"base64", b64(key), key},
		{"base64 with + and /", b64(urlKey), urlKey},
		{"base64 in the URL alphabet", base64.URLEncoding.EncodeToString(urlKey), urlKey},
		{"base64 without padding", base64.RawStdEncoding.EncodeToString(urlKey), urlKey},
		{"base64 in the URL alphabet without padding", base64.RawURLEncoding.EncodeToString(urlKey), urlKey},
		{"hex", hex.EncodeToString(key), key},
		{"hex in upper case", strings.ToUpper(hex.EncodeToString(key)), key},
		{"white space around", " \t" + b64(key) + "\r\n", key},
	} {
		rows = append(rows, keyTextRow{Name: c.name, Text: c.text, Key: hex.EncodeToString(c.raw)})
	}
	mixed := "-" + b64(urlKey)[1:]
	for _, c := range []struct{ name, text, class string }{
		{"nothing", "", "key_size"},
		{"white space only", " \n", "key_size"},
		{"base64 of 16 bytes", b64(counting(16, 0)), "key_size"},
		{"base64 of 31 bytes", b64(counting(31, 0)), "key_size"},
		{"base64 of 33 bytes", b64(counting(33, 0)), "key_size"},
		{"base64 of the hex", b64([]byte(hex.EncodeToString(key))), "key_size"},
		{"hex of 16 bytes", hex.EncodeToString(key[:16]), "key_size"},
		{"hex of 24 bytes", hex.EncodeToString(key[:24]), "key_size"},
		{"hex of 31 bytes", hex.EncodeToString(key[:31]), "key_encoding"},
		{"hex of 33 bytes", hex.EncodeToString(counting(33, 0)), "key_encoding"},
		{"a typing error in the spare bits", spareBit(b64(key), 1), "key_encoding"},
		{"one character lost", b64(key)[1:], "key_encoding"},
		{"padding too many", b64(key) + "=", "key_encoding"},
		{"both alphabets mixed", mixed, "key_encoding"},
		{"a space inside", b64(key)[:20] + " " + b64(key)[20:], "key_encoding"},
		{"a line break inside", b64(key)[:20] + "\n" + b64(key)[20:], "key_encoding"},
		{"two keys", b64(key) + " " + b64(otherKey), "key_encoding"},
		{"two keys without a space", b64(key) + b64(key), "key_encoding"},
		{"quoted", `"` + b64(key) + `"`, "key_encoding"},
		{"with a name", "KEY=" + b64(key), "key_encoding"},
		{"hex with a 0x", "0x" + hex.EncodeToString(key), "key_encoding"},
		{"hex with a letter too far", "g" + hex.EncodeToString(key)[1:], "key_size"},
		{"a passphrase", "correct horse battery staple", "key_encoding"},
		{"redacted", "[redacted]", "key_encoding"},
	} {
		rows = append(rows, keyTextRow{Name: c.name, Text: c.text, Class: c.class})
	}
	return rows
}

func keyFiles() []any {
	comment := "# fingerprint: " + fingerprint(key) + "\n"
	other := "# fingerprint: " + fingerprint(otherKey) + "\n"
	full := "# Keyfold CMEK key.\n# vault: 7f1e7d0c-5f43-4c8c-8e0b-6f1d6f0a2b11\n" + comment + "# created: 2026-11-21T23:24:00Z\n" + b64(key) + "\n"
	var rows []any
	for _, c := range []struct {
		name, file string
		raw        []byte
	}{
		{"as written", full, key},
		{"the key alone", b64(key) + "\n", key},
		{"no line break at the end", b64(key), key},
		{"CRLF", strings.ReplaceAll(full, "\n", "\r\n"), key},
		{"byte order mark", "\ufeff" + full, key},
		{"blank lines and white space", "\n \n\t" + b64(key) + " \n\n", key},
		{"comments after the key", b64(key) + "\n" + comment, key},
		{"fingerprint in upper case", "# fingerprint: " + strings.ToUpper(fingerprint(key)) + "\n" + b64(key) + "\n", key},
		{"unknown comments", "#\n# ключ: x\n#fingerprints: none\n" + b64(key) + "\n", key},
		{"a comment of the same fingerprint twice", comment + comment + b64(key) + "\n", key},
		{"URL alphabet without padding", base64.RawURLEncoding.EncodeToString(urlKey) + "\n", urlKey},
		{"hex", hex.EncodeToString(key) + "\n", key},
		{"hex in upper case, no line break", strings.ToUpper(hex.EncodeToString(key)), key},
		{"raw", string(key), key},
		{"raw, all ones", string(otherKey), otherKey},
		{"raw, begins with #", "#" + string(key[1:]), append([]byte("#"), key[1:]...)},
		{"raw, ends with a line break", string(key[:31]) + "\n", append(append([]byte{}, key[:31]...), '\n')},
	} {
		rows = append(rows, keyFileRow{c.name, b64([]byte(c.file)), hex.EncodeToString(c.raw), ""})
	}
	for _, c := range []struct{ name, file, class string }{
		{"empty", "", "no_key"},
		{"line breaks only", "\n\r\n", "no_key"},
		{"comments only", comment, "no_key"},
		{"the key in a comment", "# " + b64(key) + "\n", "no_key"},
		{"32 bytes of comment", "# this file was emptied, sorry!\n", "no_key"},
		{"two keys", b64(key) + "\n" + b64(otherKey) + "\n", "two_keys"},
		{"the same key twice", b64(key) + "\n" + b64(key) + "\n", "two_keys"},
		{"garbage after the key", b64(key) + "\nx\n", "two_keys"},
		{"garbage before the key", "key:\n" + b64(key) + "\n", "two_keys"},
		{"a PEM file", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n", "two_keys"},
		{"a comment behind the key", b64(key) + " # mine\n", "key_encoding"},
		{"garbage on the line", b64(key) + "x\n", "key_encoding"},
		{"not base64", "my key\n", "key_encoding"},
		{"a key wrapped over two lines", b64(key)[:20] + "\n" + b64(key)[20:] + "\n", "two_keys"},
		{"UTF-16", "\xff\xfe" + strings.Join(strings.Split(b64(key), ""), "\x00") + "\x00", "key_size"},
		{"base64 of 31 bytes", b64(key[:31]) + "\n", "key_size"},
		{"base64 of 33 bytes", b64(counting(33, 0)) + "\n", "key_size"},
		{"hex of 31 bytes", hex.EncodeToString(key[:31]) + "\n", "key_encoding"},
		{"32 hex digits are a key of 16 bytes", hex.EncodeToString(key[:16]), "key_size"},
		{"32 letters are text, not a raw key", "abcdefghijklmnopqrstuvwxyzABCDEF", "key_size"},
		{"raw, 16 bytes", string(key[:16]), "key_size"},
		{"raw, 31 bytes", string(key[:31]), "key_size"},
		{"raw, 33 bytes", string(counting(33, 0)), "key_size"},
		{"raw and a line break", string(key) + "\n", "key_size"},
		{"over 4096 bytes", "# " + strings.Repeat("x", 4096) + "\n" + b64(key) + "\n", "key_size"},
		{"a NUL in a comment", "# \x00\n" + b64(key) + "\n", "key_size"},
		{"fingerprint of another key", other + b64(key) + "\n", "fingerprint_mismatch"},
		{"one of two fingerprints is of another key", comment + other + b64(key) + "\n", "fingerprint_mismatch"},
		{"fingerprint after the key", b64(key) + "\n" + other, "fingerprint_mismatch"},
		{"fingerprint cut short", comment[:40] + "\n" + b64(key) + "\n", "fingerprint_mismatch"},
		{"fingerprint left empty", "# fingerprint:\n" + b64(key) + "\n", "fingerprint_mismatch"},
		{"fingerprint and another base64 key of 32 bytes", comment + b64(urlKey) + "\n", "fingerprint_mismatch"},
	} {
		rows = append(rows, keyFileRow{c.name, b64([]byte(c.file)), "", c.class})
	}
	return rows
}
