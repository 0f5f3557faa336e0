package kmsapi

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// CMEKRotationKey is the public half of a one-time HPKE key, to which the two
// keys of one rotation may be sealed.
type CMEKRotationKey struct {
	KeyID     string    `json:"key_id"`
	Suite     string    `json:"suite"`      // CMEKRotationSuite
	PublicKey []byte    `json:"public_key"` // 65 bytes: an uncompressed point of P-256
	Expires   time.Time `json:"expires_at"`
}

// CMEKRotationSuite names what keys are sealed with, by RFC 9180: base mode, KEM
// 0x0010, KDF 0x0001, AEAD 0x0002. The AAD is empty.
const CMEKRotationSuite = "DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM"

// CMEKRotationInfo is the HPKE info of sealed keys, ASCII, without a newline at
// its end. What is sealed is the old key and then the new one, 64 bytes.
//
//	keyfold/cmek-rotation/v1
//	<vault>
//	<old fingerprint>
//	<new fingerprint>
func CMEKRotationInfo(vault, oldFingerprint, newFingerprint string) []byte {
	return []byte("keyfold/cmek-rotation/v1\n" + vault + "\n" + oldFingerprint + "\n" + newFingerprint)
}

// OpenCMEKRotation asks for a session that holds the two keys of one rotation:
// raw in Old and New, or both in Sealed. Old and New are the caller's to wipe.
// It prints [redacted].
type OpenCMEKRotation struct {
	Owner          string     `json:"owner"` // whose share of the sessions this one is of; "": nobody's
	Vault          string     `json:"vault"`
	OldFingerprint string     `json:"old_fingerprint"`
	NewFingerprint string     `json:"new_fingerprint"`
	NewKeyCheck    string     `json:"new_key_check"` // cmek.Key.Check of the new key for Vault; "": none is claimed
	Old            []byte     `json:"old"`           // 32 bytes
	New            []byte     `json:"new"`           // 32 bytes
	Sealed         SealedKeys `json:",embed"`
}

// SealedKeys is both keys of a rotation under a CMEKRotationKey. Its zero value
// is none.
type SealedKeys struct {
	KeyID      string `json:"key_id"`
	Enc        []byte `json:"enc"`        // 65 bytes: the encapsulated key
	Ciphertext []byte `json:"ciphertext"` // 80 bytes: the two keys and a tag
}

// String hides the keys.
func (OpenCMEKRotation) String() string { return "[redacted]" }

// Format hides the keys from every verb of fmt.
func (o OpenCMEKRotation) Format(s fmt.State, _ rune) { io.WriteString(s, o.String()) }

// LogValue hides the keys from slog.
func (o OpenCMEKRotation) LogValue() slog.Value { return slog.StringValue(o.String()) }

// CMEKRotationOpened answers OpenCMEKRotation.
type CMEKRotationOpened struct {
	Session string `json:"session"`
	Err     error  `json:"-"`
}

// CMEKRotationAlive says whether a session holds its keys.
type CMEKRotationAlive struct {
	Alive bool `json:"alive"`
}

// ReencryptItem asks for a value in an envelope, a blob of package cmek in
// either form, to be re-encrypted with the keys of a session.
type ReencryptItem struct {
	Envelope Envelope `json:",embed"`
	AAD      []byte   `json:"aad"`     // with which Envelope was sealed
	NewAAD   []byte   `json:"new_aad"` // of the envelope that comes back
	Path     string   `json:"path"`    // of the secret: bound blobs name it
}

// ReencryptResult answers a ReencryptItem. Envelope has a fresh DEK under the
// primary of the same KEK.
type ReencryptResult struct {
	Envelope Envelope `json:",embed"`
	Opened   string   `json:"opened"` // OpenedOld or OpenedNew
	Err      error    `json:"-"`
}

// What ReencryptResult.Opened says: which key the value was under.
const (
	OpenedOld = "old" // it is under the new key now, in the form and version that it had
	OpenedNew = "new" // it was under the new key already, and is as it was
)

// Problem types of CMEK rotations.
const (
	TypeCMEKOldKey      = "cmek_old_key"           // fault.Invalid: the old key is not 32 bytes, or has not the old fingerprint
	TypeCMEKNewKey      = "cmek_new_key"           // fault.Invalid: as that, of the new key; or it is the old one
	TypeCMEKKeyCheck    = "cmek_key_check"         // fault.Invalid: the key check is not the new key's for this vault
	TypeCMEKSealedKeys  = "cmek_sealed_keys"       // fault.Invalid: they do not open with this vault and these fingerprints
	TypeCMEKKeyGone     = "cmek_rotation_key_gone" // fault.Invalid: the one-time key was used, or its time is over
	TypeCMEKFull        = "cmek_rotations_full"    // fault.Unavailable: so many sessions are open
	TypeCMEKShare       = "cmek_share_used"        // fault.TooMany: so many sessions, or one-time keys, of this owner are there
	TypeCMEKSessionGone = "cmek_session_gone"      // fault.NotFound: it was closed, was idle for too long, or was lost with its process
	TypeCMEKNeitherKey  = "cmek_neither_key"       // fault.Unopenable, of an item: the value opens with neither key
)

// The item calls of CMEK rotations. Reencrypt's session is in its query.
var (
	CMEKRotation = Call[OpenCMEKRotation, CMEKRotationOpened]{
		Path: "/cmek_rotation",
		in: message[OpenCMEKRotation]{
			{1, "vault", true, func(x *OpenCMEKRotation) any { return &x.Vault }},
			{2, "old_fingerprint", true, func(x *OpenCMEKRotation) any { return &x.OldFingerprint }},
			{3, "new_fingerprint", true, func(x *OpenCMEKRotation) any { return &x.NewFingerprint }},
			{4, "old", false, func(x *OpenCMEKRotation) any { return &x.Old }},
			{5, "new", false, func(x *OpenCMEKRotation) any { return &x.New }},
			{6, "key_id", false, func(x *OpenCMEKRotation) any { return &x.Sealed.KeyID }},
			{7, "enc", false, func(x *OpenCMEKRotation) any { return &x.Sealed.Enc }},
			{8, "ciphertext", false, func(x *OpenCMEKRotation) any { return &x.Sealed.Ciphertext }},
			{9, "new_key_check", false, func(x *OpenCMEKRotation) any { return &x.NewKeyCheck }},
			{10, "owner", false, func(x *OpenCMEKRotation) any { return &x.Owner }},
		},
		out: message[CMEKRotationOpened]{
			{1, "session", true, func(x *CMEKRotationOpened) any { return &x.Session }},
			{15, "error", false, func(x *CMEKRotationOpened) any { return &x.Err }},
		},
	}

	Reencrypt = Call[ReencryptItem, ReencryptResult]{
		Path: "/reencrypt",
		in: message[ReencryptItem]{
			{1, "kek_id", true, func(x *ReencryptItem) any { return &x.Envelope.KEKID }},
			{2, "kek_version", true, func(x *ReencryptItem) any { return &x.Envelope.KEKVersion }},
			{3, "wrapped_dek", true, func(x *ReencryptItem) any { return &x.Envelope.WrappedDEK }},
			{4, "ciphertext", true, func(x *ReencryptItem) any { return &x.Envelope.Ciphertext }},
			{5, "aad", false, func(x *ReencryptItem) any { return &x.AAD }},
			{6, "new_aad", false, func(x *ReencryptItem) any { return &x.NewAAD }},
			{7, "path", false, func(x *ReencryptItem) any { return &x.Path }},
		},
		out: message[ReencryptResult]{
			{1, "kek_id", true, func(x *ReencryptResult) any { return &x.Envelope.KEKID }},
			{2, "kek_version", true, func(x *ReencryptResult) any { return &x.Envelope.KEKVersion }},
			{3, "wrapped_dek", true, func(x *ReencryptResult) any { return &x.Envelope.WrappedDEK }},
			{4, "ciphertext", true, func(x *ReencryptResult) any { return &x.Envelope.Ciphertext }},
			{5, "opened", true, func(x *ReencryptResult) any { return &x.Opened }},
			{15, "error", false, func(x *ReencryptResult) any { return &x.Err }},
		},
	}
)
