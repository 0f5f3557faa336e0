package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	vaultID    = "7f1e7d0c-5f43-4c8c-8e0b-6f1d6f0a2b11"
	otherVault = "7f1e7d0c-5f43-4c8c-8e0b-6f1d6f0a2b12"
	path       = "db/password"
)

var salt = counting(32, 64) // 40 41 .. 5f

// boundRow is a value as it is opened at a vault and a path.
type boundRow struct {
	valueRow
	Vault string `json:"vault"`
	Path  string `json:"path"`
}

type checkRow struct {
	Name    string `json:"name"`
	Key     string `json:"key"`
	Vault   string `json:"vault"`
	Check   string `json:"check"`
	Matches bool   `json:"matches"`
}

// expand is HKDF-SHA256 (RFC 5869) written out: extract, then blocks of 32 bytes.
func expand(secret, salt []byte, info string, size int) []byte {
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	var out, block []byte
	prk := mac(salt, secret)
	for i := byte(1); len(out) < size; i++ {
		block = mac(prk, block, []byte(info), []byte{i})
		out = append(out, block...)
	}
	return out[:size]
}

// aad is the version 0x01 of the AAD encoding: each field behind its length.
func aad(fields ...string) []byte {
	out := []byte{1}
	for _, f := range fields {
		out = binary.BigEndian.AppendUint64(out, uint64(len(f)))
		out = append(out, f...)
	}
	return out
}

func boundAAD(raw []byte, vault, path string) []byte {
	return aad("keyfold/cmek/v2", vault, path, fingerprint(raw))
}

// boundKeys are the commitment and the sealing key of raw with salt.
func boundKeys(raw []byte) (commitment, sealing []byte) {
	both := expand(raw, salt, "keyfold/cmek/v2", 64)
	return both[:32], both[32:]
}

// boundWith returns a bound blob of the given parts, right or wrong.
func boundWith(commitment, sealing, plaintext, aad []byte) []byte {
	out := append([]byte{2}, salt...)
	return append(append(out, commitment...), sealWith(sealing, nonce, plaintext, aad)...)
}

func boundBlob(raw []byte, vault, path string, plaintext []byte) []byte {
	commitment, sealing := boundKeys(raw)
	return boundWith(commitment, sealing, plaintext, boundAAD(raw, vault, path))
}

// at makes row one that is opened at a place.
func (r valueRow) at(vault, path string) boundRow { return boundRow{r, vault, path} }

// v2Row has the shape of a bound blob.
func v2Row(name string, raw, blob []byte) valueRow {
	version, size := 2, len(blob)-93
	return valueRow{Name: name, Key: hex.EncodeToString(raw), Value: b64(blob), Form: "base64", Version: &version, Size: &size}
}

func bound() []any {
	rows := boundGood()
	rows = append(rows, boundMoved()...)
	rows = append(rows, boundForged()...)
	rows = append(rows, boundFlipped()...)
	rows = append(rows, boundCut()...)
	return append(rows, needingContext()...)
}

func boundGood() []any {
	var rows []any
	good := func(name string, raw []byte, vault, path string, plaintext []byte) {
		rows = append(rows, v2Row(name, raw, boundBlob(raw, vault, path, plaintext)).opens(plaintext).at(vault, path))
	}
	good("ASCII", key, vaultID, path, []byte("my-secret-value"))
	good("empty", key, vaultID, path, nil)
	good("unicode", key, vaultID, path, []byte("ключ🔑"))
	good("every byte", key, vaultID, path, counting(256, 0))
	good("1000 bytes", key, vaultID, path, bytes.Repeat([]byte("0123456789"), 100))
	good("another key", otherKey, vaultID, path, []byte("my-secret-value"))
	good("another vault", key, otherVault, path, []byte("my-secret-value"))
	good("another path", key, vaultID, "db/password-2", []byte("my-secret-value"))
	good("path beyond ASCII", key, vaultID, "база/пароль🔑", []byte("my-secret-value"))
	good("path of 256 bytes", key, vaultID, strings.Repeat("a", 256), []byte("my-secret-value"))
	good("a blob inside", key, vaultID, path, boundBlob(key, vaultID, path, nil))
	good("body of a message", key, "thread:"+vaultID, "message", []byte(`{"text":"ключ🔑"}`))
	plaintext := []byte("my-secret-value")
	return append(rows,
		base64Row("version 1, base64", key, blob(plaintext)).opens(plaintext).at(vaultID, path),
		hexRow("version 1, hex", key, blob(plaintext)[1:]).opens(plaintext).at(vaultID, path),
		base64Row("version 1 without a context", key, blob(plaintext)).opens(plaintext).at("", ""),
	)
}

// boundMoved are blobs that somebody took to another place.
func boundMoved() []any {
	row := v2Row("", key, boundBlob(key, vaultID, path, []byte("my-secret-value"))).fails("moved")
	var rows []any
	for _, c := range []struct{ name, vault, path string }{
		{"to another vault", otherVault, path},
		{"to another path", vaultID, "db/other"},
		{"to another vault and path", otherVault, "db/other"},
		{"vault in upper case", strings.ToUpper(vaultID), path},
		{"path in upper case", vaultID, "DB/PASSWORD"},
		{"path with a slash before", vaultID, "/" + path},
		{"path with a slash after", vaultID, path + "/"},
		{"path cut by one", vaultID, path[:len(path)-1]},
		{"path longer by a NUL", vaultID, path + "\x00"},
		{"vault and path changed about", path, vaultID},
		{"one character from the vault to the path", vaultID[:len(vaultID)-1], vaultID[len(vaultID)-1:] + path},
		{"one character from the path to the vault", vaultID + path[:1], path[1:]},
	} {
		row.Name = "moved: " + c.name
		rows = append(rows, row.at(c.vault, c.path))
	}
	return rows
}

// boundForged are blobs of somebody who does not follow the format, some of
// them with a key.
func boundForged() []any {
	plaintext := []byte("my-secret-value")
	commitment, sealing := boundKeys(key)
	otherCommitment, otherSealing := boundKeys(otherKey)
	last := bytes.Clone(key)
	last[31] ^= 0x80
	good := boundBlob(key, vaultID, path, plaintext)
	with := func(aad []byte) []byte { return boundWith(commitment, sealing, plaintext, aad) }
	both, garbage := twoKeys(sealing, otherSealing, boundAAD(key, vaultID, path), boundAAD(otherKey, vaultID, path))
	twice := append(bytes.Clone(good[:65]), both...)
	oneTwice := append([]byte{1}, good[1:]...)
	twoOnce := append([]byte{2}, blob(bytes.Repeat(plaintext, 5))[1:]...)
	var rows []any
	add := func(name, class string, raw, blob []byte) {
		rows = append(rows, v2Row(name, raw, blob).fails(class).at(vaultID, path))
	}
	add("wrong key", "wrong_key", otherKey, good)
	add("wrong key by one bit", "wrong_key", last, good)
	rows = append(rows, v2Row("a tag that fits two keys, the committed one", key, twice).opens(garbage).at(vaultID, path))
	add("a tag that fits two keys, the other one", "uncommitted", otherKey, twice)
	add("commitment to another key", "uncommitted", key, boundWith(otherCommitment, sealing, plaintext, boundAAD(key, vaultID, path)))
	add("commitment and sealing key changed about", "uncommitted", key, boundWith(sealing, commitment, plaintext, boundAAD(key, vaultID, path)))
	add("commitment of zeros", "uncommitted", key, boundWith(make([]byte, 32), sealing, plaintext, boundAAD(key, vaultID, path)))
	add("sealed with the key itself", "tampered", key, boundWith(commitment, key, plaintext, boundAAD(key, vaultID, path)))
	add("sealed with the sealing key of another", "tampered", key, boundWith(commitment, otherSealing, plaintext, boundAAD(key, vaultID, path)))
	add("sealed without AAD", "tampered", key, with(nil))
	add("sealed with the AAD of no fingerprint", "tampered", key, with(aad("keyfold/cmek/v2", vaultID, path)))
	add("sealed with the AAD of another key", "tampered", key, with(boundAAD(otherKey, vaultID, path)))
	add("sealed with an AAD of another kind", "tampered", key, with(aad("keyfold/cmek/v1", vaultID, path, fingerprint(key))))
	add("sealed with an AAD without lengths", "tampered", key, with([]byte("keyfold/cmek/v2"+vaultID+path+fingerprint(key))))
	add("version byte of version 1 made that of version 2", "uncommitted", key, twoOnce)
	return append(rows,
		base64Row("version byte of version 2 made that of version 1", key, oneTwice).fails("tampered").at(vaultID, path),
		hexRow("documented bytes in hex, bound", key, good).fails("tampered").at(vaultID, path),
		hexRow("without the version byte in hex, bound", key, good[1:]).fails("tampered").at(vaultID, path),
	)
}

// boundFlipped changes one bit of every byte behind the version byte.
func boundFlipped() []any {
	full := boundBlob(key, vaultID, path, []byte("my-secret-value"))
	var rows []any
	for i := 1; i < len(full); i++ {
		part, class := "tag", "tampered"
		switch {
		case i < 33:
			part, class = "salt", "uncommitted"
		case i < 65:
			part, class = "commitment", "uncommitted"
		case i < 77:
			part = "nonce"
		case i < len(full)-16:
			part = "ciphertext"
		}
		name := fmt.Sprintf("flipped byte %d of the bound blob, in the %s", i, part)
		rows = append(rows, v2Row(name, key, flip(full, i)).fails(class).at(vaultID, path))
	}
	return rows
}

func boundCut() []any {
	full := boundBlob(key, vaultID, path, []byte("my-secret-value"))
	var rows []any
	for n := range len(full) {
		name := fmt.Sprintf("first %d bytes of the bound blob", n)
		if n < 93 {
			rows = append(rows, shapeless(name, b64(full[:n]), "too_short").at(vaultID, path))
		} else {
			rows = append(rows, v2Row(name, key, full[:n]).fails("tampered").at(vaultID, path))
		}
	}
	return append(rows, v2Row("one byte more, bound", key, append(bytes.Clone(full), 0)).fails("tampered").at(vaultID, path))
}

// needingContext are bound blobs without their place. Shape goes first.
func needingContext() []any {
	full := boundBlob(key, vaultID, path, []byte("my-secret-value"))
	row := func(name string) valueRow { return v2Row(name, key, full).fails("needs_context") }
	return []any{
		row("no vault and no path").at("", ""),
		row("no vault").at("", path),
		row("no path").at(vaultID, ""),
		v2Row("no vault and no path, and another key", otherKey, full).fails("needs_context").at("", ""),
		shapeless("too short before needs context", b64(full[:92]), "too_short").at("", ""),
		shapeless("unknown version before needs context", b64(append([]byte{3}, full[1:]...)), "unknown_version").at("", ""),
		shapeless("padding left out, bound", strings.TrimRight(b64(full[:107]), "="), "bad_encoding").at(vaultID, path),
	}
}

func check(raw []byte, vault string) string {
	h := hmac.New(sha256.New, expand(raw, nil, "keyfold/cmek/check/v1", 32))
	h.Write([]byte(vault))
	return hex.EncodeToString(h.Sum(nil))
}

func checks() []any {
	var rows []any
	add := func(name string, raw []byte, vault, check string, matches bool) {
		rows = append(rows, checkRow{name, hex.EncodeToString(raw), vault, check, matches})
	}
	good := check(key, vaultID)
	last := bytes.Clone(key)
	last[31] ^= 0x80
	add("a vault", key, vaultID, good, true)
	add("another vault", key, otherVault, check(key, otherVault), true)
	add("another key", otherKey, vaultID, check(otherKey, vaultID), true)
	add("no vault ID", key, "", check(key, ""), true)
	add("check of another vault", key, otherVault, good, false)
	add("check of another key", otherKey, vaultID, good, false)
	add("check of another key by one bit", last, vaultID, good, false)
	add("vault ID in upper case", key, strings.ToUpper(vaultID), good, false)
	add("check in upper case", key, vaultID, strings.ToUpper(good), false)
	add("check cut by one", key, vaultID, good[:63], false)
	add("check longer by one", key, vaultID, good+"0", false)
	add("no check", key, vaultID, "", false)
	add("the fingerprint", key, vaultID, fingerprint(key), false)
	return rows
}
