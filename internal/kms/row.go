package kms

import (
	"errors"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/keyfold/keyfold/internal/aead"
)

// The row of a DEK in the store:
//
//	seal (28 bytes) | body (JSON)
//
//	{"thread_id":"t1","kek_id":"threads","kek_version":1,"wrapped":"<base64 of 60 bytes>",
//	 "version":1,"created":"2026-11-21T10:00:00Z","seals":4096}
//
// The seal is the DEK's own, of no plaintext, with AAD of the key ID and the
// body: so every byte of the row is authenticated by a key that only the KMS
// can unwrap, and a row opens under its own key ID alone.
type record struct {
	ThreadID   string    `json:"thread_id"`
	KEKID      string    `json:"kek_id"`
	KEKVersion uint32    `json:"kek_version"`
	Wrapped    []byte    `json:"wrapped"`
	Version    uint32    `json:"version"`
	Created    time.Time `json:"created"`
	Seals      int64     `json:"seals"` // made or reserved so far, those of rows included
}

// rowAAD is the AAD of a row's seal.
func rowAAD(keyID string, body []byte) []byte {
	return aead.AAD("keyfold/dek-row/v1", keyID, string(body))
}

// marshal returns the row of rec. It costs one seal of key.
func (rec record) marshal(key *aead.Key, keyID string) ([]byte, error) {
	body, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	seal, err := key.Seal(nil, rowAAD(keyID, body))
	return append(seal, body...), err
}

// parseRow reads a row. Nothing of it may be relied on before authenticate.
func parseRow(row []byte) (rec record, err error) {
	if len(row) < aead.Overhead {
		return rec, errors.New("row too short")
	}
	if err := json.Unmarshal(row[aead.Overhead:], &rec, json.RejectUnknownMembers(true)); err != nil {
		return rec, errors.New("row is not JSON of a DEK") // the JSON error may quote the row
	}
	return rec, nil
}

// authenticate opens the row's seal.
func authenticate(key *aead.Key, keyID string, row []byte) error {
	_, err := key.Open(row[:aead.Overhead], rowAAD(keyID, row[aead.Overhead:]))
	return err
}
