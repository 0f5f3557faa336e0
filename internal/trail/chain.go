package trail

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"slices"
	"strconv"

	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// head is the last event of a chain that is on stable storage.
type head struct {
	chain auditcheck.Chain
	name  string // of chain
	seq   uint64 // 0: it has not begun
	time  int64
	hash  auditcheck.Hash
	marks []uint64 // the events at which there may be marks of the chain; none: a checkpoint names all, or is about to
	open  bool     // the last of marks is there, and none of a later event is needed
}

// commit stores events in one commit. When it fails, it is not known which of
// them are there: their chains end, and what is there of them is signed later
// (see adopt).
func (t *Trail) commit(records []*record) error {
	ctx := context.Background() // of no request; the store and the KMS's client have bounds of their own
	keys, err := t.keys(ctx)
	if err != nil {
		return err
	}
	t.write.Lock()
	defer t.write.Unlock()
	clear(t.moved)
	b := store.Batch{Writes: make([]store.Write, 0, len(records)+8)}
	for _, r := range records {
		t.append(r, keys, &b)
	}
	if _, err = t.store.Commit(ctx, &b); err != nil {
		for org := range t.moved {
			delete(t.heads, org)
		}
		return store.Fault(err)
	}
	for org, h := range t.moved {
		t.heads[org] = h
	}
	t.makeRoom()
	return nil
}

// append gives r its place and adds it to b.
func (t *Trail) append(r *record, keys *ring, b *store.Batch) {
	t.last = max(t.last+1, t.now().UnixNano()) // a clock that is put back stands still
	h := t.moving(r.org)
	e := auditcheck.Event{Org: r.org, Chain: h.chain, Seq: h.seq + 1, Time: t.last, Prev: h.hash}
	e.AppendHead(r.row[:0])
	h.seq, h.time, h.hash = e.Seq, e.Time, sha256.Sum256(r.row)
	if !h.open {
		h.marks, h.open = append(h.marks, h.seq), true
		b.Put(layout.TrailOpen(e.Org, h.name, h.seq), strconv.AppendInt(nil, h.time, 10))
	}
	b.Put(layout.TrailEvent(e.Org, h.time, h.name, h.seq), keys.appendMAC(r.row, h.hash))
}

// moving returns the head of an org's chain in this commit, which stands apart
// until the commit has ended.
func (t *Trail) moving(org string) *head {
	h := t.moved[org]
	if h == nil {
		h = new(head)
		if now := t.heads[org]; now != nil && now.seq < auditcheck.MaxSeq-maxGroup {
			*h = *now
		} else {
			h.chain = auditcheck.NewChain()
			h.name = h.chain.String()
		}
		t.moved[org] = h
	}
	return h
}

// makeRoom ends the chains that have not moved for the longest when there are
// too many. Their marks stay where no checkpoint names all of them.
func (t *Trail) makeRoom() {
	if len(t.heads) <= t.most {
		return
	}
	orgs := make([]string, 0, len(t.heads))
	for org := range t.heads {
		orgs = append(orgs, org)
	}
	slices.SortFunc(orgs, func(a, b string) int { return cmp.Compare(t.heads[a].time, t.heads[b].time) })
	for _, org := range orgs[:len(orgs)-t.most+t.most/8] {
		delete(t.heads, org)
	}
}

var errRow = errors.New("it is not as it was written")

// parse reads the row of an event in org's trail. It fails when the event was
// not written there, by a process that had the keys. id is of the event that the
// key names; it is nil's when it names none.
func parse(keys *ring, org string, rec store.Record) (e auditcheck.Event, hash auditcheck.Hash, id string, err error) {
	ts, name, seq, ok := layout.ParseTrailEvent(rec.Key[len(layout.Trail(org)):])
	chain, ok2 := auditcheck.ParseChain(name)
	if !ok || !ok2 {
		return e, hash, "00000000-0000-0000-0000-000000000000", errRow
	}
	id = auditcheck.EventID(chain, seq)
	n := len(rec.Value) - len(hash)
	if n < 0 {
		return e, hash, id, errRow
	}
	hash = sha256.Sum256(rec.Value[:n])
	if !hmac.Equal(keys.appendMAC(nil, hash), rec.Value[n:]) {
		return e, hash, id, errRow
	}
	e, err = auditcheck.ParseEvent(rec.Value[:n])
	if err != nil || e.Org != org || e.Time != ts || e.Chain != chain || e.Seq != seq {
		return auditcheck.Event{}, hash, id, errRow
	}
	return e, hash, id, nil
}
