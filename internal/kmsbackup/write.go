package kmsbackup

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"time"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Write writes a backup of the key store that view shows, which must be of one
// moment. Without an error, all of it was written.
func Write(ctx context.Context, w io.Writer, view store.Scanner, root keyring.Root, now time.Time) (Info, error) {
	info := Info{Created: now.UTC()}
	row, err := threadsRow(ctx, view)
	if err != nil {
		return info, err
	}
	ring, err := threadsKEK(ctx, root, row)
	if err != nil {
		return info, err
	}
	defer ring.Wipe()
	out := &writer{w: w, sum: sha256.New()}
	out.write(binary.BigEndian.AppendUint64([]byte(magic), uint64(now.UnixNano())))
	for rec, err := range store.All(ctx, view, store.Range{}) {
		if err != nil {
			return info, err
		}
		out.row(rec.Key, rec.Value)
		info.count(rec.Key)
	}
	out.write([]byte{0, 0})
	checksum := out.sum.Sum(nil)
	seal, err := newSeal(ring, checksum)
	if err != nil {
		return info, err
	}
	out.write(append(checksum, seal...))
	return info, out.err
}

// threadsKEK returns the keyring of the KEK that every key store has.
func threadsKEK(ctx context.Context, root keyring.Root, row store.Record) (*keyring.Keyring, error) {
	if row.Key == "" {
		return nil, fault.New(fault.Damaged, "there is no KEK %q; this is not a key store, or not all of it", kmsapi.ThreadsKEK)
	}
	return keyring.Parse(ctx, root, kmsapi.ThreadsKEK, row.Value)
}

// threadsRow returns the row of that KEK, or none.
func threadsRow(ctx context.Context, view store.Scanner) (row store.Record, err error) {
	key := layout.KEK(kmsapi.ThreadsKEK)
	recs, err := view.Scan(ctx, store.Range{Start: key, End: key + "\x00"}, store.ScanOptions{})
	if len(recs) > 0 {
		row = recs[0]
	}
	return row, err
}

// newSeal returns KEK version, wrapped DEK and seal of checksum.
func newSeal(ring *keyring.Keyring, checksum []byte) ([]byte, error) {
	raw := aead.GenerateRaw()
	defer clear(raw)
	wrapped, version, err := ring.Wrap(raw, dekAAD())
	if err != nil {
		return nil, err
	}
	key, err := aead.NewKey(raw)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	seal, err := key.Seal(nil, sealAAD(checksum))
	return append(append(binary.BigEndian.AppendUint32(nil, version), wrapped...), seal...), err
}

// openSeal is an error unless seal is what newSeal made of checksum.
func openSeal(ring *keyring.Keyring, checksum, seal []byte) error {
	version, rest := binary.BigEndian.Uint32(seal), seal[4:]
	raw, err := ring.Unwrap(version, rest[:wrappedSize], dekAAD())
	if err != nil {
		return forged(err)
	}
	defer clear(raw)
	key, err := aead.NewKey(raw)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if _, err = key.Open(rest[wrappedSize:], sealAAD(checksum)); err != nil {
		return forged(err)
	}
	return nil
}

// forged names a seal that does not open. That the root cannot be reached says
// nothing of the backup.
func forged(err error) error {
	if !errors.Is(err, aead.ErrOpen) {
		return err
	}
	return fault.Wrap(fault.Damaged, err, "the backup is whole, but no key process with this root key wrote it; take another backup")
}

// writer writes and sums, until the first error.
type writer struct {
	w   io.Writer
	sum hash.Hash
	err error
}

func (w *writer) write(p []byte) {
	w.sum.Write(p)
	if w.err == nil {
		_, w.err = w.w.Write(p)
	}
}

func (w *writer) row(key string, value []byte) {
	head := binary.BigEndian.AppendUint16(nil, uint16(len(key)))
	head = binary.BigEndian.AppendUint32(head, uint32(len(value)))
	w.write(append(head, key...))
	w.write(value)
}
