// Package audit keeps records of what was done with keys: appended to a file,
// each bound to the one before it by a hash and signed, so that a record that
// was changed, moved, taken out or cut off is found by anyone who has the
// public key.
package audit

import (
	"context"
	"time"
)

// Event is what happened. It never holds key material or plaintext.
type Event struct {
	Time    time.Time      `json:"time"`             // zero: the time of recording
	Actor   string         `json:"actor"`            // "uid:1000", "cert:keyfold-server", "user:<uuid>", "process"
	Action  string         `json:"action"`           // "kek.create", "kek.rotate", "dek.shred", ...
	Target  string         `json:"target,omitzero"`  // the key, thread or job it was done to
	Outcome string         `json:"outcome,omitzero"` // "" when it is about to be done, else "failed" or "refused"
	Detail  map[string]any `json:"detail,omitzero"`  // facts: versions, counts
}

// Recorder makes events durable. An error means that they may not be on stable
// storage; what they stand for must then not be done.
type Recorder interface {
	Record(ctx context.Context, events ...Event) error
}
