package auditcheck

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keyfold/keyfold/api"
)

// Grace is how long an event may be under no checkpoint while others are signed:
// what a process that died left behind is signed by another, minutes later.
const Grace = time.Hour

// maxProblems is how many problems a Report names.
const maxProblems = 100

// Problem is one thing that is wrong with a trail.
type Problem struct {
	EventID    string `json:"event_id,omitempty"`   // the event that is wrong or missing; "": a checkpoint is
	Checkpoint uint64 `json:"checkpoint,omitempty"` // its number
	What       string `json:"what"`
}

// String returns "event ID: what" or "checkpoint N: what".
func (p Problem) String() string {
	if p.EventID != "" {
		return fmt.Sprintf("event %s: %s", p.EventID, p.What)
	}
	return fmt.Sprintf("checkpoint %d: %s", p.Checkpoint, p.What)
}

// Report is what a check found.
type Report struct {
	OrgID       string               `json:"org_id"`
	From        time.Time            `json:"from,omitzero"` // what was checked: events of From <= time < To
	To          time.Time            `json:"to,omitzero"`
	Events      int                  `json:"events"`             // checked
	Verified    int                  `json:"verified"`           // of them, those with nothing wrong
	Signed      int                  `json:"signed"`             // of them, those under a checkpoint that was checked; the rest came after it
	Checkpoints int                  `json:"checkpoints"`        // checked
	Last        *api.AuditCheckpoint `json:"last,omitzero"`      // the last of them: save it for the next check
	OwnKeys     bool                 `json:"own_keys,omitempty"` // the keys were the export's own: it fits together, and anybody may have made it
	Problems    []Problem            `json:"problems,omitempty"` // the first 100
	Wrong       int                  `json:"wrong"`              // how many there are
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return r.Wrong == 0 }

func (r *Report) add(p Problem) {
	r.Wrong++
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, p)
	}
}

// Window is what part of a trail is checked: events of From <= time < To, in
// nanoseconds since 1970. From 0 is the beginning; To 0 has no end.
type Window struct{ From, To int64 }

func (w Window) holds(t int64) bool { return t >= w.From && (w.To == 0 || t < w.To) }

// Checker checks one org's trail: first the checkpoints in their order, then
// the events in theirs, then Report. Its memory grows with the number of heads
// and of chains, not of events. It belongs to one goroutine.
//
// In a window that does not hold the whole trail, what was taken out where the
// window begins or ends shows only as far as a checkpoint names it.
type Checker struct {
	window Window
	keys   map[string]ed25519.PublicKey
	saved  map[uint64]point

	report Report
	last   point
	latest int64 // the time of the last event without fault
	heads  map[place]*head
	tops   map[Chain]uint64 // the greatest seq of a chain that a checkpoint names
	chains map[Chain]*chain
}

// point is a checkpoint that was read.
type point struct {
	number uint64
	time   int64
	hash   Hash
}

// chain is how far a chain was read.
type chain struct {
	first, last uint64 // seq
	time        int64  // of last
	hash        Hash   // of last
	broken      bool   // hash is not known
	run         int    // events without fault since one that a checkpoint names
	open        uint64 // the first since then; 0: none
	openTime    int64
}

// NewChecker returns a Checker of an org's trail. Checkpoints must be signed by
// one of keys.
func NewChecker(org string, w Window, keys []api.AuditKey) *Checker {
	c := &Checker{window: w, keys: map[string]ed25519.PublicKey{}, saved: map[uint64]point{}, heads: map[place]*head{}, tops: map[Chain]uint64{}, chains: map[Chain]*chain{}}
	c.report.OrgID = org
	if w.From > 0 {
		c.report.From = time.Unix(0, w.From).UTC()
	}
	if w.To > 0 {
		c.report.To = time.Unix(0, w.To).UTC()
	}
	for _, k := range keys {
		if len(k.PublicKey) == ed25519.PublicKeySize && KeyID(k.PublicKey) == k.ID {
			c.keys[k.ID] = k.PublicKey
		}
	}
	return c
}

// Save makes the check hold the trail against a checkpoint of earlier, which
// must be signed too. It comes before all others.
func (c *Checker) Save(p api.AuditCheckpoint) {
	hash, heads, what := c.verify(&p)
	if what != "" {
		c.report.add(Problem{Checkpoint: p.Number, What: "the saved checkpoint: " + what})
		return
	}
	c.saved[p.Number] = point{p.Number, p.CreatedAt.UnixNano(), hash}
	c.name(heads)
}

// Checkpoint checks the next checkpoint.
func (c *Checker) Checkpoint(p api.AuditCheckpoint) {
	c.report.Checkpoints++
	wrong := func(what string) { c.report.add(Problem{Checkpoint: p.Number, What: what}) }
	hash, heads, what := c.verify(&p)
	if what != "" {
		wrong(what)
		c.last = point{number: p.Number, time: c.last.time, hash: hash}
		return
	}
	prev, _ := parseHash(p.PrevHash)
	first := c.last.number == 0
	switch next := c.last.number + 1; {
	case first && p.Number > 1 && c.window.From == 0:
		wrong("those before it are missing")
	case !first && p.Number > next:
		wrong(fmt.Sprintf("checkpoints %d to %d are missing before it", next, p.Number-1))
	case !first && p.Number < next:
		wrong("it is out of its order, or there twice")
	case (!first || p.Number == 1) && prev != c.last.hash:
		wrong("it does not follow on the one before: that one was changed, or this one is of another trail")
	case p.CreatedAt.UnixNano() < c.last.time:
		wrong("it is older than the one before")
	}
	if saved, ok := c.saved[p.Number]; ok && saved.hash != hash {
		wrong("it is not the one that was saved: the trail was replaced")
	}
	c.last = point{p.Number, p.CreatedAt.UnixNano(), hash}
	c.report.Last = &p
	c.name(heads)
}

// verify returns the hash and the heads of p, or what is wrong with p alone.
func (c *Checker) verify(p *api.AuditCheckpoint) (hash Hash, heads []head, what string) {
	text, heads, err := encode(p)
	if err != nil {
		return hash, nil, "it is not a checkpoint as it is written"
	}
	key, ok := c.keys[p.KeyID]
	switch {
	case p.OrgID != c.report.OrgID:
		what = "it is of another org"
	case !ok:
		what = "its key is none of those that are trusted"
	case !ed25519.Verify(key, text, p.Signature):
		what = "its key did not sign this: it was changed"
	case slices.ContainsFunc(heads, func(h head) bool { return h.time > p.CreatedAt.UnixNano() }):
		what = "it is older than an event that it names"
	}
	return sha256.Sum256(text), heads, what
}

// VerifyCheckpoint returns nil when p is of org and signed by one of keys.
func VerifyCheckpoint(org string, p api.AuditCheckpoint, keys []api.AuditKey) error {
	if _, _, what := NewChecker(org, Window{}, keys).verify(&p); what != "" {
		return errors.New(what)
	}
	return nil
}

// name keeps heads for the events to come.
func (c *Checker) name(heads []head) {
	for _, h := range heads {
		c.tops[h.chain] = max(c.tops[h.chain], h.seq)
		if !c.window.holds(h.time) {
			continue
		}
		if known, ok := c.heads[h.place]; ok && (known.hash != h.hash || known.time != h.time) {
			c.report.add(Problem{Checkpoint: h.number, What: fmt.Sprintf("it names another event %s than checkpoint %d", EventID(h.chain, h.seq), known.number)})
			continue
		}
		c.heads[h.place] = &h
	}
}

// Broken counts an event that cannot be read as it was written.
func (c *Checker) Broken(id, what string) {
	c.report.Events++
	c.report.add(Problem{EventID: id, What: what})
	if name, seq, ok := ParseEventID(id); ok {
		at := c.chain(name, seq)
		at.last, at.broken, at.run = max(at.last, seq), true, 0
	}
}

func (c *Checker) chain(name Chain, seq uint64) *chain {
	if c.chains[name] == nil {
		c.chains[name] = &chain{first: seq, last: seq - 1, broken: seq > 1}
	}
	return c.chains[name]
}

// Event checks the next event; hash is its own.
func (c *Checker) Event(e *Event, hash Hash) {
	c.report.Events++
	_, known := c.chains[e.Chain]
	at, h := c.chain(e.Chain, e.Seq), c.heads[place{e.Chain, e.Seq}]
	id, what := c.wrong(e, at, known)
	if what == "" && h != nil && (h.hash != hash || h.time != e.Time) {
		what = fmt.Sprintf("it is not the event that checkpoint %d names: it, or one before it, was changed", h.number)
	}
	if what == "" {
		c.report.Verified++
		c.latest = e.Time
		at.run++
	} else {
		c.report.add(Problem{EventID: id, What: what})
		at.run = 0
	}
	if e.Org == c.report.OrgID && e.Seq > at.last {
		c.follow(at, e, hash, h)
	}
}

// follow makes e the last of its chain; h is nil unless a checkpoint names e.
func (c *Checker) follow(at *chain, e *Event, hash Hash, h *head) {
	at.last, at.time, at.hash, at.broken = e.Seq, e.Time, hash, false
	if h != nil {
		h.seen = true
		c.report.Signed += at.run
		at.run, at.open = 0, 0
	} else if at.open == 0 {
		at.open, at.openTime = e.Seq, e.Time
	}
}

// wrong says what is wrong with e where it stands, and which event that names.
func (c *Checker) wrong(e *Event, at *chain, known bool) (id, what string) {
	next := at.last + 1
	switch {
	case e.Org != c.report.OrgID:
		what = "it is of another org"
	case !c.window.holds(e.Time):
		what = "it is of another time than the events that were asked for"
	case !known && e.Seq > 1 && c.window.From == 0:
		return EventID(e.Chain, e.Seq-1), "it is missing, and all before it in its chain"
	case e.Seq > next:
		return EventID(e.Chain, next), fmt.Sprintf("%d events of its chain are missing, this the first", e.Seq-next)
	case e.Seq < next:
		what = "it is out of its order, or there twice"
	case !at.broken && e.Prev != at.hash:
		what = "it does not follow on the event before: that one was changed, or this one is of another chain"
	case e.Time <= at.time && at.time > 0:
		what = "it is not later than the event before"
	case e.Time < c.latest:
		what = "it is out of its order: an event before it is later"
	}
	return e.ID(), what
}

// Report ends the check.
func (c *Checker) Report() Report {
	for _, n := range slices.Sorted(maps.Keys(c.saved)) {
		if n > c.last.number && (c.window.To == 0 || c.saved[n].time < c.window.To) {
			c.report.add(Problem{Checkpoint: n, What: "it was saved and is missing: the end of the trail was cut off"})
		}
	}
	ends := append(c.cutOff(), c.unnamed()...)
	slices.SortStableFunc(ends, func(a, b end) int { return cmp.Compare(a.time, b.time) })
	for _, e := range ends {
		c.report.add(e.Problem)
	}
	return c.report
}

// end is a problem that shows at the end of the check, and the time of its event.
type end struct {
	Problem
	time int64
}

// cutOff finds the events that a checkpoint names and that did not come: of each
// chain the first.
func (c *Checker) cutOff() (ends []end) {
	lowest := map[Chain]*head{}
	for _, h := range c.heads {
		at := c.chains[h.chain]
		if h.seen || at != nil && at.first <= h.seq && h.seq <= at.last { // a gap: told already
			continue
		}
		if low := lowest[h.chain]; low == nil || h.seq < low.seq {
			lowest[h.chain] = h
		}
	}
	for _, h := range lowest {
		from := h.seq
		if at := c.chains[h.chain]; at != nil && at.last < h.seq {
			from = at.last + 1
		} else if at == nil && c.window.From == 0 {
			from = 1
		}
		ends = append(ends, end{Problem{EventID: EventID(h.chain, from), What: fmt.Sprintf("it is missing: checkpoint %d names event %s of its chain", h.number, EventID(h.chain, h.seq))}, h.time})
	}
	return ends
}

// unnamed finds the chains that go on where no checkpoint names them, though it
// is long enough ago.
func (c *Checker) unnamed() (ends []end) {
	for name, at := range c.chains {
		if at.open > 0 && c.tops[name] < at.open && at.openTime < c.last.time-int64(Grace) {
			ends = append(ends, end{Problem{EventID: EventID(name, at.open), What: "no checkpoint names it or one after it in its chain, though later ones were signed: it was put in, or what named it was taken out"}, at.openTime})
		}
	}
	return ends
}
