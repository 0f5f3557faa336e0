package cmek

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/keyfold/keyfold/internal/aead"
)

// KeySize is the length of a key, in bytes.
const KeySize = aead.KeySize

// Key is a customer's AES-256 key, ready for use by many goroutines. Generate,
// NewKey, ParseKeyText, ParseKeyFile and ReadKeyFile make one; the zero Key is
// of no use.
type Key struct{ m *material }

type material struct {
	fingerprint string
	aead        *aead.Key

	// In an atomic.Pointer, since a printer that may not call our methods (on
	// an unexported field, say) follows every pointer but this.
	raw atomic.Pointer[[KeySize]byte] // nil once wiped
	mu  sync.Mutex                    // held to read or wipe what raw points to
}

// Generate returns a fresh random key.
func Generate() *Key {
	raw := make([]byte, KeySize)
	rand.Read(raw) // never fails: see crypto/rand
	defer clear(raw)
	k, err := NewKey(raw)
	if err != nil {
		panic(err) // 32 bytes are always a key
	}
	return k
}

// NewKey returns the key of 32 raw bytes, which it copies; the caller's stay
// the caller's to wipe. Any other size is ErrKeySize.
func NewKey(raw []byte) (*Key, error) {
	if len(raw) != KeySize {
		return nil, fmt.Errorf("%w; this one is %d bytes", ErrKeySize, len(raw))
	}
	sealer, err := aead.NewKey(raw)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	m := &material{fingerprint: hex.EncodeToString(sum[:]), aead: sealer}
	m.raw.Store((*[KeySize]byte)(append([]byte(nil), raw...)))
	return &Key{m}, nil
}

// Fingerprint returns the lower-case hex SHA-256 of the raw key, 64
// characters. It names the key and proves nothing; it outlives Wipe.
func (k *Key) Fingerprint() string { return k.m.fingerprint }

// ValidFingerprint reports whether s has the shape of a fingerprint: 64
// lower-case hex digits.
func ValidFingerprint(s string) bool {
	return len(s) == 2*sha256.Size && isLowerHex(s)
}

// Bytes returns a copy of the raw key, for the caller to wipe with clear, or
// nil after Wipe.
func (k *Key) Bytes() []byte {
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	raw := k.m.raw.Load()
	if raw == nil {
		return nil
	}
	return append([]byte(nil), raw[:]...)
}

// Wipe overwrites the raw key and makes k refuse everything. Other copies, in
// files and in texts that it was parsed from, are not reached.
func (k *Key) Wipe() {
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	k.m.aead.Wipe()
	if raw := k.m.raw.Swap(nil); raw != nil {
		clear(raw[:])
	}
}

// The printers below have value receivers, so that a copy of a Key is as mute
// as a pointer to it.

// String hides the key.
func (Key) String() string { return "[redacted]" }

// GoString hides the key from %#v.
func (Key) GoString() string { return "[redacted]" }

// Format hides the key from every verb of fmt.
func (k Key) Format(s fmt.State, _ rune) { io.WriteString(s, k.String()) }

// LogValue hides the key from slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText refuses, and with it every encoder to JSON, YAML and the like: a
// key written as "[redacted]" would be a key lost. Write it with WriteKeyFile.
func (Key) MarshalText() ([]byte, error) {
	return nil, errors.New("cmek: a key is not marshaled; write it with WriteKeyFile, or take its Bytes")
}
