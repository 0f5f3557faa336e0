package vault

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/store"
)

// # Row formats
//
// Meta, head and state rows:
//
//	0x01 | JSON object | checksum (4 bytes)
//
// The checksum is CRC-32C, big endian, over the row's key and all bytes before
// it. It finds decay and misplaced rows; it stops nobody who can compute one.
// The objects are the structs vaultMeta, secretHead and versionState.
//
// Version rows:
//
//	0x01
//	length of the attributes (4 bytes, big endian) | attributes: JSON object, struct attributes
//	length of the KEK ID (1 byte)                  | KEK ID
//	KEK version (4 bytes, big endian)
//	length of the wrapped DEK (2 bytes, big endian)| wrapped DEK
//	ciphertext: the rest, to the end of the row
//
// Wrapped DEK and ciphertext are the KMS's and are bound to the AAD that
// secretAAD builds, which holds a digest of the attributes as they stand in the
// row. A rewrap replaces KEK version and wrapped DEK; a CMEK rotation replaces
// attributes and envelope. Nothing else ever changes a version row.
//
// No object may have a member that its struct does not know: an older program
// must not answer for a row whose newer attributes it would ignore.

// KEKPrefix is what the ID of a vault's KEK has before the vault's ID.
const KEKPrefix = "vault-"

// rowFormat is the first byte of every row.
const rowFormat = 0x01

// vaultMeta is the row of a vault.
type vaultMeta struct {
	OrgID       string      `json:"org"`
	OwnerKind   access.Kind `json:"owner_kind"`
	OwnerID     string      `json:"owner"`
	Name        string      `json:"name"`
	Description string      `json:"description,omitzero"`
	CreatedAt   time.Time   `json:"created_at"`
	KEKID       string      `json:"kek"`
	KEKVersion  uint32      `json:"kek_version,omitzero"` // the least under which a write may be sealed

	Fingerprint string    `json:"cmek_fingerprint,omitzero"`  // of the CMEK key; empty when CMEK is off, and then all that follows is
	Since       time.Time `json:"cmek_since,omitzero"`        // when it became that; zero: not known
	KeyCheck    string    `json:"cmek_key_check,omitzero"`    // see cmek.Key.Check
	BlobVersion int       `json:"cmek_blob_version,omitzero"` // of the blobs that may be written; 0: 1
	Rotation    *rotation `json:"cmek_rotation,omitzero"`     // that has begun and not ended; replaced, never changed
}

// rotation is a CMEK rotation as writes have to know it.
type rotation struct {
	Job         string `json:"job"`
	Fingerprint string `json:"fingerprint"`     // of the new key
	Closed      bool   `json:"closed,omitzero"` // nothing is written under the old key any more
}

// secretHead is the row of a secret: which versions it has and what a listing
// shows of the newest. It stays when the secret is deleted, so that versions go
// on counting.
type secretHead struct {
	ID             string     `json:"id"`
	Version        int        `json:"version"`                  // the newest; versions 1..Version have rows
	DeletedThrough int        `json:"deleted_through,omitzero"` // versions 1..DeletedThrough are deleted
	Type           string     `json:"type,omitzero"`
	CreatedAt      time.Time  `json:"created_at,omitzero"`
	Metadata       string     `json:"metadata,omitzero"` // JSON text, to the byte
	ExpiresAt      *time.Time `json:"expires_at,omitzero"`
	CreatedBy      string     `json:"created_by,omitzero"` // absent where an older program wrote the row; then Sealed says nothing
	Sealed         bool       `json:"sealed,omitzero"`     // by the customer; a rotation of his key does not change it
}

// live reports whether the secret has a version that was not deleted.
func (h secretHead) live() bool { return h.Version > h.DeletedThrough }

// versionState is the row of what changes of a version. It is absent until
// something did.
type versionState struct {
	Disabled bool `json:"disabled,omitzero"`
	Reads    int  `json:"reads,omitzero"` // answers with the value; counted only when there is a limit
}

// attributes are what never changes of a version.
type attributes struct {
	SecretID       string     `json:"id"`
	Type           string     `json:"type"`
	CreatedAt      time.Time  `json:"created_at"`
	CreatedBy      string     `json:"created_by"`
	Metadata       string     `json:"metadata,omitzero"` // JSON text, to the byte
	ExpiresAt      *time.Time `json:"expires_at,omitzero"`
	RotationPolicy string     `json:"rotation_policy,omitzero"` // JSON text, to the byte
	MaxAccessCount int        `json:"max_access_count,omitzero"`
	Fingerprint    string     `json:"cmek_fingerprint,omitzero"` // of the CMEK key that the client sealed with
}

var (
	errRow     = errors.New("row does not parse")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// checksum covers a row's key and its bytes but the last four.
func checksum(key string, row []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, row)
}

// encodeRow returns the meta, head or state row v as it lies under key.
func encodeRow(key string, v any) ([]byte, error) {
	object, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	row := make([]byte, 0, 1+len(object)+4)
	row = append(append(row, rowFormat), object...)
	return binary.BigEndian.AppendUint32(row, checksum(key, row)), nil
}

// decodeRow is encodeRow backwards.
func decodeRow[T any](key string, row []byte) (v T, err error) {
	if len(row) < 5 || row[0] != rowFormat {
		return v, errRow
	}
	body, sum := row[:len(row)-4], row[len(row)-4:]
	if binary.BigEndian.Uint32(sum) != checksum(key, body) {
		return v, errRow
	}
	err = json.Unmarshal(body[1:], &v, json.RejectUnknownMembers(true))
	return v, err
}

// put adds the row v to b.
func put(b *store.Batch, key string, v any) error {
	row, err := encodeRow(key, v)
	if err != nil {
		return err
	}
	b.Put(key, row)
	return nil
}

// load returns the row under key with its revision, which is 0 when there is
// none: what Batch.RequireRevision takes for "absent".
func load[T any](ctx context.Context, s *Service, key string) (v T, rev store.Revision, err error) {
	rec, err := s.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return v, 0, nil
	}
	if err != nil {
		return v, 0, readFault(err)
	}
	if v, err = decodeRow[T](key, rec.Value); err != nil {
		return v, 0, damaged(err)
	}
	return v, rec.Revision, nil
}
