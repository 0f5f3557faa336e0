package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/keyfold/keyfold/client"
)

// presence tells what a thread has already of an import: the IDs of its
// messages by fingerprint, oldest first.
type presence map[[32]byte][]string

// mark is the fingerprint by which a message is known again: its time, role
// and body.
func mark(ts int64, role string, body json.RawMessage) [32]byte {
	role = first(role, defaultRole)
	h := sha256.New()
	compact, err := compactJSON(body)
	if err != nil {
		compact = body
	}
	fmt.Fprintf(h, "%d %d %s", ts, len(role), role)
	h.Write(compact)
	return [32]byte(h.Sum(nil))
}

// defaultRole is the role of a message that names none.
const defaultRole = "user"

// findPresent reads the thread's messages between the two times.
func findPresent(ctx context.Context, c *client.Client, threadID string, from, to int64) (presence, error) {
	p := presence{}
	after := ""
	if from > 1 {
		after = fmt.Sprintf("%020d-%06d", from-1, 999_999)
	}
	for m, err := range c.Messages(ctx, threadID, after) {
		if err != nil {
			return nil, err
		}
		if m.TS > to {
			break
		}
		k := mark(m.TS, m.Role, m.Body)
		p[k] = append(p[k], m.ID)
	}
	return p, nil
}

// take returns the ID of a message with this mark, or "", and counts it as
// used: two equal lines are two messages.
func (p presence) take(k [32]byte) string {
	ids := p[k]
	if len(ids) == 0 {
		return ""
	}
	p[k] = ids[1:]
	return ids[0]
}
