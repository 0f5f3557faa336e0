package thread

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// change is what became of a message, for those who follow its thread. Its row
// under "change:<id>" is committed together with what it tells of: the kind, a
// space and the message's ID, in clear, as the keys of rows are.
type change struct {
	ID      string // as layout.MessageID makes it: the time before the commit
	Kind    changeKind
	Message string // ID; "" for a change of the thread itself
}

type changeKind string

const (
	changeCreated   changeKind = "created"
	changeEdited    changeKind = "edited"
	changeDeleted   changeKind = "deleted"
	changePurged    changeKind = "purged" // it and all before it, for their age
	changeReactions changeKind = "reactions"
	changeThread    changeKind = "thread" // its title, or who takes part
)

// changesKept is how long the row of a change stays at least.
const changesKept = 24 * time.Hour

// lookBack is how far before the time at which somebody had all changes he reads
// the store again. A commit takes time after its change got its ID, clocks of
// servers differ, and what another server committed is seen at a poll: as long as
// these make no more together, nothing is missed.
const lookBack = 10 * time.Second

// changeSeq tells the changes of this process from those of others at one time.
var changeSeq = rand.IntN(maxSeq + 1)

// note adds to b, which is committed at once, that a message changed, after t, which
// is that of the change then.
func (s *Service) note(b *store.Batch, t *tail, threadID string, kind changeKind, messageID string) change {
	t.ts = s.tickAfter(t.ts)
	c := change{ID: layout.MessageID(t.ts, changeSeq), Kind: kind, Message: messageID}
	b.Put(changeRow(threadID, c.ID), []byte(string(kind)+" "+messageID))
	return c
}

// tell lets those who follow the thread on this server know what was committed.
func (s *Service) tell(threadID string, c change) { s.hub.tell(threadID, c) }

// changeRow is the key of a change; with an empty ID it begins those of all.
func changeRow(threadID, id string) string { return layout.ThreadRow(threadID, "change:"+id) }

// changesFrom are the rows of a thread's changes from an ID on.
func changesFrom(threadID, id string) store.Range {
	rng := store.Prefix(changeRow(threadID, ""))
	rng.Start = changeRow(threadID, id)
	return rng
}

// parseChanges reads what note wrote.
func parseChanges(threadID string, recs []store.Record) ([]change, error) {
	out := make([]change, len(recs))
	for i, rec := range recs {
		kind, message, _ := strings.Cut(string(rec.Value), " ")
		out[i] = change{rec.Key[len(changeRow(threadID, "")):], changeKind(kind), message}
		_, _, ok := parseMessageID(out[i].ID)
		if _, _, is := parseMessageID(message); !ok || !is && message != "" {
			return nil, fault.New(fault.Damaged, "a change of thread %s is damaged; restore the store from a backup", threadID)
		}
	}
	return out, nil
}

// changeAt is the first ID that a change of time t, in nanoseconds since 1970, can have.
func changeAt(t int64) string { return layout.MessageID(max(t, 1), 0) }

// before is the ID from which the store is read by who had all changes at time t.
func before(t int64) string { return changeAt(t - int64(lookBack)) }
