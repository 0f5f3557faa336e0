// Package keyshare splits a CMEK key among n people, of whom any k can make it
// again, and fewer cannot.
//
// It owns the share's format and touches no disk. What is shared is not the key
// but a random number made for this split alone (Shamir's scheme, by circl,
// over the scalars of the group ristretto255, whose arithmetic takes the same
// time for every secret); the key is sealed under a key derived from it, and
// the sealed key is in every share. It trusts the caller who splits, and no
// share: each names its set, and a share that was changed, that is of another
// split, or that is there twice is named, and no key is made of it. A forged
// set can be told by the key's fingerprint only, which is written in each
// share and which Combine holds the key to.
//
// Secret sharing is not in the Go cryptographic module; with
// GODEBUG=fips140=only this package works, and is not approved.
package keyshare

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/aead"
)

// MaxShares is the most shares that a key is split into. The least, and the
// least that can be asked for to make the key again, is 2.
const MaxShares = 32

var ristretto = group.Ristretto255

var errWiped = errors.New("keyshare: the key was wiped")

// Why shares are refused. The errors of Combine say of which share.
var (
	ErrNumbers   = errors.New("keyshare: a key is split into 2 to 32 shares, of which 2 or more make it again")
	ErrNotShare  = errors.New("keyshare: this is not a share of a CMEK key")
	ErrDamaged   = errors.New("keyshare: the share was changed, or a part of it is missing; take another copy of it, or another share")
	ErrOtherSet  = errors.New("keyshare: the shares are not of one split; shares of two splits do not go together, even of the same key")
	ErrTwice     = errors.New("keyshare: the same share is there twice")
	ErrTooFew    = errors.New("keyshare: more shares are needed")
	ErrNotTheKey = errors.New("keyshare: the shares fit together and do not make the key that they name; whoever made them forged them or had a fault")
)

// Split returns n shares of k, of which any threshold make it again, which it
// tries before it returns. Errors: ErrNumbers, and one for a wiped key.
func Split(k *cmek.Key, threshold, n int) ([]*Share, error) {
	if threshold < 2 || n < threshold || n > MaxShares {
		return nil, ErrNumbers
	}
	secret := ristretto.RandomNonZeroScalar(rand.Reader)
	set, err := newSet(k, secret, threshold)
	if err != nil {
		return nil, err
	}
	var shares []*Share
	for i, s := range secretsharing.New(rand.Reader, uint(threshold-1), secret).Share(uint(n)) {
		value, err := s.Value.MarshalBinary()
		if err != nil {
			return nil, err
		}
		share := &Share{set: set, index: i + 1}
		share.value.Store((*[valueSize]byte)(value))
		set.commitments = append(set.commitments, commitment(i+1, value))
		shares = append(shares, share)
	}
	return shares, prove(shares[n-threshold:])
}

// prove makes the key again, before anybody relies on the shares for it.
func prove(shares []*Share) error {
	k, err := Combine(shares)
	if err == nil {
		k.Wipe()
	}
	return err
}

func newSet(k *cmek.Key, secret group.Scalar, threshold int) (*set, error) {
	raw := k.Bytes()
	if len(raw) == 0 {
		return nil, errWiped
	}
	defer clear(raw)
	s := &set{fingerprint: k.Fingerprint(), threshold: threshold}
	sealer, err := sealingKey(secret)
	if err != nil {
		return nil, err
	}
	defer sealer.Wipe()
	s.sealed, err = sealer.Seal(raw, s.aad())
	return s, err
}

// sealingKey derives what the CMEK key is sealed under; the caller wipes it.
func sealingKey(secret group.Scalar) (*aead.Key, error) {
	bytes, err := secret.MarshalBinary()
	if err != nil {
		return nil, err
	}
	defer clear(bytes)
	raw, err := hkdf.Key(sha256.New, bytes, nil, "keyfold/cmek-share/v1", aead.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	return aead.NewKey(raw)
}

// Combine returns the key of shares, in any order: as many as their threshold,
// or more. Errors are ErrTooFew, ErrTwice, ErrOtherSet and ErrNotTheKey.
func Combine(shares []*Share) (*cmek.Key, error) {
	if err := check(shares); err != nil {
		return nil, err
	}
	set := shares[0].set
	points, err := points(shares)
	if err != nil {
		return nil, err
	}
	secret, err := secretsharing.Recover(uint(set.threshold-1), points)
	if err != nil {
		return nil, err
	}
	sealer, err := sealingKey(secret)
	if err != nil {
		return nil, err
	}
	defer sealer.Wipe()
	raw, err := sealer.Open(set.sealed, set.aad())
	if err != nil {
		return nil, ErrNotTheKey
	}
	defer clear(raw)
	k, err := cmek.NewKey(raw)
	if err == nil && k.Fingerprint() != set.fingerprint {
		k.Wipe()
		return nil, ErrNotTheKey
	}
	return k, err
}

// check refuses shares that do not go together or are too few.
func check(shares []*Share) error {
	if len(shares) == 0 {
		return ErrTooFew
	}
	first, seen := shares[0], map[int]bool{}
	for i, s := range shares {
		switch {
		case s.SetID() != first.SetID():
			return fmt.Errorf("%w: number %d of those given is of the set %.8s, number 1 of %.8s", ErrOtherSet, i+1, s.SetID(), first.SetID())
		case seen[s.index]:
			return fmt.Errorf("%w: share %d", ErrTwice, s.index)
		}
		seen[s.index] = true
	}
	if n := first.Threshold(); len(shares) < n {
		return fmt.Errorf("%w: %d of %d are here", ErrTooFew, len(shares), n)
	}
	return nil
}

func points(shares []*Share) ([]secretsharing.Share, error) {
	var out []secretsharing.Share
	for _, s := range shares {
		value := s.value.Load()
		if value == nil {
			return nil, errWiped
		}
		p := secretsharing.Share{ID: ristretto.NewScalar().SetUint64(uint64(s.index)), Value: ristretto.NewScalar()}
		if err := p.Value.UnmarshalBinary(value[:]); err != nil {
			return nil, ErrNotTheKey // at or above the group's order
		}
		out = append(out, p)
	}
	return out, nil
}

// set is what all shares of one split have in common.
type set struct {
	fingerprint string
	threshold   int
	sealed      []byte   // the key: nonce | ciphertext | tag
	commitments [][]byte // to the value of each share, 32 bytes each
}

func (s *set) aad() []byte {
	return aead.AAD("keyfold/cmek-share/v1", s.fingerprint, strconv.Itoa(s.threshold))
}

// id names the set by all that it is.
func (s *set) id() string {
	fields := []string{s.fingerprint, strconv.Itoa(s.threshold), string(s.sealed)}
	for _, c := range s.commitments {
		fields = append(fields, string(c))
	}
	sum := sha256.Sum256(aead.AAD("keyfold/cmek-share/set/v1", fields...))
	return hex.EncodeToString(sum[:])
}

// commitment hides the value, which is as random as the secret, and binds it.
func commitment(index int, value []byte) []byte {
	sum := sha256.Sum256(aead.AAD("keyfold/cmek-share/value/v1", strconv.Itoa(index), string(value)))
	return sum[:]
}
