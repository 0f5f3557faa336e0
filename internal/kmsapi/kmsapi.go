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

// ThreadsKEK is the ID of the KEK over all thread DEKs.
const ThreadsKEK = "threads"

// KEKInfo describes a KEK. It holds no material.
type KEKInfo struct {
	KEKID   string
	Version uint32 // the primary version
}

// Envelope is one sealed value with its wrapped DEK.
type Envelope struct {
	KEKID      string
	KEKVersion uint32
	WrappedDEK []byte // nonce | wrapped 32 bytes | tag: 60 bytes
	Ciphertext []byte // nonce | ciphertext | tag
}

// SealItem asks for Plaintext under a fresh DEK, wrapped by KEKID's primary
// version. AAD is bound to both the ciphertext and the wrapped DEK.
type SealItem struct {
	KEKID     string
	Plaintext []byte
	AAD       []byte
}

// SealResult answers a SealItem.
type SealResult struct {
	Envelope Envelope
	Err      error
}

// OpenItem asks for the plaintext of an envelope.
type OpenItem struct {
	Envelope Envelope
	AAD      []byte
}

// OpenResult answers an OpenItem.
type OpenResult struct {
	Plaintext []byte
	Err       error
}

// CreateDEKItem asks for a DEK of one thread.
type CreateDEKItem struct {
	ThreadID string
}

// DEKInfo describes a thread's DEK. The KMS keeps the DEK; WrappedDEK is a
// copy for the thread's metadata, for recovery alone.
type DEKInfo struct {
	KeyID      string
	WrappedDEK []byte
	KEKID      string
	KEKVersion uint32
}

// CreateDEKResult answers a CreateDEKItem.
type CreateDEKResult struct {
	DEK DEKInfo
	Err error
}

// EncryptItem asks for Plaintext under the DEK named KeyID.
type EncryptItem struct {
	KeyID     string
	Plaintext []byte
	AAD       []byte
}

// EncryptResult answers an EncryptItem.
type EncryptResult struct {
	Ciphertext []byte // nonce | ciphertext | tag
	KeyVersion uint32
	Err        error
}

// DecryptItem asks for the plaintext of Ciphertext under the DEK named KeyID.
type DecryptItem struct {
	KeyID      string
	Ciphertext []byte
	AAD        []byte
}

// DecryptResult answers a DecryptItem.
type DecryptResult struct {
	Plaintext []byte
	Err       error
}
