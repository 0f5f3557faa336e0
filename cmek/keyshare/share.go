package keyshare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync/atomic"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/cmek/internal/fields"
	"github.com/keyfold/keyfold/internal/aead"
)

// A share is text: any # comments, and these lines.
//
//	keyfold-cmek-share: 1
//	fingerprint: 630dcd29...    of the key
//	threshold: 3
//	shares: 5
//	sealed-key: ...             nonce | ciphertext | tag, 60 bytes
//	commitment-1: ...           32 bytes, of each share
//	...
//	commitment-5: ...
//	set: 93f2...                SHA-256 of all lines above, as FORMAT.md says
//	index: 2
//	value: ...                  32 bytes: the secret
//
// All but the last two lines are the same in every share of a set.

const (
	valueSize = 32
	maxSize   = 8192 // of a share, in bytes; ours are 700 to 2700
)

// Share is one of the shares of a key. It may be used by many goroutines.
type Share struct {
	set   *set
	index int
	value atomic.Pointer[[valueSize]byte] // as cmek.Key holds its bytes; nil once wiped
}

// SetID names the split that s is of: 64 lower-case hex digits.
func (s *Share) SetID() string { return s.set.id() }

// Fingerprint is that of the key.
func (s *Share) Fingerprint() string { return s.set.fingerprint }

// Index is which share it is: 1 to Shares.
func (s *Share) Index() int { return s.index }

// Threshold is how many shares make the key.
func (s *Share) Threshold() int { return s.set.threshold }

// Shares is how many there are.
func (s *Share) Shares() int { return len(s.set.commitments) }

// Wipe overwrites the share's secret. No other use of s may run beside it.
func (s *Share) Wipe() {
	if value := s.value.Swap(nil); value != nil {
		clear(value[:])
	}
}

// Marshal returns the text of s, for one person to keep.
func (s *Share) Marshal(info cmek.KeyFileInfo) ([]byte, error) {
	comments, err := info.Comments()
	if err != nil {
		return nil, err
	}
	value := s.value.Load()
	if value == nil {
		return nil, errWiped
	}
	out := fmt.Appendf(nil, "# Share %d of %d of a Keyfold CMEK key. Any %d of them make the key again: keyfold cmek combine. Keep it secret, away from the others.\n",
		s.index, s.Shares(), s.Threshold())
	out = fields.Append(append(out, comments...), "keyfold-cmek-share", 1)
	out = fields.Append(out, "fingerprint", s.set.fingerprint)
	out = fields.Append(out, "threshold", s.Threshold())
	out = fields.Append(out, "shares", s.Shares())
	out = fields.Append(out, "sealed-key", s.set.sealed)
	for i, c := range s.set.commitments {
		out = fields.Append(out, commitmentName(i), c)
	}
	out = fields.Append(out, "set", s.SetID())
	out = fields.Append(out, "index", s.index)
	return fields.Append(out, "value", value[:]), nil
}

func commitmentName(i int) string { return "commitment-" + strconv.Itoa(i+1) }

// Parse returns the share of a text. Errors are ErrNotShare and ErrDamaged: a
// share says by itself whether it is the one that was made.
func Parse(data []byte) (*Share, error) {
	r := fields.Read(data, maxSize)
	if !r.Exactly("keyfold-cmek-share", "1") {
		return nil, ErrNotShare
	}
	s := &Share{set: &set{fingerprint: r.Text("fingerprint")}}
	s.set.threshold = r.Int("threshold", 2, MaxShares)
	n := r.Int("shares", 2, MaxShares)
	s.set.sealed = r.Bytes("sealed-key", cmek.KeySize+aead.Overhead)
	for i := range n {
		s.set.commitments = append(s.set.commitments, r.Bytes(commitmentName(i), valueSize))
	}
	id := r.Text("set")
	s.index = r.Int("index", 1, n)
	value := r.Bytes("value", valueSize)
	if !r.Done() || !cmek.ValidFingerprint(s.set.fingerprint) || s.set.threshold > n ||
		s.SetID() != id || !bytes.Equal(commitment(s.index, value), s.set.commitments[s.index-1]) {
		return nil, ErrDamaged
	}
	s.value.Store((*[valueSize]byte)(value))
	return s, nil
}

// String hides the share.
func (s *Share) String() string { return "[redacted]" }

// GoString hides the share from %#v.
func (s *Share) GoString() string { return "[redacted]" }

// Format hides the share from every verb of fmt.
func (s *Share) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue hides the share from slog.
func (s *Share) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText refuses, and with it every encoder to JSON, YAML and the like.
func (s *Share) MarshalText() ([]byte, error) {
	return nil, errors.New("keyshare: a share is written by its Marshal")
}
