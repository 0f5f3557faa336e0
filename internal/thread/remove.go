package thread

import (
	"context"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

var errNotYours = fault.New(fault.Forbidden, "only its author or the thread's owner may delete a message; ask one of them")

// DeleteMessage takes a message out of its thread: nothing shows it but a list
// with the deleted ones, without its body, and its versions. All of it stays
// until it is purged. One commit does it, so an edit, a reaction or a reply that
// meets it is either before it or finds no message. Errors: Unauthenticated,
// NotFound (also: it was deleted before), Forbidden (neither the author nor the
// thread's owner asks), Conflict (the DEK is worn out), Damaged, Unavailable
// (nothing changed).
func (s *Service) DeleteMessage(ctx context.Context, p access.Principal, threadID, messageID string) error {
	return store.Fault(store.Retry(ctx, func() error { return s.tryRemove(ctx, p, threadID, messageID) }))
}

// tryRemove reads, decides and commits once.
func (s *Service) tryRemove(ctx context.Context, p access.Principal, threadID, messageID string) error {
	m, err := s.gate(ctx, p, access.MessageWrite, threadID)
	if err != nil {
		return err
	}
	old, err := s.look(ctx, p, m, messageID)
	if err != nil {
		return err
	}
	if !m.wrote(p, old.Message) && !m.owns(p) {
		return errNotYours
	}
	gone, err := removed(old, s.tick())
	if err != nil {
		return err
	}
	return s.remove(ctx, m, old, gone)
}

// removed is the last version of a message, which says that it is gone.
func removed(old look, now int64) (api.Message, error) {
	m := old.Message
	m.Body, m.Deleted, m.Version, m.UpdatedTS = nil, true, m.Version+1, now
	var err error
	m.Reactions, err = parseReactions(old.ID, old.reactions)
	return m, err
}

// remove puts gone in the place of what was looked at. The reactions go into it,
// so that what is kept of them is bounded as the message's rows are.
// store.ErrConflict: the message or the thread has changed since.
func (s *Service) remove(ctx context.Context, m meta, old look, gone api.Message) error {
	wire, err := encodeMessage(gone)
	if err != nil {
		return err
	}
	past, del := pastRow(old.ID, old.Version), deletedRow(old.ID)
	sealed, err := s.encrypt(ctx, m, openRow{past, old.text}, openRow{del, wire})
	if err != nil {
		return err
	}
	var b store.Batch
	m.putRow(&b, past, sealed[0])
	m.putRow(&b, del, sealed[1])
	m.dropRow(&b, newestRow(old.ID), old.rev)
	m.dropRow(&b, reactionsRow(old.ID), old.reactionRev)
	b.Put(layout.Gone(m.Org, gone.UpdatedTS, m.ID, old.ID), nil)
	if err := s.recount(ctx, &b, m.ID, -1, old.ID); err != nil {
		return err
	}
	return s.commit(ctx, &b, m.ID, changeDeleted, old.ID)
}

// dropRow adds to b that a row goes that is at rev; 0: that there still is none.
func (m meta) dropRow(b *store.Batch, n rowName, rev store.Revision) {
	m.require(b)
	b.RequireRevision(n.key(m.ID), rev)
	if rev != 0 {
		b.Delete(n.key(m.ID))
	}
}
