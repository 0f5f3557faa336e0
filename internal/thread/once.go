package thread

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// A request with an idempotency key leaves a row, in the commit of its message:
//
//	thread:<thread>:sent:<sha256 hex of the principal's Ref, a NUL and the key>
//	= <nanoseconds since 1970, 20 digits, of the request> <message ID>
//
// A principal's Ref and a key hold no NUL. Rows older than a day are swept.

// sentTo is the key of the row that a request of p's leaves in a thread.
func sentTo(threadID string, p access.Principal, key string) string {
	sum := sha256.Sum256([]byte(p.Ref() + "\x00" + key))
	return layout.ThreadRow(threadID, "sent:"+hex.EncodeToString(sum[:]))
}

// sentRow is its value.
func sentRow(now int64, messageID string) []byte {
	return fmt.Appendf(nil, "%020d %s", now, messageID)
}

// parseSent reads it.
func parseSent(value []byte) (at int64, messageID string, err error) {
	time, messageID, _ := strings.Cut(string(value), " ")
	at, err = strconv.ParseInt(time, 10, 64)
	if _, _, ok := parseMessageID(messageID); err != nil || !ok {
		return 0, "", fault.New(fault.Damaged, "what is kept of a request is damaged; restore the store from a backup")
	}
	return at, messageID, nil
}

// once returns what the request with this idempotency key answered before or, when
// there was none, the key of the row that it has to leave. "": no key was sent.
func (s *Service) once(ctx context.Context, p access.Principal, m meta, req api.PostMessage, key string) (sent string, wire []byte, err error) {
	if key == "" {
		return "", nil, nil
	}
	if len(key) > 255 || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", nil, fault.New(fault.Invalid, "the idempotency key must be 1 to 255 printable ASCII characters")
	}
	sent = sentTo(m.ID, p, key)
	rec, err := s.store.Get(ctx, sent)
	if errors.Is(err, store.ErrNotFound) {
		return sent, nil, nil
	} else if err != nil {
		return "", nil, store.Fault(err)
	}
	_, id, err := parseSent(rec.Value)
	if err != nil {
		return "", nil, err
	}
	wire, err = s.first(ctx, p, m, id)
	if err == nil {
		err = checkSame(wire, req)
	}
	if err != nil {
		return "", nil, err
	}
	return "", wire, nil
}

// first is the text of a message that is there as it was posted.
func (s *Service) first(ctx context.Context, p access.Principal, m meta, messageID string) ([]byte, error) {
	l, err := s.look(ctx, p, m, messageID)
	if errors.Is(err, fault.NotFound) {
		return nil, fault.New(fault.Conflict, "the message that the request with this idempotency key made was deleted; send another key")
	}
	if err != nil || l.Version == 1 {
		return l.text, err
	}
	rec, err := s.store.Get(ctx, pastRow(messageID, 1).key(m.ID))
	if err != nil {
		return nil, store.Fault(err)
	}
	opened, err := s.decrypt(ctx, p, m, []store.Record{rec})
	if err != nil {
		return nil, err
	}
	return opened[0], nil
}

// checkSame tests that req asks for the message that was made.
func checkSame(wire []byte, req api.PostMessage) error {
	m, err := parseMessage(wire)
	if err != nil {
		return err
	}
	if !bytes.Equal(m.Body, req.Body) || m.Role != req.Role || m.ReplyTo != req.ReplyTo || req.TS != 0 && m.TS != req.TS {
		return fault.New(fault.Conflict, "this idempotency key was used for another message; send another key")
	}
	return nil
}
