package trail

import (
	"cmp"
	"context"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Reader answers those who may read a trail. Every method takes the caller first
// and reads the trail of his org alone; an operator's is the server's own. The
// errors are those of the gate, Invalid for a query that is wrong, and
// Unavailable while the KMS is away and the keys were not yet read.
type Reader struct {
	*Trail
	gate access.Gate
}

// NewReader returns a Reader of t that asks gate.
func NewReader(t *Trail, gate access.Gate) *Reader { return &Reader{t, gate} }

// Limits of a query.
const (
	DefaultList   = 100
	MaxList       = 1000
	MaxOffset     = 10_000
	DefaultVerify = 1000
	MaxVerify     = 10_000
)

// maxLook is how many events one List looks at: it goes on to the end of a page,
// and past events of one time.
const maxLook = 10_000

// Query selects events; an empty member selects all.
type Query struct {
	ResourceID string // of the resource, or of the vault that it is in
	VaultID    string // of the vault alone
	ActorID    string
	Action     string
	From, To   time.Time // From <= time < To
	Limit      int       // 1 to MaxList; 0: DefaultList
	Offset     int       // how many to pass over, up to MaxOffset
}

func (q Query) match(e *auditcheck.Event) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return is(q.ActorID, e.ActorID) && is(q.Action, e.Action) &&
		(is(q.ResourceID, e.ResourceID) || inVault(e, q.ResourceID)) && (q.VaultID == "" || inVault(e, q.VaultID))
}

func inVault(e *auditcheck.Event, vault string) bool {
	return e.Details["vault_id"] == vault || e.ResourceType == "vault" && e.ResourceID == vault
}

// allow asks the gate whether p may read the trail, or his own events in it
// alone, and returns whose trail that is.
func (r *Reader) allow(ctx context.Context, p access.Principal, own bool) (org string, err error) {
	res := access.Resource{OrgID: p.OrgID, Type: "audit", ID: p.OrgID}
	if p.Kind == access.Operator {
		return "", r.gate.Check(ctx, p, access.Operate, access.Resource{Type: "audit"})
	}
	if own {
		res.OwnerID = p.ID
	}
	return p.OrgID, r.gate.Check(ctx, p, access.AuditRead, res)
}

// readsAll reports whether p may ask for everybody's events. It chooses the
// question; the answer is the gate's.
func readsAll(p access.Principal) bool {
	return p.Kind == access.Operator || p.Kind == access.User && (p.Role == access.Owner || p.Role == access.Admin)
}

// List returns events, newest first. Who may not read everybody's gets his own.
// Events that are not as they were written are left out: see Verify.
func (r *Reader) List(ctx context.Context, p access.Principal, q Query) (api.AuditEvents, error) {
	if q.Limit < 0 || q.Limit > MaxList || q.Offset < 0 || q.Offset > MaxOffset {
		return api.AuditEvents{}, fault.New(fault.Invalid, "limit must be 1 to %d and offset 0 to %d; narrow to with the created_at of the last event instead", MaxList, MaxOffset)
	}
	q.Limit = cmp.Or(q.Limit, DefaultList)
	kind := ""
	if !readsAll(p) && (q.ActorID == "" || q.ActorID == p.ID) {
		q.ActorID, kind = p.ID, string(p.Kind)
	}
	org, err := r.allow(ctx, p, kind != "")
	if err != nil {
		return api.AuditEvents{}, err
	}
	keys, err := r.keys(ctx)
	if err != nil {
		return api.AuditEvents{}, err
	}
	l := listing{query: q, kind: kind, out: api.AuditEvents{Events: []api.AuditEvent{}}}
	if err := r.list(ctx, keys, org, &l); err != nil {
		return api.AuditEvents{}, err
	}
	l.out.Count = len(l.out.Events)
	return l.out, nil
}

// listing is a List under way.
type listing struct {
	query  Query
	kind   string // of the actor; "": any
	passed int    // events that match, of query.Offset
	looked int
	last   int64 // the time of the last event that was looked at
	out    api.AuditEvents
}

// page bounds one read of the store.
var page = store.ScanOptions{Limit: 256, MaxBytes: 1 << 20, Reverse: true}

func (r *Reader) list(ctx context.Context, keys *ring, org string, l *listing) error {
	for rng := timeRange(org, l.query.From, l.query.To); ; {
		recs, err := r.store.Scan(ctx, rng, page)
		if err != nil {
			return store.Fault(err)
		}
		size := 0
		for _, rec := range recs {
			if l.end(org, rec) {
				return nil
			}
			if e, hash, id, err := parse(keys, org, rec); err == nil {
				l.add(&e, hash)
			} else {
				r.log.Error("an event of the audit trail was changed: somebody wrote to the store; verify the trail", "event", id, "org", org)
			}
			size += len(rec.Value)
			rng.End = rec.Key
		}
		if !page.Full(len(recs), size) {
			return nil
		}
	}
}

// end reports whether l is done before rec.
func (l *listing) end(org string, rec store.Record) bool {
	ts, _, _, _ := layout.ParseTrailEvent(rec.Key[len(layout.Trail(org)):])
	if len(l.out.Events) == l.query.Limit {
		return true
	}
	if l.looked >= maxLook && ts != l.last {
		to := time.Unix(0, l.last).UTC()
		l.out.NextTo, l.out.NextOffset = &to, l.query.Offset-l.passed
		return true
	}
	l.looked++
	l.last = ts
	return false
}

func (l *listing) add(e *auditcheck.Event, hash auditcheck.Hash) {
	switch {
	case !l.query.match(e) || l.kind != "" && l.kind != e.ActorType:
	case l.passed < l.query.Offset:
		l.passed++
	default:
		l.out.Events = append(l.out.Events, e.Wire(hash))
	}
}

// timeRange is the events of from <= time < to; a zero time is no bound.
func timeRange(org string, from, to time.Time) store.Range {
	rng := store.Prefix(layout.Trail(org))
	if !from.IsZero() {
		rng.Start = layout.TrailFrom(org, nanos(from))
	}
	if !to.IsZero() {
		rng.End = layout.TrailFrom(org, nanos(to))
	}
	return rng
}

// nanos is t as nanoseconds since 1970, or the nearest that there is.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, 0)):
		return 0
	case t.After(time.Unix(0, 1<<63-1)):
		return 1<<63 - 1
	}
	return t.UnixNano()
}
