package trail

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// scheme is what a verification says of how it is done.
var scheme = api.AuditScheme{
	Algorithm:      "SHA-256 over a length-prefixed encoding of every field; checkpoints signed with Ed25519",
	ChainStructure: "one chain per org and writing process, named by the event IDs; signed checkpoints of the ends of all chains, themselves a chain",
	HashField:      "integrity_hash",
	LinkField:      "prev_hash",
	Documentation:  "package auditcheck; public keys at /.well-known/keyfold-audit.json; whole trails by GET /v1/audit/export and keyfold audit verify",
}

// maxBytes bounds the memory of one Verify.
const maxBytes = 16 << 20

// VerifyQuery says what part of a trail to verify.
type VerifyQuery struct {
	From, To time.Time
	Limit    int // 1 to MaxVerify; 0: DefaultVerify
}

// Verify recomputes the hashes of a part of the trail, and holds them against
// each other and against the checkpoints: of the first Limit events from From on,
// or without From the newest before To. It looks at 16 MiB at most. What was
// taken out exactly where the part begins or ends may not show; a check of an
// export of the whole finds it.
func (r *Reader) Verify(ctx context.Context, p access.Principal, q VerifyQuery) (v api.AuditVerification, err error) {
	if q.Limit < 0 || q.Limit > MaxVerify {
		return v, fault.New(fault.Invalid, "limit must be 1 to %d; export the trail to check all of it", MaxVerify)
	}
	org, err := r.allow(ctx, p, false)
	if err != nil {
		return v, err
	}
	keys, err := r.refresh(ctx)
	if err != nil {
		return v, err
	}
	// The newest checkpoint is read before the events: what it names is there.
	points, err := r.points(ctx, keys, org)
	if err != nil {
		return v, err
	}
	recs, w, more, err := r.part(ctx, org, q)
	if err != nil {
		return v, err
	}
	c := auditcheck.NewChecker(org, w, keys.pub)
	if err := points.each(ctx, w, func(p api.AuditCheckpoint) error { c.Checkpoint(p); return nil }); err != nil {
		return v, err
	}
	for _, rec := range recs {
		if e, hash, id, err := parse(keys, org, rec); err == nil {
			c.Event(&e, hash)
		} else {
			c.Broken(id, errRow.Error())
		}
	}
	v = answer(c.Report())
	v.Checkpoint = points.newest
	if more && w.To > 0 && !q.From.IsZero() {
		next := time.Unix(0, w.To).UTC()
		v.NextFrom = &next
	}
	return v, nil
}

func answer(r auditcheck.Report) api.AuditVerification {
	v := api.AuditVerification{
		ChainValid: r.OK(), EventsVerified: r.Verified, EventsChecked: r.Events, Scheme: scheme,
		EventsSigned: r.Signed, CheckpointsChecked: r.Checkpoints,
	}
	if !r.OK() {
		v.Reason = r.Problems[0].String()
	}
	if i := slices.IndexFunc(r.Problems, func(p auditcheck.Problem) bool { return p.EventID != "" }); i >= 0 {
		v.BrokenAtEventID = &r.Problems[i].EventID
	}
	return v
}

// part reads the events that q asks for, in their order, and says what window
// they are. more: there were others, before or after.
func (r *Reader) part(ctx context.Context, org string, q VerifyQuery) (recs []store.Record, w auditcheck.Window, more bool, err error) {
	limit := cmp.Or(q.Limit, DefaultVerify)
	newest := q.From.IsZero()
	if !newest {
		w.From = max(nanos(q.From), 1)
	}
	if !q.To.IsZero() {
		w.To = max(nanos(q.To), 1)
	}
	opt := store.ScanOptions{Reverse: newest}
	size := 0
	for rng := timeRange(org, q.From, q.To); len(recs) <= limit && size < maxBytes; {
		opt.Limit, opt.MaxBytes = min(limit+1-len(recs), store.MaxScan), maxBytes-size
		some, err := r.store.Scan(ctx, rng, opt)
		if err != nil {
			return nil, w, false, store.Fault(err)
		}
		got := 0
		for _, rec := range some {
			got += len(rec.Value)
			rng = after(rng, rec.Key, newest)
		}
		recs, size = append(recs, some...), size+got
		if !opt.Full(len(some), got) {
			break
		}
	}
	if more = len(recs) > limit || size >= maxBytes; more {
		recs = recs[:r.cut(org, recs, &w, newest)]
	}
	if newest {
		slices.Reverse(recs)
	}
	return recs, w, more, nil
}

func after(rng store.Range, key string, reverse bool) store.Range {
	if reverse {
		rng.End = key
	} else {
		rng.Start = key + "\x00"
	}
	return rng
}

// cut leaves out the last of recs, and those of its time, so that w has a time
// at which it ends, or begins.
func (r *Reader) cut(org string, recs []store.Record, w *auditcheck.Window, newest bool) int {
	at := func(i int) int64 {
		ts, _, _, _ := layout.ParseTrailEvent(recs[i].Key[len(layout.Trail(org)):])
		return ts
	}
	n := len(recs) - 1
	last := at(n)
	for n > 0 && at(n-1) == last {
		n--
	}
	if newest {
		w.From = last + 1
	} else {
		w.To = last
	}
	if n == 0 { // one that fills the part
		w.From, w.To, n = min(w.From, last), max(w.To, last+1), len(recs)
	}
	return n
}

// points is the checkpoints of an org up to the newest of a moment.
type points struct {
	*Trail
	keys   *ring
	org    string
	count  uint64
	newest *api.AuditCheckpoint // nil: none, or it cannot be read
}

func (t *Trail) points(ctx context.Context, keys *ring, org string) (*points, error) {
	recs, err := t.store.Scan(ctx, store.Prefix(layout.TrailPoints(org)), store.ScanOptions{Limit: 1, Reverse: true})
	if err != nil {
		return nil, store.Fault(err)
	}
	ps := &points{Trail: t, keys: keys, org: org}
	if len(recs) > 0 {
		n, p, err := parsePoint(org, recs[0])
		ps.count = n
		if err == nil {
			ps.newest = &p
		}
	}
	return ps, nil
}

// trailing is how long after a window's end checkpoints name events of it.
const trailing = 5 * time.Minute

// each calls yield with the checkpoints that can name events of w, in their
// order. One that cannot be read is its number alone, and so is one that is not as
// it was signed on the way to the first; that one is the last.
func (ps *points) each(ctx context.Context, w auditcheck.Window, yield func(api.AuditCheckpoint) error) error {
	first, spoiled, err := ps.find(ctx, w.From)
	if err != nil {
		return err
	}
	if spoiled {
		return yield(api.AuditCheckpoint{Number: first})
	}
	rng := store.Range{Start: layout.TrailPoint(ps.org, first), End: layout.TrailPoint(ps.org, ps.count) + "\x00"}
	for rec, err := range store.All(ctx, ps.store, rng) {
		if err != nil {
			return store.Fault(err)
		}
		n, p, err := parsePoint(ps.org, rec)
		if err != nil {
			p.Number = n
		} else if w.To > 0 && p.CreatedAt.UnixNano() > w.To && p.CreatedAt.UnixNano()-w.To > int64(trailing) {
			return nil
		}
		if err := yield(p); err != nil {
			return err
		}
	}
	return nil
}

// find returns the number of the first checkpoint of a time or later, or of one
// on the way to it that is spoiled.
func (ps *points) find(ctx context.Context, time int64) (n uint64, spoiled bool, err error) {
	if time == 0 {
		return 1, false, nil
	}
	low, high := uint64(1), ps.count+1
	for low < high {
		n := low + (high-low)/2
		p, ok, err := ps.get(ctx, n)
		if err != nil || !ok {
			return n, true, err
		}
		if p.CreatedAt.UnixNano() < time {
			low = n + 1
		} else {
			high = n
		}
	}
	return low, false, nil
}

// get reads checkpoint n. It is not ok without its signature: what leads the
// search must be true.
func (ps *points) get(ctx context.Context, n uint64) (p api.AuditCheckpoint, ok bool, err error) {
	rec, err := ps.store.Get(ctx, layout.TrailPoint(ps.org, n))
	if errors.Is(err, store.ErrNotFound) {
		return p, false, nil
	} else if err != nil {
		return p, false, store.Fault(err)
	}
	if _, p, err = parsePoint(ps.org, rec); err != nil {
		return p, false, nil
	}
	return p, auditcheck.VerifyCheckpoint(ps.org, p, ps.keys.pub) == nil, nil
}
