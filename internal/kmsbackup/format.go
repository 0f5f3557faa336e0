// Package kmsbackup writes the key store into one file, while the key process
// runs, and makes a key store of such a file.
//
// It owns the format of that file. A backup holds the store as it stood at one
// moment and as it is stored: every key in it is wrapped, and opens under the
// root key alone, which is not in it. Whoever has the backup and the root key
// has every key.
//
// It trusts the root key and no byte of a backup: a damaged one, a shorter one
// and one that was put together from others is refused before there is a store.
// An older backup, whole, is as good as a new one; nothing can tell but its time
// and the audit. What a crash of Restore leaves is a store without the threads'
// KEK, which is refused wherever it is opened.
package kmsbackup

import (
	"crypto/sha256"
	"time"

	"github.com/keyfold/keyfold/internal/aead"
)

// A backup is
//
//	"keyfold-kms-backup/v1\n" | time (8) | rows | 0 (2) | checksum (32) | KEK version (4) | wrapped DEK (60) | seal (28)
//
// Numbers are big endian; the time is in nanoseconds since 1970. A row is
//
//	length of key (2), from 1 | length of value (4) | key | value
//
// and rows are in the order of their keys. The checksum is the SHA-256 of all
// before it: it tells damage from a wrong root key, and needs no key. The seal
// is of no plaintext, with the checksum as AAD, under a fresh DEK that is
// wrapped by the primary of the threads' KEK as it stands in the backup: it
// tells a backup from something that looks like one.
const (
	magic       = "keyfold-kms-backup/v1\n"
	headSize    = len(magic) + 8
	rowHeadSize = 2 + 4
	wrappedSize = aead.KeySize + aead.Overhead
	tailSize    = sha256.Size + 4 + wrappedSize + aead.Overhead
)

// Info describes a backup.
type Info struct {
	Created time.Time `json:"created_at"`
	Rows    int       `json:"rows"`
	KEKs    int       `json:"keks"`
	DEKs    int       `json:"thread_deks"`
	CMEKs   int       `json:"cmek_keys,omitzero"` // customers' keys, each proved to open where Opened counts
	Opened  int       `json:"thread_deks_opened"` // proved to open; 0 of one that was not restored
	Lost    []string  `json:"lost,omitzero"`      // KEK versions, "ID vN", that the root does not have any more; as Opened
}

// dekAAD is what the DEK of a backup's seal is bound to.
func dekAAD() []byte { return aead.AAD("keyfold/kms-backup-dek/v1") }

// sealAAD is what a backup's seal binds.
func sealAAD(checksum []byte) []byte { return aead.AAD("keyfold/kms-backup/v1", string(checksum)) }
