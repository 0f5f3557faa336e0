// Package cmek is the customer's side of Keyfold: a key that the server never
// keeps, and values that are encrypted under it before they leave the client.
//
// It owns the blob, the key file, the fingerprint and the key check. FORMAT.md beside this
// file is their law, and testdata/vectors.json holds cases of it, failures
// included, for every language. It trusts the caller with the key and nobody
// with a value: whatever is parsed here may come from an enemy.
//
// A key file that WriteKeyFile has written survives a crash; nothing else here
// touches the disk. A lost key is lost: nobody can open what it encrypted.
//
//	key := cmek.Generate()
//	value, err := cmek.EncryptValue(key, []byte("my-secret-value")) // send this
//	plaintext, err := cmek.DecryptValue(key, value)                 // what was read back
//
// A vault may want its values bound: a blob of version 2 opens in its vault, at
// its path and under its key, and nowhere else.
//
//	here := cmek.Context{VaultID: vault.ID, Path: secret.Path}
//	value, err := cmek.EncryptBoundValue(key, here, []byte("my-secret-value"))
//	plaintext, err := cmek.DecryptValueAt(key, here, value) // of either version
package cmek

import (
	"errors"
	"fmt"
)

//go:generate go run ./internal/genvectors -out testdata/vectors.json

// Why bytes or text are not a blob. Each of the three classes is an
// ErrNotBlob as well. None of their messages shows any part of the input.
var (
	ErrNotBlob        = errors.New("cmek: not a CMEK blob")
	ErrTooShort       = fmt.Errorf("%w: too short (at least 29 bytes, 40 characters of base64, and 93 bytes when bound; 56 characters in the older hex form)", ErrNotBlob)
	ErrUnknownVersion = fmt.Errorf("%w: its first byte names no known version; was the value encrypted at all, or by a newer release?", ErrNotBlob)
	ErrBadEncoding    = fmt.Errorf("%w: want standard base64 with padding, or lower-case hex, with no spaces or line breaks", ErrNotBlob)
)

// ErrDecrypt is the answer to every blob that does not open, whatever the
// cause: another key, changed bytes, or bytes that were never encrypted.
var ErrDecrypt = errors.New("cmek: the value does not open: it was encrypted under another key, or it was changed")

// ErrNeedsContext says that a blob is bound to its vault and path, and that one
// of them is missing from the call.
var ErrNeedsContext = errors.New("cmek: the value is bound to its vault and path: it needs both, the vault's ID and the secret's path")

// Why a key, a key text or a key file is refused.
var (
	ErrKeySize             = errors.New("cmek: a key is 32 bytes: 44 characters of base64, or 64 hex digits")
	ErrKeyEncoding         = errors.New("cmek: a key is written as base64 or as 64 hex digits, with nothing before or after it")
	ErrNoKey               = errors.New("cmek: the key file holds no key: after the # comments comes one line with the key in base64")
	ErrTwoKeys             = errors.New("cmek: the key file holds more than one line beside its # comments: keep one key per file, on one line")
	ErrBackup              = fmt.Errorf("%w; this one is a backup or a share: make a key file of it with keyfold cmek import or keyfold cmek combine", ErrTwoKeys)
	ErrFingerprintMismatch = errors.New("cmek: the key is not the one that the file's fingerprint comment names: it was changed or mixed up; take the file from your backup")
)

var errWiped = errors.New("cmek: the key was wiped")
