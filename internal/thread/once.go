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
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// A request with an idempotency key leaves a row, in the commit of what it makes:
//
//	thread:<thread>:sent:<sha256 hex of the principal's Ref, a NUL and the key>
//	= <nanoseconds since 1970, 20 digits, of the request> <message ID>            a post
//	= <nanoseconds since 1970, 20 digits, of the request> <message ID> <version>  an edit, which made version 2 or a later one
//
// A principal's Ref and a key hold no NUL. Rows older than a day are swept. What was
// asked for is not kept beside it, not as a hash either: the versions tell.

// sentTo is the key of the row that a request of p's leaves in a thread.
func sentTo(threadID string, p access.Principal, key string) string {
	sum := sha256.Sum256([]byte(p.Ref() + "\x00" + key))
	return layout.ThreadRow(threadID, "sent:"+hex.EncodeToString(sum[:]))
}

// sentOf is what a request made: a version of a message.
type sentOf struct {
	message string
	version int // 1: a post made it
}

// sentRow is the row's value.
func sentRow(now int64, of sentOf) []byte {
	if of.version > 1 {
		return fmt.Appendf(nil, "%020d %s %d", now, of.message, of.version)
	}
	return fmt.Appendf(nil, "%020d %s", now, of.message)
}

// parseSent reads it.
func parseSent(value []byte) (at int64, of sentOf, err error) {
	time, rest, _ := strings.Cut(string(value), " ")
	id, version, edit := strings.Cut(rest, " ")
	of = sentOf{id, 1}
	at, err = strconv.ParseInt(time, 10, 64)
	if edit && err == nil {
		of.version, err = strconv.Atoi(version)
	}
	if _, _, ok := parseMessageID(id); err != nil || !ok || edit && of.version < 2 {
		return 0, sentOf{}, fault.New(fault.Damaged, "what is kept of a request is damaged; restore the store from a backup")
	}
	return at, of, nil
}

var errOtherRequest = fault.New(fault.KeyReused, "this idempotency key was used for another request; send another key").WithType(api.ProblemIdempotencyKeyReused)

// sentBefore returns what the request with this idempotency key made before or, when
// there was none, the key of the row that it has to leave. "": no key was sent.
func (s *Service) sentBefore(ctx context.Context, p access.Principal, m meta, key string) (sent string, of sentOf, err error) {
	if key == "" {
		return "", sentOf{}, nil
	}
	if err := idem.CheckKey(key); err != nil {
		return "", sentOf{}, err
	}
	sent = sentTo(m.ID, p, key)
	rec, err := s.store.Get(ctx, sent)
	if errors.Is(err, store.ErrNotFound) {
		return sent, sentOf{}, nil
	} else if err != nil {
		return "", sentOf{}, store.Fault(err)
	}
	_, of, err = parseSent(rec.Value)
	return "", of, err
}

// once returns what the post with this idempotency key answered before or, when
// there was none, the key of the row that it has to leave. "": no key was sent.
func (s *Service) once(ctx context.Context, p access.Principal, m meta, req api.PostMessage, key string) (sent string, wire []byte, err error) {
	sent, of, err := s.sentBefore(ctx, p, m, key)
	switch {
	case err != nil || of.message == "":
		return sent, nil, err
	case of.version > 1:
		return "", nil, errOtherRequest
	}
	wire, err = s.first(ctx, p, m, of.message)
	if err == nil {
		err = checkSame(wire, req)
	}
	if err != nil {
		return "", nil, err
	}
	return "", wire, nil
}

// editedBefore returns what an edit of a message, which was looked at, answers whose
// idempotency key has made of. It is the same edit when it makes the same version of
// the one before.
func (s *Service) editedBefore(ctx context.Context, p access.Principal, m meta, now look, req api.EditMessage, of sentOf) ([]byte, error) {
	if of.message != now.ID || of.version == 1 {
		return nil, errOtherRequest
	}
	before, _, err := s.versionOf(ctx, p, m, now, of.version-1)
	if err != nil {
		return nil, err
	}
	made, text, err := s.versionOf(ctx, p, m, now, of.version)
	if err != nil {
		return nil, err
	}
	again, err := encodeMessage(edited(before, req, made.UpdatedTS))
	if err == nil && !bytes.Equal(again, text) {
		err = errOtherRequest
	}
	if err != nil {
		return nil, err
	}
	return withReactions(text, now.reactions), nil
}

var errPastPurged = fault.New(fault.Conflict, "the version that the request with this idempotency key made, or the one before, was purged; send another key")

// versionOf opens version n of a message that was looked at, for the idempotency key
// of the request that made it, or the next. Errors: Conflict (it was purged).
func (s *Service) versionOf(ctx context.Context, p access.Principal, m meta, now look, n int) (api.Message, []byte, error) {
	if n == now.Version {
		return now.Message, now.text, nil
	}
	rec, err := s.store.Get(ctx, pastRow(now.ID, n).key(m.ID))
	if errors.Is(err, store.ErrNotFound) {
		return api.Message{}, nil, errPastPurged
	} else if err != nil {
		return api.Message{}, nil, store.Fault(err)
	}
	opened, err := s.decrypt(ctx, p, m, []store.Record{rec})
	if err != nil {
		return api.Message{}, nil, err
	}
	v, err := parseMessage(opened[0])
	return v, opened[0], err
}

// first is the text of a message that is there as it was posted.
func (s *Service) first(ctx context.Context, p access.Principal, m meta, messageID string) ([]byte, error) {
	l, err := s.look(ctx, p, m, messageID)
	if errors.Is(err, fault.NotFound) {
		return nil, fault.New(fault.Conflict, "the message that the request with this idempotency key made was deleted; send another key")
	}
	if err != nil {
		return nil, err
	}
	_, text, err := s.versionOf(ctx, p, m, l, 1)
	return text, err
}

// checkSame tests that req asks for the message that was made.
func checkSame(wire []byte, req api.PostMessage) error {
	m, err := parseMessage(wire)
	if err != nil {
		return err
	}
	if !bytes.Equal(m.Body, req.Body) || m.Role != req.Role || m.ReplyTo != req.ReplyTo || req.TS != 0 && m.TS != req.TS {
		return errOtherRequest
	}
	return nil
}
