package thread

import (
	"math/rand/v2"

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
	changeReactions changeKind = "reactions"
	changeThread    changeKind = "thread" // its title, or who takes part
)

// changeSeq tells the changes of this process from those of others at one time.
var changeSeq = rand.IntN(maxSeq + 1)

// note adds to b, which is committed at once, that a message changed.
func (s *Service) note(b *store.Batch, threadID string, kind changeKind, messageID string) change {
	c := change{ID: layout.MessageID(s.tick(), changeSeq), Kind: kind, Message: messageID}
	b.Put(layout.ThreadRow(threadID, "change:"+c.ID), []byte(string(kind)+" "+messageID))
	return c
}

// tell lets those who follow the thread on this server know what was committed.
func (s *Service) tell(threadID string, c change) { s.hub.tell(threadID, c) }
