package trail

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// A checkpoint's row is api.AuditCheckpoint as JSON. An org's checkpoints are one
// chain, whoever signs them: each is committed on the condition that its number
// is free, with the removal of the marks that it makes needless.

// Checkpoint signs the chains that moved: this process's, and what others left
// unsigned. It returns the errors of those that it could not sign; they are tried
// again the next time.
func (t *Trail) Checkpoint(ctx context.Context) error {
	t.pointing.Lock()
	defer t.pointing.Unlock()
	keys, err := t.refresh(ctx)
	if err != nil {
		return err
	}
	errs := []error{t.adopt(ctx, keys)}
	for org, h := range t.take() {
		if err := t.sign(ctx, keys, org, []head{h}); err != nil {
			t.giveBack(org, h)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// take returns the heads that no checkpoint names, and their marks: an event
// that comes from now on puts a mark again.
func (t *Trail) take() map[string]head {
	t.write.Lock()
	defer t.write.Unlock()
	taken := map[string]head{}
	for org, h := range t.heads {
		if len(h.marks) > 0 {
			taken[org] = *h
			h.marks, h.open = nil, false
		}
	}
	return taken
}

// giveBack takes back the marks of a head that was not signed, or not surely: they
// may be there or not. Those of a chain that ended meanwhile are left to adopt.
func (t *Trail) giveBack(org string, h head) {
	t.write.Lock()
	defer t.write.Unlock()
	if now := t.heads[org]; now != nil && now.chain == h.chain {
		now.marks = slices.Concat(h.marks, now.marks)
	}
}

// sign commits checkpoints of an org that name heads.
func (t *Trail) sign(ctx context.Context, keys *ring, org string, heads []head) error {
	for some := range slices.Chunk(heads, auditcheck.MaxHeads) {
		err := store.Retry(ctx, func() error { return t.signSome(ctx, keys, org, some) })
		if err != nil {
			return store.Fault(err)
		}
	}
	return nil
}

func (t *Trail) signSome(ctx context.Context, keys *ring, org string, heads []head) error {
	p, err := t.following(ctx, org)
	if err != nil {
		return err
	}
	var b store.Batch
	for _, h := range heads {
		at := time.Unix(0, h.time).UTC()
		p.Heads = append(p.Heads, api.AuditHead{EventID: auditcheck.EventID(h.chain, h.seq), CreatedAt: at, IntegrityHash: h.hash.String()})
		if p.CreatedAt.Before(at) {
			p.CreatedAt = at
		}
		for _, seq := range h.marks {
			b.Delete(layout.TrailOpen(org, h.chain.String(), seq))
		}
	}
	if err := auditcheck.Sign(&p, keys.sign); err != nil {
		return fault.Wrap(fault.Internal, err, "a checkpoint of the audit trail does not encode")
	}
	row, err := json.Marshal(p)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "a checkpoint of the audit trail does not encode")
	}
	b.RequireAbsent(layout.TrailPoint(org, p.Number))
	b.Put(layout.TrailPoint(org, p.Number), row)
	_, err = t.store.Commit(ctx, &b)
	return err
}

// following begins the checkpoint after the last one of an org. One that was
// spoiled is followed by one that does not fit on it, so that it shows.
func (t *Trail) following(ctx context.Context, org string) (api.AuditCheckpoint, error) {
	p := api.AuditCheckpoint{OrgID: org, Number: 1, CreatedAt: t.now().UTC(), PrevHash: auditcheck.Hash{}.String()}
	recs, err := t.store.Scan(ctx, store.Prefix(layout.TrailPoints(org)), store.ScanOptions{Limit: 1, Reverse: true})
	if err != nil || len(recs) == 0 {
		return p, err
	}
	n, before, err := parsePoint(org, recs[0])
	p.Number = n + 1
	if err != nil {
		return p, nil
	}
	if p.CreatedAt.Before(before.CreatedAt) {
		p.CreatedAt = before.CreatedAt
	}
	hash, err := auditcheck.CheckpointHash(before)
	if err == nil {
		p.PrevHash = hash.String()
	}
	return p, nil
}

// parsePoint reads the row of a checkpoint. The number is the key's.
func parsePoint(org string, rec store.Record) (n uint64, p api.AuditCheckpoint, err error) {
	n = layout.ParseTrailPoint(org, rec.Key)
	if err := json.Unmarshal(rec.Value, &p); err != nil || p.Number != n || n == 0 {
		return n, api.AuditCheckpoint{}, errRow
	}
	return n, p, nil
}

// adoptAfter is how many times Every a mark is old that nobody else will remove.
const adoptAfter = 3

// adopt signs what others left unsigned: chains with old marks that are not this
// process's.
func (t *Trail) adopt(ctx context.Context, keys *ring) error {
	old := t.now().Add(-adoptAfter * max(t.every, time.Second)).UnixNano()
	left := map[string][]mark{}
	for rec, err := range store.All(ctx, t.store, store.Prefix(layout.TrailOpens())) {
		if err != nil {
			return store.Fault(err)
		}
		if m, ok := parseMark(rec); ok && m.time < old && !t.owns(m) {
			left[m.org] = append(left[m.org], m)
		}
	}
	var errs []error
	for org, marks := range left {
		heads, err := t.follow(ctx, keys, org, marks)
		if err == nil {
			err = t.sign(ctx, keys, org, heads)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// mark is where a chain begins that no checkpoint is known to name.
type mark struct {
	org   string
	chain auditcheck.Chain
	seq   uint64
	time  int64
}

func parseMark(rec store.Record) (m mark, ok bool) {
	org, name, seq, ok := layout.ParseTrailOpen(rec.Key)
	chain, ok2 := auditcheck.ParseChain(name)
	ts, err := strconv.ParseInt(string(rec.Value), 10, 64)
	return mark{org, chain, seq, ts}, ok && ok2 && err == nil
}

// owns reports whether m is of a chain that this process goes on with.
func (t *Trail) owns(m mark) bool {
	t.write.Lock()
	defer t.write.Unlock()
	h := t.heads[m.org]
	return h != nil && h.chain == m.chain
}

// follow finds the ends of the chains of marks. A mark whose event is not as it
// was written stays, and is told of every time: event and mark were one commit.
func (t *Trail) follow(ctx context.Context, keys *ring, org string, marks []mark) ([]head, error) {
	slices.SortFunc(marks, func(a, b mark) int { return cmp.Compare(a.seq, b.seq) })
	ends := map[auditcheck.Chain]*head{}
	first := t.now().UnixNano()
	for _, m := range marks {
		if h := ends[m.chain]; h != nil {
			h.marks = append(h.marks, m.seq)
			continue
		}
		rec, err := t.store.Get(ctx, layout.TrailEvent(org, m.time, m.chain.String(), m.seq))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, store.Fault(err)
		}
		rec.Key = layout.TrailEvent(org, m.time, m.chain.String(), m.seq)
		e, hash, id, err := parse(keys, org, rec)
		if err != nil {
			t.log.Error("an event of the audit trail is missing or was changed: somebody wrote to the store; verify the trail", "event", id, "org", org)
			continue
		}
		ends[m.chain] = &head{chain: m.chain, seq: m.seq, time: e.Time, hash: hash, marks: []uint64{m.seq}}
		first = min(first, e.Time)
	}
	if err := t.walk(ctx, keys, org, first, ends); err != nil {
		return nil, err
	}
	heads := make([]head, 0, len(ends))
	for _, h := range ends {
		heads = append(heads, *h)
	}
	slices.SortFunc(heads, func(a, b head) int { return strings.Compare(a.chain.String(), b.chain.String()) })
	return heads, nil
}

// walk moves ends along their chains, as far as each event follows on the one
// before.
func (t *Trail) walk(ctx context.Context, keys *ring, org string, first int64, ends map[auditcheck.Chain]*head) error {
	if len(ends) == 0 {
		return nil
	}
	r := store.Prefix(layout.Trail(org))
	r.Start = layout.TrailFrom(org, first)
	for rec, err := range store.All(ctx, t.store, r) {
		if err != nil {
			return store.Fault(err)
		}
		e, hash, _, err := parse(keys, org, rec)
		if h := ends[e.Chain]; err == nil && h != nil && e.Seq == h.seq+1 && e.Prev == h.hash {
			h.seq, h.time, h.hash = e.Seq, e.Time, hash
		}
	}
	return nil
}
