package thread

import (
	"context"
	stdjson "encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/store"
)

// Limits of reactions.
const (
	MaxReaction  = 64       // characters of one
	MaxIdentity  = 36       // bytes of whose it is, as of a user ID
	maxReactions = 1000     // to a message
	maxReacted   = 64 << 10 // bytes of their row's text
)

var (
	errNoReaction  = fault.New(fault.NotFound, "there is no reaction of that identity to this message")
	errNotIdentity = fault.New(fault.Forbidden, "you react under your own ID alone; leave the identity out, or send your own ID")
)

// reactions are those to a message, one of each identity. Their row holds this as
// JSON, encrypted as a message is; a message without reactions has none.
type reactions struct {
	ID        string            `json:"id"`        // of the message
	Reactions map[string]string `json:"reactions"` // by identity
}

// React sets a reaction to a message and returns the api.Message as JSON. The
// reaction is 1 to MaxReaction characters. r.ID names whose it is; empty: p's.
//
// An end user whom a backend key named may name another identity, of 1 to
// MaxIdentity bytes: that key may speak for whom it likes, and its clients send
// identities of their own. Who proved who he is, by a credential or a signature,
// reacts under his own ID alone, or he would speak for others. An identity is
// text: a user and an end user of one ID are the same here.
//
// Errors: Unauthenticated, NotFound (also: the message was deleted), Forbidden,
// Invalid, Conflict (the message has 1,000 reactions, or 64 KiB of them; the DEK
// is worn out), Damaged, Unavailable (nothing changed).
func (s *Service) React(ctx context.Context, p access.Principal, threadID, messageID string, r api.Reaction) (stdjson.RawMessage, error) {
	return s.react(ctx, p, threadID, messageID, reacting{identity: r.ID, reaction: r.Reaction})
}

// Unreact takes back the reaction of an identity; empty: of p. The thread's owner
// may take back anybody's. Errors: those of React; NotFound also when there is none.
func (s *Service) Unreact(ctx context.Context, p access.Principal, threadID, messageID, identity string) error {
	_, err := s.react(ctx, p, threadID, messageID, reacting{identity: identity, back: true})
	return err
}

// reacting is what somebody asks for.
type reacting struct {
	identity, reaction string
	back               bool // take it back
}

func (s *Service) react(ctx context.Context, p access.Principal, threadID, messageID string, r reacting) (stdjson.RawMessage, error) {
	var wire stdjson.RawMessage
	err := store.Retry(ctx, func() (err error) {
		wire, err = s.tryReact(ctx, p, threadID, messageID, r)
		return err
	})
	if err != nil {
		return nil, store.Fault(err)
	}
	return wire, nil
}

// tryReact reads, decides and commits once.
func (s *Service) tryReact(ctx context.Context, p access.Principal, threadID, messageID string, r reacting) (stdjson.RawMessage, error) {
	m, err := s.gate(ctx, p, access.MessageWrite, threadID)
	if err != nil {
		return nil, err
	}
	if r.identity == "" {
		r.identity = p.ID
	}
	if err := r.check(p, m); err != nil {
		return nil, err
	}
	l, err := s.look(ctx, p, m, messageID)
	if err != nil {
		return nil, err
	}
	text, err := r.apply(l)
	if err != nil {
		return nil, err
	}
	if !r.back { // the answer is a message, which is for no other row
		idem.Derive(ctx, func(ctx context.Context) (any, error) { return s.GetMessage(ctx, p, threadID, messageID) })
	}
	if err := s.putReactions(ctx, m, l, text); err != nil {
		return nil, err
	}
	return withReactions(l.text, text), nil // stored
}

// check tests what is asked for, and that p may in m.
func (r reacting) check(p access.Principal, m meta) error {
	named := p.Kind == access.EndUser && p.Role == access.Backend
	switch {
	case r.identity != p.ID && !named && !(r.back && m.owns(p)):
		return errNotIdentity
	case len(r.identity) > MaxIdentity || !utf8.ValidString(r.identity) || strings.ContainsFunc(r.identity, unicode.IsControl):
		return fault.New(fault.Invalid, "id must be 1 to %d bytes of UTF-8, without control characters", MaxIdentity)
	case !r.back:
		return checkReaction(r.reaction)
	}
	return nil
}

func checkReaction(reaction string) error {
	if reaction == "" || !isText(reaction, MaxReaction) {
		return fault.New(fault.Invalid, "reaction must be 1 to %d characters of UTF-8, without control characters", MaxReaction)
	}
	return nil
}

// apply returns the text of the reactions to l as they shall be; nil: there is none.
func (r reacting) apply(l look) ([]byte, error) {
	all, err := parseReactions(l.ID, l.reactions)
	if err != nil {
		return nil, err
	}
	if !r.back {
		all[r.identity] = r.reaction
	} else if _, there := all[r.identity]; !there {
		return nil, errNoReaction
	} else {
		delete(all, r.identity)
	}
	if len(all) == 0 {
		return nil, nil
	}
	text, err := reactions{l.ID, all}.encode()
	if err == nil && !r.back && (len(all) > maxReactions || len(text) > maxReacted) {
		return nil, fault.New(fault.Conflict, "a message takes %d reactions, %d bytes in all, and this one has as many; take one back first", maxReactions, maxReacted)
	}
	return text, err
}

func (r reactions) encode() ([]byte, error) {
	text, err := json.Marshal(r, json.Deterministic(true))
	if err != nil {
		return nil, fault.New(fault.Internal, "the reactions do not encode")
	}
	return text, nil
}

// putReactions makes text that of the reactions to what was looked at.
// store.ErrConflict: these, the message or the thread have changed since.
func (s *Service) putReactions(ctx context.Context, m meta, l look, text []byte) error {
	n := reactionsRow(l.ID)
	var b store.Batch
	b.RequireRevision(newestRow(l.ID).key(m.ID), l.rev)
	m.dropRow(&b, n, l.reactionRev)
	if text != nil {
		sealed, err := s.encrypt(ctx, m, openRow{n, text})
		if err != nil {
			return err
		}
		b.Put(n.key(m.ID), sealed[0]) // of two writes to a row the last counts
	}
	return s.commit(ctx, &b, m.ID, changeReactions, l.ID)
}

// parseReactions reads the text of the reactions to a message; nil: there are none.
func parseReactions(messageID string, text []byte) (map[string]string, error) {
	r := reactions{Reactions: map[string]string{}}
	if text == nil {
		return r.Reactions, nil
	}
	if err := json.Unmarshal(text, &r); err != nil || r.ID != messageID || len(r.Reactions) == 0 {
		return nil, fault.New(fault.Damaged, "the reactions to message %s are damaged; restore the store from a backup", messageID)
	}
	return r.Reactions, nil
}

// withReactions is the text of a message with those reactions; nil: none.
func withReactions(text, reactions []byte) []byte {
	if reactions == nil {
		return text
	}
	const start = len(`{"id":"00000000000000000000-000000"`) // both have it
	out := make([]byte, 0, len(text)+len(reactions)-start)
	out = append(out, text[:len(text)-1]...)
	return append(out, reactions[start:]...)
}

// ListReactions returns the reactions to a message, ordered by identity. Errors:
// Unauthenticated, NotFound (also: the message was deleted), Forbidden, Damaged,
// Unavailable.
func (s *Service) ListReactions(ctx context.Context, p access.Principal, threadID, messageID string) (api.Reactions, error) {
	m, err := s.gate(ctx, p, access.MessageRead, threadID)
	if err != nil {
		return api.Reactions{}, err
	}
	recs, err := s.newest(ctx, m, messageID)
	if err != nil {
		return api.Reactions{}, err
	}
	out := api.Reactions{ID: messageID, Reactions: []api.Reaction{}}
	opened, err := s.decrypt(ctx, p, m, recs[1:])
	if err != nil || len(opened) == 0 {
		return out, err
	}
	all, err := parseReactions(messageID, opened[0])
	for _, who := range slices.Sorted(maps.Keys(all)) {
		out.Reactions = append(out.Reactions, api.Reaction{ID: who, Reaction: all[who]})
	}
	return out, err
}
