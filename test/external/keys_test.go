package external

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// keys is every key of a data directory, raw, by a name for people.
type keys struct {
	t       testing.TB
	root    []byte
	keks    map[string][]byte // by ID and version
	threads map[string][]byte // DEKs, by key ID
	secrets map[string][]byte // DEKs, by row
	wrapped map[string][]byte // of secrets, as they lie in the row
}

// readKeys unwraps all keys of dir with its root key file, by the formats that
// package keyring's fileroot.go and row.go, package kms's row.go and package
// vault's rows.go document. No process may have the directory open.
func readKeys(t testing.TB, dir string) keys {
	t.Helper()
	k := keys{t: t, keks: map[string][]byte{}, threads: map[string][]byte{}, secrets: map[string][]byte{}, wrapped: map[string][]byte{}}
	text, err := os.ReadFile(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			if k.root, err = base64.StdEncoding.DecodeString(line); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows := readRows(t, filepath.Join(dir, "kms"))
	for _, rec := range rows {
		if id, ok := strings.CutPrefix(rec.Key, "kek:"); ok {
			k.addKEK(id, rec.Value)
		}
	}
	for _, rec := range rows {
		if id, ok := strings.CutPrefix(rec.Key, "dek:"); ok {
			k.addThread(id, rec.Value)
		}
	}
	for _, rec := range readRows(t, filepath.Join(dir, "server")) {
		if part := strings.Split(rec.Key, ":"); len(part) == 5 && part[0] == "vault" && part[2] == "version" {
			k.addSecret(part[1], part[3], part[4], rec.Value)
		}
	}
	return k
}

func readRows(t testing.TB, dir string) (all []store.Record) {
	t.Helper()
	st, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for rec, err := range store.All(t.Context(), st, store.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
	}
	return all
}

// open is what raw opens.
func (k keys) open(raw, sealed, aad []byte) []byte {
	k.t.Helper()
	key, err := aead.NewKey(raw)
	if err != nil {
		k.t.Fatal(err)
	}
	plaintext, err := key.Open(sealed, aad)
	if err != nil || len(plaintext) != aead.KeySize {
		k.t.Fatalf("a key does not unwrap by the documented formats: %d bytes, %v", len(plaintext), err)
	}
	return plaintext
}

func kekName(id string, version uint32) string {
	return id + "/" + strconv.FormatUint(uint64(version), 10)
}

func (k keys) unwrap(kekID string, version uint32, wrapped, aad []byte) []byte {
	k.t.Helper()
	aad = aead.AAD("keyfold/wrapped-dek/v1", kekID, strconv.FormatUint(uint64(version), 10), string(aad))
	return k.open(k.keks[kekName(kekID, version)], wrapped, aad)
}

func (k keys) addKEK(id string, row []byte) {
	var versions []struct {
		Version uint32
		Stored  []byte
	}
	if err := json.Unmarshal(row[aead.KeySize+aead.Overhead:], &versions); err != nil {
		k.t.Fatal(err)
	}
	for _, v := range versions {
		aad := aead.AAD("keyfold/kek/v1", id, strconv.FormatUint(uint64(v.Version), 10))
		k.keks[kekName(id, v.Version)] = k.open(k.root, v.Stored, aad)
	}
}

func (k keys) addThread(id string, row []byte) {
	var rec struct {
		ThreadID   string `json:"thread_id"`
		KEKID      string `json:"kek_id"`
		KEKVersion uint32 `json:"kek_version"`
		Wrapped    []byte
	}
	if err := json.Unmarshal(row[aead.Overhead:], &rec); err != nil {
		k.t.Fatal(err)
	}
	k.threads[id] = k.unwrap(rec.KEKID, rec.KEKVersion, rec.Wrapped, aead.AAD("keyfold/thread-dek/v1", id, rec.ThreadID))
}

// envelope is what lies in a version row, as package vault's rows.go has it.
type envelope struct {
	kek                             string
	version                         uint32
	attributes, wrapped, ciphertext []byte
}

func takeApart(row []byte) (e envelope) {
	r := bytes.NewBuffer(row[1:])
	e.attributes = r.Next(int(binary.BigEndian.Uint32(r.Next(4))))
	e.kek = string(r.Next(int(r.Next(1)[0])))
	e.version = binary.BigEndian.Uint32(r.Next(4))
	e.wrapped = bytes.Clone(r.Next(int(binary.BigEndian.Uint16(r.Next(2)))))
	e.ciphertext = r.Bytes()
	return e
}

// aad is what the server binds the version to.
func (e envelope) aad(vault, path, version string) []byte {
	digest := sha256.Sum256(e.attributes)
	return aead.AAD("keyfold/secret/v1", vault, path, strings.TrimLeft(version, "0"), string(digest[:]))
}

func (k keys) addSecret(vault, path, version string, row []byte) {
	e := takeApart(row)
	name := vault + ":" + path + ":" + version
	k.wrapped[name] = e.wrapped
	k.secrets[name] = k.unwrap(e.kek, e.version, e.wrapped, aead.AAD("keyfold/envelope/v1", e.kek, string(e.aad(vault, path, version))))
}
