package keyring

import (
	"context"
	"fmt"
	"io"
	"log/slog"
)

// Root protects KEKs at rest. FileRoot wraps their material; a token keeps them
// inside as objects that cannot be taken out.
type Root interface {
	// Kind is "file" or "pkcs11".
	Kind() string
	// Check returns nil while the root can be used: unlocked.
	Check(ctx context.Context) error
	// MakeKEK makes a fresh KEK and returns what the keyring's row keeps of it:
	// its wrapped material or the name of its object, never raw material.
	MakeKEK(ctx context.Context, name Name) (stored []byte, err error)
	// LoadKEK returns the KEK that MakeKEK stored under the same name. It fails
	// with aead.ErrOpen when stored is not that, and with another error when the
	// root cannot be reached.
	LoadKEK(ctx context.Context, name Name, stored []byte) (KEK, error)
	// DestroyKEK removes for ever what the root itself keeps of a KEK. To one
	// that it does not keep any more it does nothing.
	DestroyKEK(ctx context.Context, name Name, stored []byte) error
	// Wipe makes the root unusable. KEKs that it loaded may become so too.
	Wipe()
}

// Name names one version of one KEK.
type Name struct {
	KEKID   string
	Version uint32
}

// KEK is one version of a KEK, ready for use by many goroutines.
type KEK interface {
	// Wrap returns nonce(12) | wrapped 32 bytes | tag(16), bound to aad.
	Wrap(dek, aad []byte) ([]byte, error)
	// Unwrap is the mirror of Wrap. It fails with aead.ErrOpen when wrapped does
	// not open, and with another error when the root cannot be reached.
	Unwrap(wrapped, aad []byte) ([]byte, error)
	// Wipe makes the KEK unusable in this process.
	Wipe()
}

// redacted hides what embeds it from fmt and slog.
type redacted struct{}

func (redacted) String() string             { return "[redacted]" }
func (redacted) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }
func (redacted) LogValue() slog.Value       { return slog.StringValue("[redacted]") }
