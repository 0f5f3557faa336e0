package pgstore

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyfold/keyfold/internal/store"
)

// OIDs of parameters. All are sent and received in binary form.
const (
	oidBytea      = 17
	oidInt8       = 20
	oidByteaArray = 1001
)

var (
	paramTypes = []uint32{oidBytea, oidBytea, oidInt8, oidInt8} // of Commit's puts: key, value, revision, revision before
	binaryForm = []int16{1}
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

// pipeline is the statements of one commit, which go out together: an implicit
// transaction. A statement that follows one of the same text uses its plan, under
// the empty name: that works through PgBouncer, which keeps one connection of the
// database until the end of the transaction.
type pipeline struct {
	batch pgconn.Batch
	last  string
}

func (p *pipeline) add(sql string, types []uint32, values ...[]byte) {
	if sql == p.last {
		p.batch.ExecPrepared("", values, binaryForm, binaryForm)
		return
	}
	p.last = sql
	p.batch.ExecParams(sql, values, types, binaryForm, binaryForm)
}

// newPipeline returns the statements that apply changes, in the order of keys.
func newPipeline(byKey map[string]change, rev store.Revision) *pipeline {
	p := new(pipeline)
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		p.change([]byte(key), byKey[key], number(uint64(rev)))
	}
	return p
}

func (p *pipeline) change(key []byte, c change, rev []byte) {
	absent := c.required != nil && *c.required == 0
	var before []byte
	if c.required != nil {
		before = number(uint64(*c.required))
	}
	put := c.write != nil && !c.write.Delete
	switch {
	case put && c.required == nil:
		p.add(sqlPut, paramTypes[:3], key, bytesOf(c.write.Value), rev)
	case put && absent:
		p.add(sqlCreate, paramTypes[:3], key, bytesOf(c.write.Value), rev)
	case put:
		p.add(sqlReplace, paramTypes, key, bytesOf(c.write.Value), rev, before)
	case absent:
		p.add(sqlReserve, paramTypes[:1], key)
		p.add(sqlDelete, paramTypes[:1], key)
	case c.required == nil:
		p.add(sqlClaim, paramTypes[:1], key)
		p.add(sqlDelete, paramTypes[:1], key)
	case c.write != nil:
		p.add(sqlRemove, []uint32{oidBytea, oidInt8}, key, before)
	default:
		p.add(sqlHold, []uint32{oidBytea, oidInt8}, key, before)
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
