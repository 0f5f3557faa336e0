package keyring

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
)

// The row of a keyring in the store:
//
//	seal (60 bytes) | body (JSON: an array of versions, from 1 upwards, without gaps)
//
//	[{"version":1,"state":"decrypt-only","created":"2026-11-21T10:00:00Z","stored":"<base64>"},
//	 {"version":2,"state":"enabled",...}]
//
// "stored" is what the root keeps of a KEK: its material, wrapped by the root
// key (file), or the name of an object (token). A destroyed version has no
// material; the name of its object stays, so that its removal can be repeated.
// A version that was imported has "proof", too, for ever: what its material
// sealed (see proofAAD), so that the same material is known when it comes again.
//
// The seal is the SHA-256 of the body, wrapped by the primary like a DEK, with
// AAD of its own kind. So every byte of the row is authenticated by a key that
// only the root opens, and a row cannot be put together from others.

type state string

const (
	enabled     state = "enabled"      // the primary: wraps and unwraps
	decryptOnly state = "decrypt-only" // unwraps
	destroyed   state = "destroyed"    // neither; the material is gone
)

type version struct {
	Number  uint32    `json:"version"`
	State   state     `json:"state"`
	Created time.Time `json:"created"`
	Stored  []byte    `json:"stored,omitempty"`
	Proof   []byte    `json:"proof,omitempty"`
	kek     KEK       // nil when destroyed or lost
}

// lost reports whether the root does not have v, which is not destroyed. That is
// for as long as the keyring lives; the row does not say it.
func (v version) lost() bool { return v.kek == nil && v.State == decryptOnly }

const sealSize = sha256.Size + aead.Overhead

// rowAAD is the AAD of a row's seal.
func rowAAD(id string) []byte { return aead.AAD("keyfold/keyring/v1", id) }

// Marshal returns the row. It is the caller's to keep, not to change.
func (r *Keyring) Marshal() []byte { return r.row }

// Parse returns the keyring of the KEK id from its row. A row whose primary root
// does not open, or that is not as a Keyring wrote it, is fault.Damaged. Older
// versions are loaded when the row has proved to be ours; one that root does not
// open is lost (see VersionInfo).
func Parse(ctx context.Context, root Root, id string, row []byte) (*Keyring, error) {
	if len(row) < sealSize {
		return nil, damaged(errors.New("row too short"))
	}
	r := &Keyring{id: id, row: slices.Clone(row)}
	body := r.row[sealSize:]
	if err := json.Unmarshal(body, &r.versions); err != nil {
		return nil, damaged(errors.New("row is not JSON")) // the JSON error may quote the row
	}
	if err := check(r.versions); err != nil {
		return nil, damaged(err)
	}
	if err := r.loadVersion(ctx, root, &r.versions[r.Primary()-1]); err != nil {
		return nil, err
	}
	if err := r.verify(body); err != nil {
		r.Wipe()
		return nil, err
	}
	if err := r.load(ctx, root); err != nil {
		return nil, err
	}
	return r, nil
}

// check refuses versions out of order, missing or doubled, and anything but
// one primary, the newest.
func check(versions []version) error {
	if len(versions) == 0 {
		return errors.New("row has no version")
	}
	for i, v := range versions {
		last := i == len(versions)-1
		switch {
		case v.Number != uint32(i+1):
			return errors.New("row's versions are not 1, 2, 3 and so on")
		case v.State != enabled && v.State != decryptOnly && v.State != destroyed:
			return errors.New("row has an unknown state")
		case last != (v.State == enabled):
			return errors.New("row's primary is not its newest version alone")
		}
	}
	return nil
}

// verify opens the row's seal. It needs the primary alone.
func (r *Keyring) verify(body []byte) error {
	sum, err := r.versions[r.Primary()-1].kek.Unwrap(r.row[:sealSize], rowAAD(r.id))
	if errors.Is(err, aead.ErrOpen) {
		return damaged(err)
	} else if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the root key did not open a keyring; try again")
	}
	if want := sha256.Sum256(body); string(sum) != string(want[:]) {
		return damaged(errors.New("row's body is not the sealed one"))
	}
	return nil
}

// build makes the keyring of versions, its row included, with keys of its own.
func build(ctx context.Context, root Root, id string, versions []version) (*Keyring, error) {
	r := &Keyring{id: id, versions: versions}
	if err := r.load(ctx, root); err != nil {
		return nil, err
	}
	body, err := json.Marshal(versions)
	if err != nil {
		r.Wipe()
		return nil, fault.Wrap(fault.Internal, err, "the keyring could not be written")
	}
	sum := sha256.Sum256(body)
	seal, err := versions[r.Primary()-1].kek.Wrap(sum[:], rowAAD(id))
	if err != nil {
		r.Wipe()
		return nil, fault.Wrap(fault.Unavailable, err, "the root key did not seal a keyring; try again")
	}
	r.row = append(seal, body...)
	return r, nil
}

func damaged(cause error) error {
	return fault.Wrap(fault.Damaged, cause,
		"the root key does not open a stored KEK: use the root key that this store was made with, or restore the store from its backup")
}
