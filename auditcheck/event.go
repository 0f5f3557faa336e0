// Package auditcheck recomputes an org's audit trail: the hash of every event,
// the chains that the hashes make, and the signed checkpoints over them. Server
// and offline check share it, and it reads no store: VerifyExport takes what
// GET /v1/audit/export answered, and trusts nothing in it that the keys of the
// server did not sign.
//
// # Events
//
// Every process that writes has a chain of its own in every org. The hash of an
// event is the SHA-256 of its encoding: these fields, each as its length (4
// bytes, big-endian) and its bytes.
//
//	"keyfold/trail/event/v1"
//	org_id
//	chain             8 bytes
//	seq               8 bytes, big-endian; from 1, without gaps
//	created_at        8 bytes, big-endian: nanoseconds since 1970, growing along the chain
//	prev_hash         32 bytes: the hash of seq-1; for seq 1 zeros
//	actor_type, actor_id, action, resource_type, resource_id, outcome, ip_address, request_id
//	details           key and value of each, in the order of their keys as bytes
//
// Texts are UTF-8. The ID of an event is the UUID (version 8) that names chain
// and seq: seq in 6 bytes, 80 00, then the chain, whose first two bits are 1 and
// 0. TestTheEncodingIsWhatItWas has an example.
//
// # Checkpoints
//
// A checkpoint is signed with Ed25519 over its encoding, in the same form:
//
//	"keyfold/trail/checkpoint/v1"
//	org_id
//	number            8 bytes, big-endian; from 1, without gaps
//	created_at        8 bytes, as above
//	prev_hash         32 bytes: the SHA-256 of the encoding of number-1; for 1 zeros
//	key_id            the first 16 hex digits of the SHA-256 of the public key
//	heads             of each: chain, seq, created_at, hash (8, 8, 8 and 32 bytes as one field)
package auditcheck

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/keyfold/keyfold/api"
)

const eventDomain = "keyfold/trail/event/v1"

// MaxSeq is the greatest seq.
const MaxSeq = 1<<48 - 1

// Hash is a SHA-256.
type Hash [sha256.Size]byte

// String is 64 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

func parseHash(text string) (h Hash, ok bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) || hex.EncodeToString(b) != text {
		return h, false
	}
	return Hash(b), true
}

// Chain names a chain.
type Chain [8]byte

// NewChain returns a name that no chain has: 62 random bits.
func NewChain() (c Chain) {
	rand.Read(c[:])
	c[0] = c[0]&0x3f | 0x80
	return c
}

// String is 16 lower-case hex digits.
func (c Chain) String() string { return hex.EncodeToString(c[:]) }

// ParseChain reads what String wrote.
func ParseChain(text string) (c Chain, ok bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(c) || hex.EncodeToString(b) != text || b[0]>>6 != 2 {
		return c, false
	}
	return Chain(b), true
}

// EventID is the ID of event seq of a chain.
func EventID(c Chain, seq uint64) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], seq<<16)
	b[6], b[7] = 0x80, 0
	copy(b[8:], c[:])
	var text [36]byte
	at := 0
	for i, part := range [][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if i > 0 {
			text[at] = '-'
			at++
		}
		at += hex.Encode(text[at:], part)
	}
	return string(text[:])
}

// ParseEventID reads what EventID wrote.
func ParseEventID(id string) (c Chain, seq uint64, ok bool) {
	if len(id) != 36 {
		return c, 0, false
	}
	b, err := hex.DecodeString(id[:8] + id[9:13] + id[14:18] + id[19:23] + id[24:])
	if err != nil || len(b) != 16 {
		return c, 0, false
	}
	c, seq = Chain(b[8:]), binary.BigEndian.Uint64(b)>>16
	return c, seq, c[0]>>6 == 2 && seq > 0 && EventID(c, seq) == id
}

// Event is what a hash covers.
type Event struct {
	Org   string
	Chain Chain
	Seq   uint64
	Time  int64 // nanoseconds since 1970
	Prev  Hash

	ActorType, ActorID       string
	Action                   string
	ResourceType, ResourceID string
	Outcome                  string
	Addr                     string // IP address; "": not known
	RequestID                string
	Details                  map[string]string
}

// ID is the event's ID.
func (e *Event) ID() string { return EventID(e.Chain, e.Seq) }

// Hash is the hash of e.
func (e *Event) Hash() Hash { return sha256.Sum256(e.AppendBody(e.AppendHead(nil))) }

// HeadSize is how many bytes AppendHead appends for an org.
func HeadSize(org string) int { return 6*4 + len(eventDomain) + len(org) + 3*8 + len(Hash{}) }

// AppendHead appends the encoding of e's place: the fields up to prev_hash.
func (e *Event) AppendHead(dst []byte) []byte {
	dst = appendField(dst, eventDomain)
	dst = appendField(dst, e.Org)
	dst = appendField(dst, e.Chain[:])
	dst = appendNumber(dst, e.Seq)
	dst = appendNumber(dst, uint64(e.Time))
	return appendField(dst, e.Prev[:])
}

// AppendBody appends the encoding of what happened: the rest.
func (e *Event) AppendBody(dst []byte) []byte {
	for _, f := range e.texts() {
		dst = appendField(dst, *f)
	}
	var few [16]string
	keys := slices.AppendSeq(few[:0], maps.Keys(e.Details))
	slices.Sort(keys)
	for _, key := range keys {
		dst = appendField(appendField(dst, key), e.Details[key])
	}
	return dst
}

func (e *Event) texts() [8]*string {
	return [...]*string{&e.ActorType, &e.ActorID, &e.Action, &e.ResourceType, &e.ResourceID, &e.Outcome, &e.Addr, &e.RequestID}
}

func appendField[T string | []byte](dst []byte, f T) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(f))), f...)
}

func appendNumber(dst []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 8), n)
}

var errShape = errors.New("not an event as it is written")

// ParseEvent reads what AppendHead and AppendBody wrote, to the byte.
func ParseEvent(b []byte) (e Event, err error) {
	r := reader{rest: b}
	r.bad = string(r.field()) != eventDomain
	e.Org = string(r.field())
	copy(e.Chain[:], r.fixed(8))
	e.Seq = binary.BigEndian.Uint64(r.fixed(8))
	e.Time = int64(binary.BigEndian.Uint64(r.fixed(8)))
	copy(e.Prev[:], r.fixed(len(e.Prev)))
	for _, f := range e.texts() {
		*f = string(r.field())
	}
	e.Details = map[string]string{}
	for last := ""; len(r.rest) > 0 && !r.bad; {
		key, value := string(r.field()), string(r.field())
		r.bad = r.bad || len(e.Details) > 0 && key <= last
		e.Details[key], last = value, key
	}
	if r.bad || e.Time < 0 || e.Seq < 1 || e.Seq > MaxSeq || e.Chain[0]>>6 != 2 {
		return Event{}, errShape
	}
	return e, nil
}

// reader reads fields.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) field() []byte {
	if len(r.rest) < 4 || uint64(binary.BigEndian.Uint32(r.rest)) > uint64(len(r.rest)-4) {
		r.bad, r.rest = true, nil
		return nil
	}
	n := 4 + int(binary.BigEndian.Uint32(r.rest))
	f := r.rest[4:n]
	r.rest = r.rest[n:]
	return f
}

func (r *reader) fixed(n int) []byte {
	f := r.field()
	if len(f) != n {
		r.bad = true
		return make([]byte, n)
	}
	return f
}

// Wire returns e as the API shows it; hash is e's.
func (e *Event) Wire(hash Hash) api.AuditEvent {
	w := api.AuditEvent{
		ID: e.ID(), OrgID: e.Org, ActorType: e.ActorType, ActorID: e.ActorID, Action: e.Action,
		ResourceType: e.ResourceType, ResourceID: e.ResourceID, Outcome: e.Outcome, Details: e.Details,
		IPAddress: e.Addr, RequestID: e.RequestID, CreatedAt: time.Unix(0, e.Time).UTC(),
		PrevHash: e.Prev.String(), IntegrityHash: hash.String(),
	}
	if w.Details == nil {
		w.Details = map[string]string{}
	}
	if e.Seq > 1 {
		w.PrevEventID = EventID(e.Chain, e.Seq-1)
	}
	return w
}

// FromWire is the mirror of Wire. hash is the one that w states.
func FromWire(w api.AuditEvent) (e Event, hash Hash, err error) {
	chain, seq, ok := ParseEventID(w.ID)
	prev, ok2 := parseHash(w.PrevHash)
	hash, ok3 := parseHash(w.IntegrityHash)
	e = Event{
		Org: w.OrgID, Chain: chain, Seq: seq, Time: w.CreatedAt.UnixNano(), Prev: prev, ActorType: w.ActorType, ActorID: w.ActorID,
		Action: w.Action, ResourceType: w.ResourceType, ResourceID: w.ResourceID, Outcome: w.Outcome, Addr: w.IPAddress,
		RequestID: w.RequestID, Details: w.Details,
	}
	if again := e.Wire(hash); !ok || !ok2 || !ok3 || e.Time < 0 || !again.CreatedAt.Equal(w.CreatedAt) || again.PrevEventID != w.PrevEventID {
		return Event{}, Hash{}, errShape
	}
	return e, hash, nil
}
