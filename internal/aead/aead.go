// Package aead is AES-256-GCM as Keyfold uses it: one key type, Seal and Open,
// and the one encoding of AAD.
//
// # Format
//
//	nonce (12 bytes, fresh random) | ciphertext (as long as the plaintext) | tag (16 bytes)
//
// The nonce comes from the standard library's random-nonce GCM (NIST SP
// 800-38D, section 8.2.2), which is the only GCM that works under
// GODEBUG=fips140=only. With random nonces a key must make far fewer than 2^32
// seals; owners of long-lived keys count them.
//
// # AAD
//
//	version (1 byte, 0x01) | for each of kind and fields: length (8 bytes, big endian) | bytes
//
// Lengths make the encoding injective: no two different lists of fields have
// the same AAD.
package aead

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
)

const (
	// KeySize is the length of every key, in bytes.
	KeySize = 32
	// Overhead is how much longer a sealed blob is than its plaintext, in bytes: nonce and tag.
	Overhead = 12 + 16
)

// ErrOpen is the answer to every failed Open, whatever the cause: wrong key,
// wrong AAD, flipped or missing bytes.
var ErrOpen = errors.New("ciphertext does not open")

// ErrKeySize says that raw key material is not KeySize bytes.
var ErrKeySize = errors.New("key must be 32 bytes")

// errWiped is what a wiped key answers to Seal. A wiped key's Open is ErrOpen.
var errWiped = errors.New("key was wiped")

// Key is an AES-256-GCM key, ready for use: the key schedule is built once. It
// holds no copy of the raw bytes. A Key may be used by many goroutines.
type Key struct {
	gcm atomic.Pointer[cipher.AEAD]
}

// NewKey builds a key from 32 raw bytes, which stay the caller's to wipe.
func NewKey(raw []byte) (*Key, error) {
	if len(raw) != KeySize {
		return nil, ErrKeySize
	}
	var gcm cipher.AEAD
	var err error
	Erasing(func() { gcm, err = newGCM(raw) })
	if err != nil {
		return nil, err
	}
	k := new(Key)
	k.gcm.Store(&gcm)
	return k, nil
}

func newGCM(raw []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// GenerateRaw returns 32 fresh random bytes. The caller wipes them with clear.
func GenerateRaw() []byte {
	raw := make([]byte, KeySize)
	Erasing(func() { rand.Read(raw) }) // never fails: see crypto/rand
	return raw
}

// Seal returns nonce | ciphertext | tag of plaintext, bound to aad. It fails
// only when the key was wiped.
func (k *Key) Seal(plaintext, aad []byte) ([]byte, error) {
	gcm := k.gcm.Load()
	if gcm == nil {
		return nil, errWiped
	}
	out := make([]byte, 0, len(plaintext)+Overhead)
	return (*gcm).Seal(out, nil, plaintext, aad), nil
}

// Open returns the plaintext of what Seal made with the same key and aad.
// Every failure is ErrOpen.
func (k *Key) Open(sealed, aad []byte) ([]byte, error) {
	gcm := k.gcm.Load()
	if gcm == nil || len(sealed) < Overhead {
		return nil, ErrOpen
	}
	out := make([]byte, 0, len(sealed)-Overhead)
	plaintext, err := (*gcm).Open(out, nil, sealed, aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// Wipe makes the key unusable and drops its key schedule. The schedule's
// memory is the garbage collector's to reuse: the standard library gives no
// way to overwrite it, but for the experiment that Erasing uses.
func (k *Key) Wipe() { k.gcm.Store(nil) }

// String hides the key.
func (k *Key) String() string { return "[redacted]" }

// GoString hides the key from %#v.
func (k *Key) GoString() string { return "[redacted]" }

// Format hides the key from every other verb: without it %d would print the fields.
func (k *Key) Format(s fmt.State, _ rune) { io.WriteString(s, k.String()) }

// LogValue hides the key from slog.
func (k *Key) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// AAD encodes kind and fields as the package comment says. Each owner of a
// sealed kind wraps it in one builder of its own.
func AAD(kind string, fields ...string) []byte {
	n := 1 + 8 + len(kind)
	for _, f := range fields {
		n += 8 + len(f)
	}
	out := make([]byte, 1, n)
	out[0] = 0x01
	out = appendField(out, kind)
	for _, f := range fields {
		out = appendField(out, f)
	}
	return out
}

func appendField(out []byte, f string) []byte {
	out = binary.BigEndian.AppendUint64(out, uint64(len(f)))
	return append(out, f...)
}
