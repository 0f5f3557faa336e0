// Package audit keeps records of what was done with keys: appended to files,
// each bound to the one before it by a hash and signed, so that a record that
// was changed, moved, taken out or cut off is found by anyone who has the
// public key.
//
// It owns one directory per process (see format.go for what lies in it) and
// the file of a signing key. It trusts the signing key and the memory of the
// process that appends, and nothing that lies on the disk: Open refuses a log
// that is not whole up to its signed head, and Verify says where any log is
// wrong. Whoever can write to the directory can still put back an older copy of
// all of it; that is what anchors are for, pairs of seq and hash that were
// noted elsewhere.
//
// When Record returns nil its records, and a head that names the last of them,
// are on stable storage. A crash can leave records that were never answered:
// Open keeps those whose group is whole and signed, cuts the rest off, and
// records that it did.
//
// Events are written as they are given, in clear. Callers never put key
// material, plaintext or credentials into them.
package audit

import (
	"context"
	"time"
)

// Event is what happened. It never holds key material or plaintext. As JSON it
// has at most 16 KiB.
type Event struct {
	Time    time.Time      `json:"time"`             // zero: the time of recording
	Actor   string         `json:"actor"`            // "uid:1000", "cert:keyfold-server", "user:<uuid>", "process"
	Action  string         `json:"action"`           // "kek.create", "kek.rotate", "dek.shred", ...
	Target  string         `json:"target,omitzero"`  // the key, thread or job it was done to
	Outcome string         `json:"outcome,omitzero"` // "" when it is about to be done, or "failed"
	Detail  map[string]any `json:"detail,omitzero"`  // facts: versions, counts
}

// Recorder makes events durable. An error means that they may not be on stable
// storage; what they stand for must then not be done.
type Recorder interface {
	Record(ctx context.Context, events ...Event) error
}
