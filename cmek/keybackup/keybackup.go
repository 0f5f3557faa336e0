// Package keybackup keeps a CMEK key in a file that opens with a passphrase.
//
// It owns the file's format and touches no disk. It trusts the caller with key
// and passphrase, and nobody with a file: it may come from an enemy, who then
// can neither have a key taken for another nor make Open use more than 1 GiB.
// Whoever has the file can try passphrases, each at the cost that is written in
// it: the passphrase has to be one that nobody guesses.
//
// Argon2id is not in the Go cryptographic module; with GODEBUG=fips140=only
// this package still works, and is not approved.
package keybackup

import (
	"crypto/rand"
	"errors"
	"strconv"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/cmek/internal/fields"
	"github.com/keyfold/keyfold/internal/aead"
)

// A backup is text: any # comments, and these lines.
//
//	keyfold-cmek-backup: 1
//	fingerprint: 630dcd29...     of the key
//	memory: 262144               of Argon2id, in KiB
//	passes: 3
//	lanes: 4
//	salt: Q0RFRkdISUpLTE1OT1BRUg==
//	sealed-key: ...              nonce | ciphertext | tag, 60 bytes
//
// The sealed key is AES-256-GCM of the 32 bytes of the CMEK key, under
// Argon2id(passphrase, salt), 32 bytes. Its AAD holds every other line.

const (
	saltSize = 16
	maxSize  = 4096 // of a backup, in bytes; ours are about 600

	minPassphrase = 12   // characters
	maxPassphrase = 1024 // bytes
)

// Why a passphrase or a backup is refused. No message shows any part of them.
var (
	ErrPassphrase = errors.New("keybackup: a passphrase has 12 characters at least, and 1024 bytes of UTF-8 at most; take six random words or more: whoever gets the file can try as many as they like")
	ErrNotBackup  = errors.New("keybackup: this is not a backup of a CMEK key, or its lines were changed; take another copy of it")
	ErrNotOpened  = errors.New("keybackup: the backup does not open: the passphrase is another, or the file was changed")
)

// cost is that of one Argon2id.
type cost struct{ memory, passes, lanes int }

// usual is what a new backup costs to open: more than RFC 9106 asks for where
// memory is scarce, since it happens once in a year or never.
var usual = cost{memory: 256 << 10, passes: 3, lanes: 4}

// most bounds what a file can make Open do: some ten seconds.
var most = cost{memory: 1 << 20, passes: 16, lanes: 16}

// Seal returns the backup of k: text, without the key itself. The passphrase is
// taken as it is, byte by byte. It takes 256 MiB and about a second. Errors:
// ErrPassphrase, those of cmek.KeyFileInfo, and one for a wiped key.
func Seal(k *cmek.Key, passphrase string, info cmek.KeyFileInfo) ([]byte, error) {
	return seal(k, passphrase, info, usual)
}

func seal(k *cmek.Key, passphrase string, info cmek.KeyFileInfo, c cost) ([]byte, error) {
	if utf8.RuneCountInString(passphrase) < minPassphrase || len(passphrase) > maxPassphrase || !utf8.ValidString(passphrase) {
		return nil, ErrPassphrase
	}
	comments, err := info.Comments()
	if err != nil {
		return nil, err
	}
	raw := k.Bytes()
	if len(raw) == 0 {
		return nil, errors.New("keybackup: the key was wiped")
	}
	defer clear(raw)
	b := backup{fingerprint: k.Fingerprint(), cost: c, salt: make([]byte, saltSize)}
	rand.Read(b.salt) // never fails: see crypto/rand
	sealer, err := b.key(passphrase)
	if err != nil {
		return nil, err
	}
	defer sealer.Wipe()
	if b.sealed, err = sealer.Seal(raw, b.aad()); err != nil {
		return nil, err
	}
	return b.text(comments), nil
}

// Is reports whether data has the shape of a backup.
func Is(data []byte) bool {
	_, err := parse(data)
	return err == nil
}

// Open returns the key of a backup. Errors: ErrNotBackup, which costs nothing,
// and ErrNotOpened.
func Open(data []byte, passphrase string) (*cmek.Key, error) {
	b, err := parse(data)
	if err != nil {
		return nil, err
	}
	sealer, err := b.key(passphrase)
	if err != nil {
		return nil, err
	}
	defer sealer.Wipe()
	raw, err := sealer.Open(b.sealed, b.aad())
	if err != nil {
		return nil, ErrNotOpened
	}
	defer clear(raw)
	k, err := cmek.NewKey(raw)
	if err != nil {
		return nil, err
	}
	if k.Fingerprint() != b.fingerprint { // a ciphertext that was made to open under several passphrases
		k.Wipe()
		return nil, ErrNotOpened
	}
	return k, nil
}

// backup is all that a file says.
type backup struct {
	fingerprint string
	cost
	salt, sealed []byte
}

func parse(data []byte) (backup, error) {
	r := fields.Read(data, maxSize)
	r.Exactly("keyfold-cmek-backup", "1")
	b := backup{fingerprint: r.Text("fingerprint")}
	b.memory = r.Int("memory", 8, most.memory)
	b.passes = r.Int("passes", 1, most.passes)
	b.lanes = r.Int("lanes", 1, most.lanes)
	b.salt = r.Bytes("salt", saltSize)
	b.sealed = r.Bytes("sealed-key", cmek.KeySize+aead.Overhead)
	if !r.Done() || !cmek.ValidFingerprint(b.fingerprint) || b.memory < 8*b.lanes {
		return backup{}, ErrNotBackup
	}
	return b, nil
}

func (b backup) text(comments []byte) []byte {
	out := []byte("# Keyfold CMEK key under a passphrase. Without the passphrase nobody can open it; keyfold cmek import does with it.\n")
	out = fields.Append(append(out, comments...), "keyfold-cmek-backup", 1)
	out = fields.Append(out, "fingerprint", b.fingerprint)
	out = fields.Append(out, "memory", b.memory)
	out = fields.Append(out, "passes", b.passes)
	out = fields.Append(out, "lanes", b.lanes)
	out = fields.Append(out, "salt", b.salt)
	return fields.Append(out, "sealed-key", b.sealed)
}

// key is what seals the CMEK key; the caller wipes it.
func (b backup) key(passphrase string) (*aead.Key, error) {
	raw := argon2.IDKey([]byte(passphrase), b.salt, uint32(b.passes), uint32(b.memory), uint8(b.lanes), aead.KeySize)
	defer clear(raw)
	return aead.NewKey(raw)
}

func (b backup) aad() []byte {
	return aead.AAD("keyfold/cmek-backup/v1", b.fingerprint,
		strconv.Itoa(b.memory), strconv.Itoa(b.passes), strconv.Itoa(b.lanes), string(b.salt))
}
