package kms

import (
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"time"

	"github.com/google/uuid"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// How many one-time keys wait at most, in all and of one owner.
const (
	maxRotationKeys   = 1000
	ownerRotationKeys = 100
	rotationKeyLife   = 10 * time.Minute
)

// rotationKey is the private half of a kmsapi.CMEKRotationKey.
type rotationKey struct {
	private hpke.PrivateKey
	owner   string
	made    time.Time
	timer   *time.Timer
}

// CMEKRotationKey makes a key pair to which the two keys of one rotation may be
// sealed, and keeps the private half in memory until it is used, once, or 10
// minutes have passed. Of 1,000 that wait the oldest makes room. owner is as in
// kmsapi.OpenCMEKRotation. fault.TooMany of kmsapi.TypeCMEKShare: 100 of this
// owner wait. fault.Invalid: owner is no ID.
func (s *Service) CMEKRotationKey(_ context.Context, owner string) (kmsapi.CMEKRotationKey, error) {
	if err := checkOwner(owner); err != nil {
		return kmsapi.CMEKRotationKey{}, err
	}
	if err := s.rotations.keyRoom(owner); err != nil { // before the work
		return kmsapi.CMEKRotationKey{}, asFault(err)
	}
	var private hpke.PrivateKey
	var err error
	aead.Erasing(func() { private, err = hpke.DHKEM(ecdh.P256()).GenerateKey() })
	if err != nil {
		return kmsapi.CMEKRotationKey{}, fault.Wrap(fault.Internal, err, "the KMS could not make a key for a CMEK rotation; its log has the request ID")
	}
	id := uuid.NewString()
	rs := &s.rotations
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if err := rs.keyRoomLocked(owner); err != nil {
		return kmsapi.CMEKRotationKey{}, asFault(err)
	}
	if len(rs.keys) >= maxRotationKeys {
		rs.drop(rs.oldestKey())
	}
	rs.keys[id] = rotationKey{private, owner, time.Now(), time.AfterFunc(rotationKeyLife, func() { rs.takeKey(id) })}
	return kmsapi.CMEKRotationKey{
		KeyID: id, Suite: kmsapi.CMEKRotationSuite, PublicKey: private.PublicKey().Bytes(), Expires: s.now().Add(rotationKeyLife).UTC(),
	}, nil
}

func checkOwner(owner string) error {
	if owner != "" && !validID(owner) {
		return fault.New(fault.Invalid, "an owner's ID is 1 to 128 letters, digits, '_', '.' and '-', or none")
	}
	return nil
}

// keyRoom fails when owner may have no one-time key more.
func (rs *cmekRotations) keyRoom(owner string) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.keyRoomLocked(owner)
}

func (rs *cmekRotations) keyRoomLocked(owner string) error {
	of := 0
	for _, k := range rs.keys {
		if k.owner == owner {
			of++
		}
	}
	switch {
	case rs.closed:
		return errClosed
	case owner != "" && of >= ownerRotationKeys:
		return fault.New(fault.TooMany, "%d one-time keys for CMEK rotations of yours were not used yet; use them, or wait until they have expired, after 10 minutes", of).
			WithType(kmsapi.TypeCMEKShare)
	}
	return nil
}

func (rs *cmekRotations) oldestKey() (oldest string) {
	for id, k := range rs.keys {
		if oldest == "" || k.made.Before(rs.keys[oldest].made) {
			oldest = id
		}
	}
	return oldest
}

// takeKey returns a one-time key, and forgets it; nil when there is none.
func (rs *cmekRotations) takeKey(id string) hpke.PrivateKey {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.drop(id)
}

// drop is takeKey with rs.mu held.
func (rs *cmekRotations) drop(id string) hpke.PrivateKey {
	k, ok := rs.keys[id]
	if ok {
		delete(rs.keys, id)
		k.timer.Stop()
	}
	return k.private
}

// rotationKeys returns the two keys of o once they have proved to be what it
// says. Its own copies of the raw keys are cleared when it returns.
func (s *Service) rotationKeys(o kmsapi.OpenCMEKRotation) (old, fresh *cmek.Key, err error) {
	if !validID(o.Vault) {
		return nil, nil, fault.New(fault.Invalid, "a vault's ID is 1 to 128 letters, digits, '_', '.' and '-'")
	}
	if err := checkOwner(o.Owner); err != nil {
		return nil, nil, err
	}
	if !cmek.ValidFingerprint(o.OldFingerprint) || !cmek.ValidFingerprint(o.NewFingerprint) {
		return nil, nil, fault.New(fault.Invalid, "old_fingerprint and new_fingerprint are 64 lower-case hex digits each, the SHA-256 of the keys")
	}
	if o.Sealed.KeyID == "" {
		if len(o.Sealed.Enc)+len(o.Sealed.Ciphertext) > 0 {
			return nil, nil, fault.New(fault.Invalid, "sealed keys name the key_id that they are sealed to; send it")
		}
		return provenKeys(o, o.Old, o.New)
	}
	if len(o.Old)+len(o.New) > 0 {
		return nil, nil, fault.New(fault.Invalid, "send the keys once: raw in old and new, or sealed with a key_id")
	}
	pair, err := s.unsealKeys(o)
	if err != nil {
		return nil, nil, err
	}
	return provenPair(o, pair)
}

// provenPair is provenKeys for what was unsealed, which it clears.
func provenPair(o kmsapi.OpenCMEKRotation, pair []byte) (old, fresh *cmek.Key, err error) {
	defer clear(pair)
	return provenKeys(o, pair[:cmek.KeySize], pair[cmek.KeySize:])
}

// unsealKeys opens the sealed keys of o, 64 bytes, with the one-time key, which
// is used up whatever comes of it.
func (s *Service) unsealKeys(o kmsapi.OpenCMEKRotation) (pair []byte, err error) {
	private := s.rotations.takeKey(o.Sealed.KeyID)
	if private == nil {
		return nil, fault.New(fault.Invalid, "there is no key for a CMEK rotation of this key_id: it was used, 10 minutes have passed, or the KMS was started again; ask for another and seal the keys to it").
			WithType(kmsapi.TypeCMEKKeyGone)
	}
	aead.Erasing(func() { pair, err = hpkeOpen(private, o) })
	if err != nil || len(pair) != 2*cmek.KeySize {
		clear(pair)
		return nil, fault.New(fault.Invalid, "the sealed keys do not open: they were sealed to another key or for another vault or other fingerprints, or changed; ask for another key and seal both keys, 32 bytes each, to it").
			WithType(kmsapi.TypeCMEKSealedKeys)
	}
	return pair, nil
}

func hpkeOpen(private hpke.PrivateKey, o kmsapi.OpenCMEKRotation) ([]byte, error) {
	info := kmsapi.CMEKRotationInfo(o.Vault, o.OldFingerprint, o.NewFingerprint)
	r, err := hpke.NewRecipient(o.Sealed.Enc, private, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		return nil, err
	}
	return r.Open(nil, o.Sealed.Ciphertext)
}

// provenKeys returns keys that have the fingerprints of o, and its key check.
func provenKeys(o kmsapi.OpenCMEKRotation, rawOld, rawNew []byte) (old, fresh *cmek.Key, err error) {
	if old, err = provenKey(rawOld, o.OldFingerprint, "old", kmsapi.TypeCMEKOldKey); err != nil {
		return nil, nil, err
	}
	if fresh, err = provenKey(rawNew, o.NewFingerprint, "new", kmsapi.TypeCMEKNewKey); err == nil {
		if err = checkNew(o, fresh); err == nil {
			return old, fresh, nil
		}
		fresh.Wipe()
	}
	old.Wipe()
	return nil, nil, err
}

// checkNew fails when the new key is not what o says of it beside its fingerprint.
func checkNew(o kmsapi.OpenCMEKRotation, fresh *cmek.Key) error {
	switch {
	case o.OldFingerprint == o.NewFingerprint:
		return fault.New(fault.Invalid, "the new key is the old one; make another").WithType(kmsapi.TypeCMEKNewKey)
	case o.NewKeyCheck != "" && !cmek.CheckMatches(fresh, o.Vault, o.NewKeyCheck):
		return fault.New(fault.Invalid, "the new key check is not the new key's for this vault; make it with both, or leave it out").WithType(kmsapi.TypeCMEKKeyCheck)
	}
	return nil
}

func provenKey(raw []byte, fingerprint, which, errType string) (*cmek.Key, error) {
	k, err := cmek.NewKey(raw)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the %s key is %d bytes; a CMEK key is %d", which, len(raw), cmek.KeySize).WithType(errType)
	}
	if k.Fingerprint() != fingerprint {
		k.Wipe()
		return nil, fault.New(fault.Invalid, "the %s key has not the fingerprint that was named for it; check which key is which", which).WithType(errType)
	}
	return k, nil
}
