package vault

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
)

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The formats of rows.go, to the byte. A change here needs a migration.
func TestRowsAreAsTheFormatSays(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	for _, c := range []struct {
		key  string
		row  any
		want string
	}{
		{"k", vaultMeta{OrgID: "o", OwnerKind: access.User, OwnerID: "u", Name: "n", CreatedAt: at, KEKID: "vault-1"},
			"\x01" + `{"org":"o","owner_kind":"user","owner":"u","name":"n","created_at":"2030-01-02T03:04:05.000006Z","kek":"vault-1"}` + "\x5f\x4c\x21\x31"},
		{"k", secretHead{ID: "i", Version: 3, DeletedThrough: 2, Type: "note", CreatedAt: at, Metadata: `{"a": 1}`, ExpiresAt: &at},
			"\x01" + `{"id":"i","version":3,"deleted_through":2,"type":"note","created_at":"2030-01-02T03:04:05.000006Z","metadata":"{\"a\": 1}","expires_at":"2030-01-02T03:04:05.000006Z"}` + "\x0e\x10\x1f\x75"},
		{"k", secretHead{ID: "i", Version: 3, Type: "note", CreatedAt: at, CreatedBy: "user:u", Sealed: true},
			"\x01" + `{"id":"i","version":3,"type":"note","created_at":"2030-01-02T03:04:05.000006Z","created_by":"user:u","sealed":true}` + "\xc2\xa1\x54\x2d"},
		{"k", versionState{Disabled: true, Reads: 2}, "\x01" + `{"disabled":true,"reads":2}` + "\xe8\x40\xb2\xd7"},
	} {
		got, err := encodeRow(c.key, c.row)
		if err != nil || string(got) != c.want {
			t.Errorf("%T is %q, want %q (%v)", c.row, got, c.want, err)
		}
	}
	got, err := encodeVersion([]byte("{}"), kmsapi.Envelope{KEKID: "vault-1", KEKVersion: 258, WrappedDEK: []byte("wrapped"), Ciphertext: []byte("ciphertext")})
	if want := "\x01\x00\x00\x00\x02{}\x07vault-1\x00\x00\x01\x02\x00\x07wrappedciphertext"; err != nil || string(got) != want {
		t.Errorf("a version is %q, want %q (%v)", got, want, err)
	}
}

func TestAnEnvelopeThatDoesNotFitIsAnError(t *testing.T) {
	for _, e := range []kmsapi.Envelope{{KEKID: string(make([]byte, 256))}, {WrappedDEK: make([]byte, 1<<16)}} {
		if _, err := encodeVersion(nil, e); err == nil {
			t.Error("it was encoded, cut")
		}
	}
}

// The shortest rows that pass for one by their checksum.
func TestARowOfAChecksumAloneIsNone(t *testing.T) {
	for i := range 2000 {
		key := strconv.Itoa(i)
		if row := binary.BigEndian.AppendUint32(nil, checksum(key, nil)); row[0] == rowFormat {
			if _, err := decodeRow[secretHead](key, row); err == nil {
				t.Error("it was decoded")
			}
			return
		}
	}
	t.Fatal("no key in 2000 has a checksum that begins with the format")
}

func FuzzDecodeVersion(f *testing.F) {
	good, err := encodeVersion(mustJSON(f, attributes{SecretID: "i", Type: "note"}), kmsapi.Envelope{KEKID: "vault-1", KEKVersion: 1, WrappedDEK: make([]byte, 60), Ciphertext: make([]byte, 30)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-60]) // in the midst of the wrapped DEK
	f.Add([]byte{})
	f.Add([]byte("\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, row []byte) {
		v, err := decodeVersion(row)
		if err != nil {
			return
		}
		if back, err := encodeVersion(v.raw, v.envelope); err != nil || string(back) != string(row) {
			t.Errorf("%q is also %q", row, back)
		}
	})
}

func FuzzDecodeRow(f *testing.F) {
	for _, v := range []any{vaultMeta{}, secretHead{}, versionState{}, attributes{}, 1} {
		f.Add(mustJSON(f, v))
	}
	f.Add([]byte(`{"version":1e400}`))
	f.Fuzz(func(t *testing.T, object []byte) {
		if _, err := decodeRow[secretHead]("k", object); err == nil && len(object) < 5 {
			t.Error("too short a row was decoded")
		}
		row := append([]byte{rowFormat}, object...)
		row = binary.BigEndian.AppendUint32(row, checksum("k", row))
		again[vaultMeta](t, row)
		again[secretHead](t, row)
		again[versionState](t, row)
	})
}

// again decodes row and, if it is one, wants the same of what it encodes to.
func again[T any](t *testing.T, row []byte) {
	v, err := decodeRow[T]("k", row)
	if err != nil {
		return
	}
	back, err := encodeRow("k", v)
	if err != nil {
		t.Errorf("%q decodes to %+v, which does not encode: %v", row, v, err)
		return
	}
	if w, err := decodeRow[T]("k", back); err != nil || !reflect.DeepEqual(v, w) {
		t.Errorf("%+v came back as %+v, %v", v, w, err)
	}
}

// seenKMS keeps the last seal's AAD.
type seenKMS struct {
	KMS
	aad []byte
}

func (k *seenKMS) Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	k.aad = items[0].AAD
	return k.KMS.Seal(ctx, items)
}

func TestTheAADIsKindVaultPathVersionAndTheDigestOfTheAttributes(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	seen := &seenKMS{KMS: r.kms}
	r.Service = New(Config{Store: r.mem, KMS: seen, Gate: new(accesstest.Gate)})
	r.put(v, "a/b", "x")
	r.put(v, "a/b", "y")
	row, err := decodeVersion([]byte(r.rows()[layout.SecretVersion(v, "a/b", 2)]))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(row.raw)
	want := []byte{1}
	for _, field := range []string{"keyfold/secret/v1", v, "a/b", "2", string(digest[:])} {
		want = append(binary.BigEndian.AppendUint64(want, uint64(len(field))), field...)
	}
	if string(seen.aad) != string(want) {
		t.Errorf("the AAD is %q, want %q", seen.aad, want)
	}
}

func TestARowOfANewerProgramIsNotAnsweredFrom(t *testing.T) {
	newer := []byte("\x01" + `{"id":"i","version":1,"locked":true}`)
	if _, err := decodeRow[secretHead]("k", binary.BigEndian.AppendUint32(newer, checksum("k", newer))); err == nil {
		t.Error("a head with an unknown member was decoded")
	}
	row, err := encodeVersion([]byte(`{"id":"i","locked":true}`), kmsapi.Envelope{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeVersion(row); err == nil {
		t.Error("a version with an unknown attribute was decoded")
	}
}
