package kmsapi

import "time"

// RewrapItem asks for a DEK wrapped anew, by the primary of its KEK. It names
// either a thread's DEK by KeyID, which the KMS then rewraps in its store, or
// the wrapped DEK of an envelope with the AAD that it was sealed with. What is
// under the primary already comes back as it is.
type RewrapItem struct {
	KeyID string `json:"key_id"`

	KEKID      string `json:"kek_id"`
	KEKVersion uint32 `json:"kek_version"`
	WrappedDEK []byte `json:"wrapped_dek"`
	AAD        []byte `json:"aad"`
}

// RewrapResult answers a RewrapItem.
type RewrapResult struct {
	WrappedDEK []byte `json:"wrapped_dek"`
	KEKID      string `json:"kek_id"`
	KEKVersion uint32 `json:"kek_version"`
	Err        error  `json:"-"`
}

// KeysQuery chooses a page of keys.
type KeysQuery struct {
	DEKs  bool   // threads' DEKs instead of KEKs
	After string // the ID after which the page begins; "" for the first
	Limit int    // at most so many; 0: 100, at most MaxBatch
	Count bool   // of each KEK version, count the threads' DEKs under it: reads every DEK's row
}

// Keys is a page of keys. It holds no material.
type Keys struct {
	KEKs []KEK  `json:"keks,omitempty"`
	DEKs []DEK  `json:"deks,omitempty"`
	Next string `json:"next,omitzero"` // KeysQuery.After of the next page; "" at the end
}

// KEK describes a KEK.
type KEK struct {
	ID       string       `json:"kek_id"`
	Versions []KEKVersion `json:"versions"` // from 1 upwards; the last one is the primary
}

// KEKVersion describes one version of a KEK.
type KEKVersion struct {
	Version  uint32    `json:"version"`
	State    string    `json:"state"` // enabled, decrypt-only or destroyed
	Created  time.Time `json:"created"`
	Imported bool      `json:"imported,omitzero"` // its material was made elsewhere, where it may still be
	Wraps    int64     `json:"wraps"`             // made or reserved so far
	DEKs     *int      `json:"deks,omitzero"`     // threads' DEKs under it; nil: not counted
	Released bool      `json:"released,omitzero"` // the server said that it holds nothing under it any more
	Lost     bool      `json:"lost,omitzero"`     // the root does not have it; what is under it does not open
}

// DEK describes a thread's DEK.
type DEK struct {
	KeyID      string    `json:"key_id"`
	ThreadID   string    `json:"thread_id"`
	KEKID      string    `json:"kek_id"`
	KEKVersion uint32    `json:"kek_version"`
	Version    uint32    `json:"key_version"`
	Created    time.Time `json:"created"`
	Seals      int64     `json:"seals"` // made or reserved so far
}

// ListQuery chooses a page of KEKs.
type ListQuery struct {
	After string // the ID after which the page begins; "" for the first
	Limit int    // at most so many; 0: 100, at most MaxBatch
	Count bool   // of each version of the threads' KEK, count the threads' DEKs under it
}

// KEKList is a page of KEKs as their rows describe them. Nothing proves a row
// here, nor that the KEK opens: Keys does.
type KEKList struct {
	Root      string      `json:"root"`            // file or pkcs11
	Locked    bool        `json:"locked,omitzero"` // the root key cannot be used now
	WrapLimit int64       `json:"wrap_limit"`      // wraps that one version makes at most
	KEKs      []ListedKEK `json:"keks"`
	Next      string      `json:"next,omitzero"` // ListQuery.After of the next page; "" at the end
}

// ListedKEK is a KEK of a KEKList. DEKs of its versions are as of the last
// minute, and Lost is not known.
type ListedKEK struct {
	KEK
	Damaged bool `json:"damaged,omitzero"` // the row cannot be read; there are no versions
}

// DEKList is what the rows of threads' DEKs say that were asked for by key ID, in
// the order of asking; one that is not there is left out. Nothing proves a row here,
// nor that the DEK opens: Keys does.
type DEKList struct {
	SealLimit int64       `json:"seal_limit"` // seals that a DEK makes at most
	DEKs      []ListedDEK `json:"deks"`
}

// ListedDEK is a DEK of a DEKList.
type ListedDEK struct {
	DEK
	Damaged bool `json:"damaged,omitzero"` // the row cannot be read; there is but the key ID
}

// Rotate asks for a new primary.
type Rotate struct {
	KEKID     string `json:"kek_id,omitzero"`
	All       bool   `json:"all,omitzero"`        // of every KEK, by the job
	IfVersion uint32 `json:"if_version,omitzero"` // rotate only while this is the primary of KEKID; 0: in any case
}

// Rotated answers Rotate. When it comes, KEKVersion is the primary (All: once
// the job came to it); the threads' DEKs under older versions follow in the job.
// A KEK that wraps no thread's DEK needs no job: then Job is zero, and absent on
// the wire.
type Rotated struct {
	KEKID      string `json:"kek_id,omitzero"`
	KEKVersion uint32 `json:"kek_version,omitzero"`
	Job        Job    `json:"job,omitzero"`
}

// Job is work that goes on in the KMS.
type Job struct {
	ID        string    `json:"job_id"`
	Kind      string    `json:"kind"`
	Status    string    `json:"status"` // running, completed, failed or cancelled
	Total     int       `json:"total"`
	Processed int       `json:"processed"`
	Failed    int       `json:"failed"`
	FailedOf  []string  `json:"failed_of,omitempty"` // the first names of what failed and was left as it was
	Error     string    `json:"error,omitzero"`      // why it failed, or what it waits for
	Created   time.Time `json:"created_at"`
	Updated   time.Time `json:"updated_at"`
}

// Status describes a running KMS.
type Status struct {
	Version    string    `json:"version"`
	Started    time.Time `json:"started_at"`
	Root       string    `json:"root"`                 // file or pkcs11
	Locked     string    `json:"locked,omitzero"`      // why the root key cannot be used; "": unlocked
	Store      string    `json:"store,omitzero"`       // why the key store does not answer; "": it does
	Memory     []string  `json:"memory,omitzero"`      // protections of memory that the system does not give
	AuditSeq   uint64    `json:"audit_seq"`            // number of the last audit record
	AuditHash  string    `json:"audit_hash"`           // its hash, hex
	AuditError string    `json:"audit_error,omitzero"` // why keys cannot be changed any more; "": they can
	AuditKey   string    `json:"audit_key"`            // public key of the audit, base64
}
