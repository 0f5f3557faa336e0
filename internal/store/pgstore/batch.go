package pgstore

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/keyfold/keyfold/internal/store"
)

// change is all that a batch says of one key.
type change struct {
	write    *store.Write // nil: none
	required *store.Revision
}

// changes gathers what b says of each key. It answers ErrConflict for
// preconditions that cannot hold together.
func changes(b *store.Batch) (map[string]change, error) {
	byKey := make(map[string]change, len(b.Writes)+len(b.Preconditions))
	for i := range b.Preconditions {
		p := &b.Preconditions[i]
		if c, ok := byKey[p.Key]; ok && *c.required != p.Revision {
			return nil, store.ErrConflict
		}
		byKey[p.Key] = change{required: &p.Revision}
	}
	for i := range b.Writes {
		w := &b.Writes[i]
		byKey[w.Key] = change{write: w, required: byKey[w.Key].required}
	}
	return byKey, nil
}

// queue puts the statements that apply changes into p, in the order of keys, so
// that two commits seldom wait for each other.
func queue(p *pipeline, byKey map[string]change, rev store.Revision) {
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		byKey[key].queue(p, []byte(key), number(uint64(rev)))
	}
}

func (c change) queue(p *pipeline, key, rev []byte) {
	put := c.write != nil && !c.write.Delete
	switch required := c.required; {
	case required == nil && put:
		p.add(&stPut, key, bytesOf(c.write.Value), rev)
	case required == nil:
		p.add(&stClaim, key)
		p.add(&stDelete, key)
	case *required == 0 && put:
		p.add(&stCreate, key, bytesOf(c.write.Value), rev)
	case *required == 0:
		p.add(&stReserve, key)
		p.add(&stDelete, key)
	case put:
		p.add(&stReplace, key, bytesOf(c.write.Value), rev, number(uint64(*required)))
	case c.write != nil:
		p.add(&stRemove, key, number(uint64(*required)))
	default:
		p.add(&stHold, key, number(uint64(*required)))
	}
}

// bytesOf returns v, or an empty value where it is nil, which would be NULL.
func bytesOf(v []byte) []byte {
	if v == nil {
		return []byte{}
	}
	return v
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// byteaArray is a list of keys in PostgreSQL's binary form: dimensions (1),
// whether there are NULLs (0), type of the elements, their count, the first
// index (1), each of 4 bytes; then for each element its length (4) and bytes.
func byteaArray(keys []string) []byte {
	var out []byte
	for _, n := range []int{1, 0, oidBytea, len(keys), 1} {
		out = binary.BigEndian.AppendUint32(out, uint32(n))
	}
	for _, k := range keys {
		out = binary.BigEndian.AppendUint32(out, uint32(len(k)))
		out = append(out, k...)
	}
	return out
}
