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
// that two commits seldom wait for each other. Keys that follow each other and want
// the same go together.
func queue(p *pipeline, byKey map[string]change, rev store.Revision) {
	keys := slices.Sorted(maps.Keys(byKey))
	for len(keys) > 0 {
		kind, n := byKey[keys[0]].kind(), 1
		for kind < oneByOne && n < len(keys) && byKey[keys[n]].kind() == kind {
			n++
		}
		queueRun(p, kind, keys[:n], byKey, number(uint64(rev)))
		keys = keys[n:]
	}
}

// wants is what a commit does with a key.
type wants int

const (
	puts     wants = iota // whatever there is
	creates               // where there is none
	claims                // deletes whatever there is
	reserves              // needs that there is none
	oneByOne              // each of what follows is a statement of one key
	replaces
	removes
	holds
)

func (c change) kind() wants {
	put := c.write != nil && !c.write.Delete
	switch required := c.required; {
	case required == nil && put:
		return puts
	case required == nil:
		return claims
	case *required == 0 && put:
		return creates
	case *required == 0:
		return reserves
	case put:
		return replaces
	case c.write != nil:
		return removes
	}
	return holds
}

// queueRun queues what is wanted of keys, of which there is one where kind is not for more.
func queueRun(p *pipeline, kind wants, keys []string, byKey map[string]change, rev []byte) {
	first, key := byKey[keys[0]], []byte(keys[0])
	value := func() []byte { return bytesOf(first.write.Value) }
	values := func() []byte {
		out := make([][]byte, len(keys))
		for i, k := range keys {
			out[i] = byKey[k].write.Value
		}
		return byteaArray(out)
	}
	many := len(keys) > 1
	switch kind {
	case puts:
		if many {
			p.add(&stPutAll, byteaArray(keys), values(), rev)
		} else {
			p.add(&stPut, key, value(), rev)
		}
	case creates:
		if many {
			p.add(&stCreateAll, byteaArray(keys), values(), rev)
		} else {
			p.add(&stCreate, key, value(), rev)
		}
	case claims:
		p.add(&stClaim, byteaArray(keys))
	case reserves:
		p.add(&stReserve, byteaArray(keys))
	case replaces:
		p.add(&stReplace, key, value(), rev, number(uint64(*first.required)))
	case removes:
		p.add(&stRemove, key, number(uint64(*first.required)))
	case holds:
		p.add(&stHold, key, number(uint64(*first.required)))
	}
	for i := 0; i < len(keys) && (kind == claims || kind == reserves); i++ {
		p.add(&stDelete, []byte(keys[i]))
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

// byteaArray is a list of byte strings in PostgreSQL's binary form: dimensions (1),
// whether there are NULLs (0), type of the elements, their count, the first
// index (1), each of 4 bytes; then for each element its length (4) and bytes.
func byteaArray[T ~string | ~[]byte](list []T) []byte {
	var out []byte
	for _, n := range []int{1, 0, oidBytea, len(list), 1} {
		out = binary.BigEndian.AppendUint32(out, uint32(n))
	}
	for _, k := range list {
		out = binary.BigEndian.AppendUint32(out, uint32(len(k)))
		out = append(out, k...)
	}
	return out
}
