package thread

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/keyfold/keyfold/internal/access"
)

// MessageQuery selects a page of a thread's messages: the newest, or those
// around a place. At most one of Before, After and Anchor may be set: the ID of
// a message, which need not be there.
type MessageQuery struct {
	Limit  int    // 1 to MaxPage; 0: MaxPage
	Before string // the newest Limit messages older than it
	After  string // the oldest Limit messages newer than it
	Anchor string // the message of this ID, and up to Limit on each side of it

	IncludeDeleted bool // as they are now: without body, with deleted
}

// maxPageBytes is the size, in bytes, at which a page ends before its limit:
// pages of large messages must not fill the server's memory.
const maxPageBytes = 16 << 20

// ListMessages returns the newest messages, or those that q names, oldest
// first: the api.Messages as JSON. It costs a scan of the messages, one of their
// reactions, with IncludeDeleted one of the deleted ones (with Anchor each twice)
// and one call of the KMS, however many messages and versions the thread has. A
// page of large messages may hold fewer than the limit; only an empty page is the
// end. A row that does not open fails the whole page. Errors: Unauthenticated,
// NotFound, Forbidden, Invalid, Unavailable, Damaged.
func (s *Service) ListMessages(ctx context.Context, p access.Principal, threadID string, q MessageQuery) (json.RawMessage, error) {
	m, err := s.gate(ctx, p, access.MessageRead, threadID)
	if err != nil {
		return nil, err
	}
	done, err := s.reading.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	messages, err := s.messages(ctx, p, m, q)
	if err != nil {
		return nil, err
	}
	return append(appendList([]byte(`{"thread":"`+m.ID+`","messages":[`), messages.texts), '}'), nil
}

// GetMessage returns one message: the api.Message as JSON. Errors:
// Unauthenticated, NotFound (the thread or the message), Forbidden,
// Unavailable, Damaged.
func (s *Service) GetMessage(ctx context.Context, p access.Principal, threadID, messageID string) (json.RawMessage, error) {
	m, err := s.gate(ctx, p, access.MessageRead, threadID)
	if err != nil {
		return nil, err
	}
	done, err := s.reading.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	recs, err := s.newest(ctx, m, messageID)
	if err != nil {
		return nil, err
	}
	opened, err := s.decrypt(ctx, p, m, recs)
	if err != nil {
		return nil, err
	}
	return joined(recs, opened)[0], nil
}

// appendList appends the texts to a JSON array that is open, and closes it.
func appendList(out []byte, texts [][]byte) []byte {
	n := 1
	for _, text := range texts {
		n += len(text) + 1
	}
	out = slices.Grow(out, n+len(`,"next_cursor":"9999999999"}`))
	for i, text := range texts {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, text...)
	}
	return append(out, ']')
}
