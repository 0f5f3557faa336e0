package kmsapi

import "time"

// CMEKSealItem asks for Plaintext sealed under a customer's key that the KMS
// keeps. Vault and Path go to the audit; a blob of version 2 is bound to them.
type CMEKSealItem struct {
	Fingerprint string `json:"fingerprint"`
	Vault       string `json:"vault"`
	Path        string `json:"path"`
	Version     uint32 `json:"version"` // of the blob: 1 or 2
	Plaintext   []byte `json:"plaintext"`
}

// CMEKSealResult answers a CMEKSealItem.
type CMEKSealResult struct {
	Value string `json:"value"` // the blob in base64
	Err   error  `json:"-"`
}

// CMEKOpenItem asks for the plaintext of a value, in any form and version.
type CMEKOpenItem struct {
	Fingerprint string `json:"fingerprint"`
	Vault       string `json:"vault"`
	Path        string `json:"path"`
	Value       string `json:"value"`
}

// CMEKOpenResult answers a CMEKOpenItem.
type CMEKOpenResult struct {
	Plaintext []byte `json:"plaintext"`
	Err       error  `json:"-"`
}

// CMEKKey describes a customer's key that the KMS keeps. It holds no material.
type CMEKKey struct {
	Fingerprint string      `json:"fingerprint"`
	Name        string      `json:"name,omitzero"`     // for people; 1 to 128 of A-Z a-z 0-9 _ . -, or none
	Imported    bool        `json:"imported,omitzero"` // it was somewhere else before
	Created     time.Time   `json:"created"`           // here
	KEKVersion  uint32      `json:"kek_version"`
	Seals       int64       `json:"seals"` // made or reserved here so far
	Grants      []CMEKGrant `json:"grants,omitempty"`
	Damaged     bool        `json:"damaged,omitzero"` // its row does not open; nothing else is known of it
}

// CMEKGrant lets one caller seal and open with one key.
type CMEKGrant struct {
	Caller string    `json:"caller"` // "cert:NAME" or "uid:NUMBER"
	Since  time.Time `json:"since"`
	By     string    `json:"by"` // who granted
}

// CMEKKeys is a page of customers' keys.
type CMEKKeys struct {
	Keys []CMEKKey `json:"keys"`
	Next string    `json:"next,omitzero"` // after what fingerprint the next page begins; "" at the end
}

// Problem types of customers' keys.
const (
	TypeCMEKNotGranted = "cmek_not_granted" // fault.Forbidden: the caller has no grant for the key, or there is none
	TypeCMEKGranted    = "cmek_key_granted" // fault.Conflict: a key is not deleted while somebody may use it
	TypeCMEKWornOut    = "cmek_worn_out"    // fault.Conflict: the key has made as many seals as it may
)

// The item calls with customers' keys.
var (
	CMEKSeal = Call[CMEKSealItem, CMEKSealResult]{
		Path: "/cmek_seal",
		in: message[CMEKSealItem]{
			{1, "fingerprint", true, func(x *CMEKSealItem) any { return &x.Fingerprint }},
			{2, "vault", true, func(x *CMEKSealItem) any { return &x.Vault }},
			{3, "path", true, func(x *CMEKSealItem) any { return &x.Path }},
			{4, "version", true, func(x *CMEKSealItem) any { return &x.Version }},
			{5, "plaintext", true, func(x *CMEKSealItem) any { return &x.Plaintext }},
		},
		out: message[CMEKSealResult]{
			{1, "value", true, func(x *CMEKSealResult) any { return &x.Value }},
			{15, "error", false, func(x *CMEKSealResult) any { return &x.Err }},
		},
	}

	CMEKOpen = Call[CMEKOpenItem, CMEKOpenResult]{
		Path: "/cmek_open",
		in: message[CMEKOpenItem]{
			{1, "fingerprint", true, func(x *CMEKOpenItem) any { return &x.Fingerprint }},
			{2, "vault", true, func(x *CMEKOpenItem) any { return &x.Vault }},
			{3, "path", true, func(x *CMEKOpenItem) any { return &x.Path }},
			{4, "value", true, func(x *CMEKOpenItem) any { return &x.Value }},
		},
		out: message[CMEKOpenResult]{
			{1, "plaintext", false, func(x *CMEKOpenResult) any { return &x.Plaintext }},
			{15, "error", false, func(x *CMEKOpenResult) any { return &x.Err }},
		},
	}
)
