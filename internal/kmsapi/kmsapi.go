// Package kmsapi holds what a caller of the key process says and hears: item
// and result types, and limits. Both kms.Service (in process) and, over a
// socket, the KMS client answer to these types, so that no caller knows which
// one it has.
//
// Every method takes a slice and answers a slice of the same length and order.
// An item fails alone, in its result's Err; the method's own error means that
// no item was worked on. Err and the method's error are *fault.Error.
package kmsapi

// MaxBatch is the greatest number of items in one call.
const MaxBatch = 1000

// HeaderRequestIDs holds, with commas, the IDs of the requests that a call is for,
// where there are several: the first 16 of them. X-Request-Id is the first.
const HeaderRequestIDs = "X-Request-Ids"

// ThreadsKEK is the ID of the KEK over all thread DEKs.
const ThreadsKEK = "threads"

// CreateKEKItem asks for the KEK of an ID, made if there is none.
type CreateKEKItem struct {
	KEKID string `json:"kek_id"`
}

// CreateKEKResult answers a CreateKEKItem.
type CreateKEKResult struct {
	KEKInfo
	Err error `json:"-"`
}

// KEKInfo describes a KEK. It holds no material.
type KEKInfo struct {
	KEKID   string `json:"kek_id"`
	Version uint32 `json:"kek_version"` // the primary version
}

// Envelope is one sealed value with its wrapped DEK.
type Envelope struct {
	KEKID      string `json:"kek_id"`
	KEKVersion uint32 `json:"kek_version"`
	WrappedDEK []byte `json:"wrapped_dek"` // nonce | wrapped 32 bytes | tag: 60 bytes
	Ciphertext []byte `json:"ciphertext"`  // nonce | ciphertext | tag
}

// SealItem asks for Plaintext under a fresh DEK, wrapped by KEKID's primary
// version. AAD is bound to both the ciphertext and the wrapped DEK.
type SealItem struct {
	KEKID     string `json:"kek_id"`
	Plaintext []byte `json:"plaintext"`
	AAD       []byte `json:"aad"`
}

// SealResult answers a SealItem.
type SealResult struct {
	Envelope Envelope `json:",embed"`
	Err      error    `json:"-"`
}

// OpenItem asks for the plaintext of an envelope.
type OpenItem struct {
	Envelope Envelope `json:",embed"`
	AAD      []byte   `json:"aad"`
}

// OpenResult answers an OpenItem.
type OpenResult struct {
	Plaintext []byte `json:"plaintext"`
	Err       error  `json:"-"`
}

// CreateDEKItem asks for a DEK of one thread.
type CreateDEKItem struct {
	ThreadID string `json:"thread_id"`
}

// DEKInfo describes a thread's DEK. The KMS keeps the DEK; WrappedDEK is a
// copy for the thread's metadata, for recovery alone.
type DEKInfo struct {
	KeyID      string `json:"key_id"`
	WrappedDEK []byte `json:"wrapped"`
	KEKID      string `json:"kek_id"`
	KEKVersion uint32 `json:"kek_version"`
}

// CreateDEKResult answers a CreateDEKItem.
type CreateDEKResult struct {
	DEK DEKInfo `json:",embed"`
	Err error   `json:"-"`
}

// EncryptItem asks for Plaintext under the DEK named KeyID.
type EncryptItem struct {
	KeyID     string `json:"key_id"`
	Plaintext []byte `json:"plaintext"`
	AAD       []byte `json:"aad"`
}

// EncryptResult answers an EncryptItem.
type EncryptResult struct {
	Ciphertext []byte `json:"ciphertext"` // nonce | ciphertext | tag
	KeyVersion uint32 `json:"key_version"`
	Err        error  `json:"-"`
}

// DecryptItem asks for the plaintext of Ciphertext under the DEK named KeyID.
type DecryptItem struct {
	KeyID      string `json:"key_id"`
	Ciphertext []byte `json:"ciphertext"`
	AAD        []byte `json:"aad"`
}

// DecryptResult answers a DecryptItem.
type DecryptResult struct {
	Plaintext []byte `json:"plaintext"`
	Err       error  `json:"-"`
}
