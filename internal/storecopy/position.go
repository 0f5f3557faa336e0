package storecopy

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/store"
)

// position is how far a copy is: the row layout.StoreCopy of the target, as JSON.
//
//	{"source":"pebble:/var/lib/keyfold/server","total":12,
//	 "last":"<base64>","records":7,"bytes":1234,"sum":"<base64>"}
//
// last is the key that was copied last; records, bytes and sum are of all that was
// copied: sum is the state of a SHA-256 that goes on with the next record.
type position struct {
	Source  string `json:"source"`
	Total   int    `json:"total"` // records of the source when the copy began
	Last    []byte `json:"last"`
	Records int    `json:"records"`
	Bytes   int64  `json:"bytes"`
	Sum     []byte `json:"sum"`

	read digest
}

func newPosition(source string) position { return position{Source: source, read: newDigest()} }

func (p *position) parse(row []byte) error {
	if err := json.Unmarshal(row, p, json.RejectUnknownMembers(true)); err != nil {
		return err
	}
	p.read = digest{Records: p.Records, Bytes: p.Bytes, hash: sha256.New()}
	return p.read.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(p.Sum)
}

// note is the row of p.
func (p *position) note() (row []byte, err error) {
	if p.Sum, err = p.read.hash.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// start is the first key that was not copied yet, if it is there.
func (p *position) start() string {
	if len(p.Last) == 0 {
		return ""
	}
	return string(p.Last) + "\x00"
}

// add notes that rec goes with the next commit.
func (p *position) add(rec store.Record) {
	p.read.add(rec)
	p.Last, p.Records, p.Bytes = []byte(rec.Key), p.read.Records, p.read.Bytes
}

// digest is that of all that was copied.
func (p *position) digest() digest { return p.read }

// digest sums up records in the order of their keys. Of each it takes the length of
// the key and of the value, in four bytes each, big endian, then both.
type digest struct {
	Records int
	Bytes   int64
	hash    hash.Hash
}

func newDigest() digest { return digest{hash: sha256.New()} }

func (d *digest) add(rec store.Record) {
	var head [8]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(rec.Key)))
	binary.BigEndian.PutUint32(head[4:], uint32(len(rec.Value)))
	d.hash.Write(head[:])
	d.hash.Write([]byte(rec.Key))
	d.hash.Write(rec.Value)
	d.Records++
	d.Bytes += int64(len(rec.Key) + len(rec.Value))
}

func (d *digest) sum() [sha256.Size]byte { return [sha256.Size]byte(d.hash.Sum(nil)) }

func (d *digest) report() Report {
	sum := d.sum()
	return Report{Records: d.Records, Bytes: d.Bytes, SHA256: hex.EncodeToString(sum[:])}
}
