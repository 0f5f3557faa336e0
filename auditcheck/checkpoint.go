package auditcheck

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/keyfold/keyfold/api"
)

const checkpointDomain = "keyfold/trail/checkpoint/v1"

// MaxHeads is the greatest number of heads in a checkpoint.
const MaxHeads = 1000

// KeyID names a key that signs checkpoints.
func KeyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:8])
}

// Sign signs p with key, whose ID it writes into p.
func Sign(p *api.AuditCheckpoint, key ed25519.PrivateKey) error {
	p.KeyID = KeyID(key.Public().(ed25519.PublicKey))
	text, _, err := encode(p)
	p.Signature = ed25519.Sign(key, text)
	return err
}

// CheckpointHash is what the checkpoint after p holds as prev_hash.
func CheckpointHash(p api.AuditCheckpoint) (Hash, error) {
	text, _, err := encode(&p)
	return sha256.Sum256(text), err
}

// encode returns what is signed of p, and its heads.
func encode(p *api.AuditCheckpoint) (text []byte, heads []head, err error) {
	prev, ok := parseHash(p.PrevHash)
	if !ok || !exact(p.CreatedAt) || p.Number == 0 || len(p.Heads) > MaxHeads {
		return nil, nil, errShape
	}
	text = appendField(text, checkpointDomain)
	text = appendField(text, p.OrgID)
	text = appendNumber(text, p.Number)
	text = appendNumber(text, uint64(p.CreatedAt.UnixNano()))
	text = appendField(text, prev[:])
	text = appendField(text, p.KeyID)
	for _, w := range p.Heads {
		h, err := parseHead(w)
		if err != nil {
			return nil, nil, err
		}
		h.number = p.Number
		heads = append(heads, h)
		b := binary.BigEndian.AppendUint64(h.chain[:], h.seq)
		b = binary.BigEndian.AppendUint64(b, uint64(h.time))
		text = appendField(text, append(b, h.hash[:]...))
	}
	return text, heads, nil
}

// exact reports whether nanoseconds since 1970 say all of t.
func exact(t time.Time) bool { return t.UnixNano() >= 0 && time.Unix(0, t.UnixNano()).Equal(t) }

// place names an event.
type place struct {
	chain Chain
	seq   uint64
}

// head is the end of a chain as a checkpoint names it.
type head struct {
	place
	time   int64
	hash   Hash
	number uint64 // of the checkpoint
	seen   bool
}

func parseHead(w api.AuditHead) (h head, err error) {
	chain, seq, ok := ParseEventID(w.EventID)
	hash, ok2 := parseHash(w.IntegrityHash)
	if !ok || !ok2 || !exact(w.CreatedAt) {
		return h, errShape
	}
	return head{place: place{chain, seq}, time: w.CreatedAt.UnixNano(), hash: hash}, nil
}
