// Package keyring keeps KEKs: all versions of one KEK make a Keyring, which
// wraps and unwraps DEKs. It owns the row that the store keeps of a keyring,
// and the roots that protect KEKs at rest.
//
// It trusts the root and the memory of this process, and not the store: a row
// that was edited, shortened, moved to another KEK or put together from others
// does not parse. An older row of the same KEK, put back whole, does; only the
// audit can tell.
//
// A Keyring never changes: Rotate and Destroy return another one. What
// survives a crash is the row that the caller committed.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
)

// Keyring is all versions of one KEK. It may be used by many goroutines.
type Keyring struct {
	redacted
	id       string
	versions []version // version n is at n-1; the last one is the primary
	row      []byte
}

// New makes the keyring of a new KEK, whose version 1 is primary.
func New(ctx context.Context, root Root, id string, now time.Time) (*Keyring, error) {
	return (&Keyring{id: id}).Rotate(ctx, root, now)
}

// Rotate returns a keyring with a new primary; the present versions become
// decrypt-only. Its keys are its own: r stays usable and is wiped by itself.
func (r *Keyring) Rotate(ctx context.Context, root Root, now time.Time) (*Keyring, error) {
	return r.next(ctx, root, now, func(v *version) (err error) {
		v.Stored, err = root.MakeKEK(ctx, Name{r.id, v.Number})
		return err
	})
}

// next is r with a new primary, of which put puts what the root keeps of it.
func (r *Keyring) next(ctx context.Context, root Root, now time.Time, put func(*version) error) (*Keyring, error) {
	versions := r.unloaded()
	if n := len(versions); n > 0 {
		versions[n-1].State = decryptOnly
	}
	v := version{Number: uint32(len(versions) + 1), State: enabled, Created: now.UTC()}
	if err := put(&v); errors.Is(err, fault.Invalid) {
		return nil, err
	} else if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the root key did not make a KEK; try again")
	}
	return build(ctx, root, r.id, append(versions, v))
}

// Destroy returns a keyring without the material of version number, which then
// opens nothing any more. The primary cannot be destroyed. Whether the version
// is still in use is the caller's to know. Of an object in a token the name
// stays in the row: once that is stored, DestroyIn takes the object away.
func (r *Keyring) Destroy(ctx context.Context, root Root, number uint32) (*Keyring, error) {
	if number == 0 || number >= r.Primary() {
		return nil, fault.New(fault.Conflict, "only a decrypt-only version can be destroyed; rotate the KEK first")
	}
	versions := r.unloaded()
	versions[number-1].State = destroyed
	if root.Kind() != "pkcs11" {
		versions[number-1].Stored = nil
	}
	return build(ctx, root, r.id, versions)
}

// DestroyIn takes away for ever what root itself keeps of version number. It is for
// a version that the stored row calls destroyed, or that no stored row knows;
// it may be repeated.
func (r *Keyring) DestroyIn(ctx context.Context, root Root, number uint32) error {
	err := root.DestroyKEK(ctx, Name{KEKID: r.id, Version: number}, r.versions[number-1].Stored)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the root did not take away a KEK; try again")
	}
	return nil
}

// unloaded returns a copy of r's versions without their keys, for another keyring.
func (r *Keyring) unloaded() []version {
	versions := slices.Clone(r.versions)
	for i := range versions {
		versions[i].kek = nil
	}
	return versions
}

// ID returns the KEK's ID.
func (r *Keyring) ID() string { return r.id }

// Primary returns the number of the version that wraps.
func (r *Keyring) Primary() uint32 { return uint32(len(r.versions)) }

// Wrap wraps a DEK of 32 bytes under the primary, bound to aad, and returns it
// (60 bytes) with the primary's number.
func (r *Keyring) Wrap(dek, aad []byte) (wrapped []byte, number uint32, err error) {
	if len(dek) != aead.KeySize {
		return nil, 0, aead.ErrKeySize
	}
	number = r.Primary()
	wrapped, err = r.versions[number-1].kek.Wrap(dek, r.dekAAD(number, aad))
	return wrapped, number, err
}

// Unwrap returns the 32 bytes of the DEK that version number wrapped with the
// same aad; the caller wipes them with clear. It fails with aead.ErrOpen, which
// is fault.Damaged too when the version is lost, or with another error when the
// root cannot be reached.
func (r *Keyring) Unwrap(number uint32, wrapped, aad []byte) ([]byte, error) {
	if number == 0 || number > r.Primary() || r.versions[number-1].State == destroyed {
		return nil, fmt.Errorf("unwrap a DEK: no such KEK version: %w", aead.ErrOpen)
	}
	if r.versions[number-1].lost() {
		return nil, errLost
	}
	dek, err := r.versions[number-1].kek.Unwrap(wrapped, r.dekAAD(number, aad))
	if err == nil && len(dek) != aead.KeySize {
		clear(dek)
		err = aead.ErrOpen
	}
	if err != nil {
		return nil, fmt.Errorf("unwrap a DEK: %w", err)
	}
	return dek, nil
}

// Rewrap unwraps a DEK under version number and wraps it under the primary.
func (r *Keyring) Rewrap(number uint32, wrapped, aad []byte) ([]byte, uint32, error) {
	dek, err := r.Unwrap(number, wrapped, aad)
	if err != nil {
		return nil, 0, err
	}
	defer clear(dek)
	return r.Wrap(dek, aad)
}

// errLost is the answer for what is under a version that the root has not.
var errLost = fault.Wrap(fault.Damaged, aead.ErrOpen,
	"this is under a version of its KEK that the root key does not have any more, as after the restore of a backup from before the version was destroyed; bring the root's key back and start the KMS again")

// Wipe makes the keyring unusable and lets go of its keys.
func (r *Keyring) Wipe() {
	for _, v := range r.versions {
		if v.kek != nil {
			v.kek.Wipe()
		}
	}
}

// dekAAD is the AAD of a wrapped DEK: kind, KEK ID, KEK version and the caller's AAD.
func (r *Keyring) dekAAD(number uint32, aad []byte) []byte {
	return aead.AAD("keyfold/wrapped-dek/v1", r.id, decimal(number), string(aad))
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// load gives every version its KEK. On failure nothing stays loaded.
func (r *Keyring) load(ctx context.Context, root Root) error {
	for i := range r.versions {
		if err := r.loadVersion(ctx, root, &r.versions[i]); err != nil {
			r.Wipe()
			return err
		}
	}
	return nil
}

// loadVersion gives v its KEK, if it needs one and has none. An older version
// that root does not open is lost, and the others go on: r's row is known to be
// as it was written, so that it is the root that lacks something.
func (r *Keyring) loadVersion(ctx context.Context, root Root, v *version) error {
	if v.State == destroyed || v.kek != nil {
		return nil
	}
	kek, err := root.LoadKEK(ctx, Name{KEKID: r.id, Version: v.Number}, v.Stored)
	switch {
	case errors.Is(err, aead.ErrOpen) && v.State == decryptOnly:
		return nil
	case errors.Is(err, aead.ErrOpen):
		return damaged(err)
	case err != nil:
		return fault.Wrap(fault.Unavailable, err, "the root key did not load a KEK; try again")
	}
	v.kek = kek
	return nil
}
