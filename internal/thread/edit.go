package thread

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

var errNotAuthor = fault.New(fault.Forbidden, "only its author may edit a message; post one of your own")

// EditMessage makes a new version of a message of p's and returns the
// api.Message as JSON. What req leaves out is kept, the body to the byte; limits
// are those of Post. The version before stays (see ListVersions). One commit
// makes the new version and keeps the old one, so neither is ever without the
// other, and of two edits at once one comes after the other.
//
// Errors: Unauthenticated, NotFound (the thread, the message, or it was deleted),
// Forbidden (also: another wrote it), Invalid, TooLarge, Conflict (the DEK is worn
// out), Damaged, Unavailable (nothing changed). After another error of the
// store's it is not known whether the message changed.
func (s *Service) EditMessage(ctx context.Context, p access.Principal, threadID, messageID string, req api.EditMessage) (json.RawMessage, error) {
	return s.EditWith(ctx, p, threadID, messageID, req, PostOptions{})
}

// EditWith is EditMessage with options. The same idempotency key answers the version
// that the first edit made, also when there is a newer one since. Errors: those of
// EditMessage; Conflict also when the key was used for another request.
func (s *Service) EditWith(ctx context.Context, p access.Principal, threadID, messageID string, req api.EditMessage, o PostOptions) (json.RawMessage, error) {
	var wire json.RawMessage
	err := store.Retry(ctx, func() (err error) {
		wire, err = s.tryEdit(ctx, p, threadID, messageID, req, o)
		return err
	})
	if err != nil {
		return nil, store.Fault(err)
	}
	return wire, nil
}

// tryEdit reads, decides and commits once.
func (s *Service) tryEdit(ctx context.Context, p access.Principal, threadID, messageID string, req api.EditMessage, o PostOptions) (json.RawMessage, error) {
	m, err := s.gate(ctx, p, access.MessageWrite, threadID)
	if err != nil {
		return nil, err
	}
	if err := m.checkEdit(messageID, req); err != nil {
		return nil, err
	}
	sent, of, err := s.sentBefore(ctx, p, m, o.IdempotencyKey)
	if err == nil && of.message == "" { // what was replied to may be gone since
		err = s.checkReply(ctx, m.ID, req.ReplyTo)
	}
	if err != nil {
		return nil, err
	}
	old, err := s.look(ctx, p, m, messageID)
	switch {
	case err != nil:
		return nil, err
	case !m.wrote(p, old.Message):
		return nil, errNotAuthor
	case of.message != "":
		wire, err := s.editedBefore(ctx, p, m, old, req, of)
		if err == nil {
			o.again()
		}
		return wire, err
	case o.version != 0 && o.version != old.Version+1:
		return nil, errPresent
	}
	wire, err := encodeMessage(edited(old.Message, req, s.tick()))
	if err != nil {
		return nil, err
	}
	if err := s.replace(ctx, m, old, wire, sent); err != nil {
		return nil, err
	}
	return withReactions(wire, old.reactions), nil // stored
}

// checkEdit tests req, but for whether there is what it replies to.
func (m meta) checkEdit(messageID string, req api.EditMessage) error {
	if req.Body == nil && req.Role == "" && req.ReplyTo == "" {
		return fault.New(fault.Invalid, "nothing to change: send body, role or reply_to")
	}
	if req.Body != nil {
		if err := checkBody(req.Body); err != nil {
			return err
		}
	}
	if err := m.checkBlob(req.Body); err != nil {
		return err
	}
	if err := checkRole(req.Role); err != nil {
		return err
	}
	if req.ReplyTo != "" && req.ReplyTo == messageID {
		return fault.New(fault.Invalid, "reply_to names the message itself; name another one")
	}
	return nil
}

// edited is the version after m.
func edited(m api.Message, req api.EditMessage, now int64) api.Message {
	if req.Body != nil {
		m.Body = req.Body
	}
	if req.Role != "" {
		m.Role = req.Role
	}
	if req.ReplyTo != "" {
		m.ReplyTo = req.ReplyTo
	}
	m.Version, m.UpdatedTS = m.Version+1, now
	return m
}

// replace makes wire the newest version of what was looked at. store.ErrConflict:
// the message or the thread has changed since, or a request has left the row sent
// ("": none is left).
func (s *Service) replace(ctx context.Context, m meta, old look, wire []byte, sent string) error {
	past, newest := pastRow(old.ID, old.Version), newestRow(old.ID)
	sealed, err := s.encrypt(ctx, m, openRow{past, old.text}, openRow{newest, wire})
	if err != nil {
		return err
	}
	var b store.Batch
	b.RequireRevision(newest.key(m.ID), old.rev)
	m.putRow(&b, past, sealed[0])
	m.putRow(&b, newest, sealed[1])
	if sent != "" {
		b.RequireAbsent(sent)
		b.Put(sent, sentRow(s.now().UnixNano(), sentOf{old.ID, old.Version + 1}))
	}
	return s.commit(ctx, &b, m.ID, changeEdited, old.ID)
}

// commit commits b, which changes a message, and lets its followers know.
func (s *Service) commit(ctx context.Context, b *store.Batch, threadID string, kind changeKind, messageID string) error {
	t, err := s.tail(ctx, threadID)
	if err != nil {
		return err
	}
	c := s.note(b, &t, threadID, kind, messageID)
	s.putTail(b, threadID, t)
	rev, err := s.store.Commit(ctx, b)
	s.committed(threadID, t, rev, err)
	if err != nil {
		return err
	}
	s.tell(threadID, c)
	return nil
}

// look is a message that is there, opened.
type look struct {
	api.Message // without reactions
	text        []byte
	rev         store.Revision // of its row
	reactions   []byte         // text of its reactions; nil: it has none
	reactionRev store.Revision // of their row; 0: there is none
}

// look opens a message that is there, and the reactions to it, in one call.
func (s *Service) look(ctx context.Context, p access.Principal, m meta, messageID string) (look, error) {
	recs, err := s.newest(ctx, m, messageID)
	if err != nil {
		return look{}, err
	}
	opened, err := s.decrypt(ctx, p, m, recs)
	if err != nil {
		return look{}, err
	}
	l := look{text: opened[0], rev: recs[0].Revision}
	if len(recs) > 1 {
		l.reactions, l.reactionRev = opened[1], recs[1].Revision
	}
	l.Message, err = parseMessage(l.text)
	return l, err
}

// newest reads the row of a message that is there and, if it has one, that of the
// reactions to it.
func (s *Service) newest(ctx context.Context, m meta, messageID string) ([]store.Record, error) {
	if _, _, ok := parseMessageID(messageID); !ok {
		return nil, errNoMessage
	}
	rec, err := s.store.Get(ctx, newestRow(messageID).key(m.ID))
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNoMessage
	} else if err != nil {
		return nil, store.Fault(err)
	}
	reactions, err := s.store.Get(ctx, reactionsRow(messageID).key(m.ID))
	if errors.Is(err, store.ErrNotFound) {
		return []store.Record{rec}, nil
	}
	return []store.Record{rec, reactions}, store.Fault(err)
}
