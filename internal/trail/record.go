package trail

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// Limits of an event. They are wide enough for IDs and paths, and too narrow for
// most values.
const (
	MaxText    = 1024 // bytes of each text
	MaxDetails = 16
	maxName    = 32  // bytes of a detail's name
	maxOrg     = 128 // bytes of an org's ID, which is in keys
)

// maxGroup is the most events of one commit.
const maxGroup = 1024

// group is events that one commit stores.
type group struct {
	records []*record
	done    chan struct{}
	err     error // once done is closed
}

// record is an event on its way.
type record struct {
	org string
	row []byte // room for the head, the body, and room for the MAC
}

// Record appends e to its org's trail and returns nil when it is on stable
// storage. Errors: Invalid (over a limit; nothing was recorded), Unavailable and
// others of the store: then, or when ctx ends first, e may be in the trail or not.
func (t *Trail) Record(ctx context.Context, e access.Event) error {
	r, err := newRecord(e)
	if err != nil {
		return err
	}
	g := t.join(r)
	if g == nil {
		return errClosed
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err(), "the audit trail did not answer in time, and what is not recorded is not done; try again")
	}
}

// Note appends e as Record does, and does not wait until it is on stable storage:
// a crash in the next moments loses it, as a failing store does, which the log is
// told. Close waits for it.
func (t *Trail) Note(e access.Event) error {
	r, err := newRecord(e)
	if err != nil {
		return err
	}
	if t.join(r) == nil {
		return errClosed
	}
	return nil
}

func newRecord(e access.Event) (*record, error) {
	event := auditcheck.Event{
		Org: e.OrgID, ActorType: e.ActorType, ActorID: e.ActorID, Action: e.Action, ResourceType: e.ResourceType,
		ResourceID: e.ResourceID, Outcome: string(e.Outcome), RequestID: e.RequestID, Details: e.Details,
	}
	if e.Addr.IsValid() {
		event.Addr = e.Addr.Unmap().WithZone("").String()
	}
	size, err := tidy(&event)
	if err != nil {
		return nil, err
	}
	head := auditcheck.HeadSize(event.Org)
	return &record{event.Org, event.AppendBody(make([]byte, head, head+size+len(auditcheck.Hash{})))}, nil
}

// tidy holds e to the limits, makes its texts UTF-8, and returns how long its
// body will be.
func tidy(e *auditcheck.Event) (size int, err error) {
	for _, text := range []*string{&e.Org, &e.ActorType, &e.ActorID, &e.Action, &e.ResourceType, &e.ResourceID, &e.Outcome, &e.RequestID, &e.Addr} {
		*text = strings.ToValidUTF8(*text, "\uFFFD")
		if len(*text) > MaxText || text == &e.Org && len(*text) > maxOrg {
			return 0, errText
		}
		size += 4 + len(*text)
	}
	if len(e.Details) > MaxDetails {
		return 0, fault.New(fault.Invalid, "an audit event has at most %d details; nothing was done", MaxDetails)
	}
	copied := false
	for name, text := range e.Details {
		if name == "" || len(name) > maxName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return 0, fault.New(fault.Invalid, "a detail of an audit event has a name of at most %d lower-case letters, digits and underscores; nothing was done", maxName)
		}
		if !utf8.ValidString(text) {
			if text = strings.ToValidUTF8(text, "\uFFFD"); !copied {
				e.Details, copied = maps.Clone(e.Details), true
			}
			e.Details[name] = text
		}
		if len(text) > MaxText {
			return 0, errText
		}
		size += 8 + len(name) + len(text)
	}
	return size, nil
}

var errClosed = fault.New(fault.Unavailable, "the audit trail was closed; try again when the server is up")

var errText = fault.New(fault.Invalid, "an ID, a path or another name in this request is over %d bytes, too long for the audit trail; nothing was done", MaxText)

// join lets r wait for a commit; nil when the trail was closed.
func (t *Trail) join(r *record) *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	if n := len(t.waiting); n == 0 || len(t.waiting[n-1].records) == maxGroup {
		t.waiting = append(t.waiting, &group{done: make(chan struct{})})
	}
	g := t.waiting[len(t.waiting)-1]
	g.records = append(g.records, r)
	if !t.committing {
		t.committing = true
		t.committer.Go(t.commitAll)
	}
	return g
}

// commitAll commits groups until none waits. One is under way at a time, since
// each event holds the hash of the one before; those who come meanwhile gather.
func (t *Trail) commitAll() {
	for g := t.next(); g != nil; g = t.next() {
		t.begins(len(g.records))
		g.err = t.commit(g.records)
		t.done(g.err)
		close(g.done)
		if g.err != nil {
			t.log.Error("events of the audit trail were not stored", "events", len(g.records), "error", g.err)
		}
		t.settle()
	}
}

// settle lets those who were answered come back to the next group, as long as
// they do.
func (t *Trail) settle() {
	for n := -1; n < t.gathered(); runtime.Gosched() {
		n = t.gathered()
	}
}

func (t *Trail) gathered() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		return 0
	}
	return len(t.waiting[0].records)
}

func (t *Trail) next() *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.committing = false
		return nil
	}
	g := t.waiting[0]
	t.waiting = slices.Delete(t.waiting, 0, 1)
	return g
}
