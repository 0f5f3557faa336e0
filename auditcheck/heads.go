package auditcheck

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Head is what a trail says of the newest version of a secret.
type Head struct {
	Written int    // the greatest version that was written; 0: none that the trail has
	Event   string // the ID of the event that says so
	Deleted int    // the greatest version that a deletion covered

	written int64 // the time of Event
	leaving int64 // the last time that a deletion was allowed, whatever came of it
}

// settled is how long after it was allowed a request can still take effect.
const settled = time.Minute

// Wrong says what is wrong when the secret's newest version is version, by the
// server's own word; "" when that agrees with the trail. The events that h is
// from must be older than the answer.
func (h Head) Wrong(version int) string {
	switch {
	case version <= h.Deleted:
		return fmt.Sprintf("it is there at version %d, and was deleted at version %d: it was put back", version, h.Deleted)
	case version < h.Written:
		return fmt.Sprintf("its newest version is %d, and version %d was written (event %s): it was put back", version, h.Written, h.Event)
	}
	return ""
}

// There reports whether the secret must be there: it was written, and nobody was
// allowed to delete it since.
func (h Head) There() bool {
	return h.Written > h.Deleted && h.leaving < h.written-int64(settled)
}

// Heads is what a trail says of secrets. Give Event to Options.Each. The numbers
// are those of the events secret.written and secret.deleted, each of which is
// recorded once its version is on stable storage: so a secret whose server shows
// less was put back to an older state. What it cannot see: versions from before
// those events were recorded or from the moment before a crash, the rows of versions that are not the newest, and
// whatever a trail lacks that is itself cut off or put back (see
// Options.Saved). It stands for nothing unless the Report is OK.
type Heads struct {
	vaults map[string]map[string]Head
	gone   map[string]bool // vaults that somebody was allowed to delete
}

// Event takes the next event.
func (h *Heads) Event(e *Event) {
	vault, path := e.Details["vault_id"], e.Details["path"]
	switch {
	case e.Action == "vault.delete" && e.Outcome == "allowed":
		if h.gone == nil {
			h.gone = map[string]bool{}
		}
		h.gone[vault] = true
	case e.Action == "secret.delete" && e.Outcome == "allowed":
		h.change(vault, path, func(at *Head) { at.leaving = e.Time })
	case e.Outcome != "done":
	case e.Action == "secret.written":
		h.change(vault, path, func(at *Head) {
			if n := number(e); n > at.Written {
				at.Written, at.Event, at.written = n, e.ID(), e.Time
			}
		})
	case e.Action == "secret.deleted":
		h.change(vault, path, func(at *Head) { at.Deleted = max(at.Deleted, number(e)) })
	}
}

func number(e *Event) int {
	n, err := strconv.Atoi(e.Details["version"])
	if err != nil {
		return 0
	}
	return n
}

func (h *Heads) change(vault, path string, do func(*Head)) {
	if h.vaults == nil {
		h.vaults = map[string]map[string]Head{}
	}
	if h.vaults[vault] == nil {
		h.vaults[vault] = map[string]Head{}
	}
	at := h.vaults[vault][path]
	do(&at)
	h.vaults[vault][path] = at
}

// All is every vault that has secrets in the trail, by ID, with what the trail
// says of them, by path.
func (h *Heads) All() iter.Seq2[string, map[string]Head] {
	return func(yield func(string, map[string]Head) bool) {
		for _, id := range slices.Sorted(maps.Keys(h.vaults)) {
			if !yield(id, h.vaults[id]) {
				return
			}
		}
	}
}

// Of is what the trail says of one secret.
func (h *Heads) Of(vault, path string) Head { return h.vaults[vault][path] }

// MayBeGone reports whether somebody was allowed to delete the vault.
func (h *Heads) MayBeGone(vault string) bool { return h.gone[vault] }
