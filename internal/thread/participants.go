package thread

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// MaxParts is the most participants of a thread.
const MaxParts = 100

// Who takes part in a thread lies in its record (meta.Parts), which every commit of
// a post, an edit or a reaction requires as it was read: what comes after the commit
// that takes a part away is refused. Each participant has an index entry as the
// owner has, and it shows nothing by itself: who lists is asked about each thread.

var (
	errNoPart   = fault.New(fault.NotFound, "there is no such participant in this thread; look at the list of them")
	errNoPerson = fault.New(fault.NotFound, "there is no such user or agent in your org; check the ID, or say end_user for an end user")
	errOwner    = fault.New(fault.Invalid, "the thread is this one's own; share it with another")
)

// Participants returns who takes part in a thread beside its owner, in the order
// in which they came. Whoever may read the thread may know. Errors:
// Unauthenticated, NotFound, Forbidden.
func (s *Service) Participants(ctx context.Context, p access.Principal, threadID string) (api.Participants, error) {
	out := api.Participants{Participants: []api.Participant{}}
	m, err := s.gate(ctx, p, access.ThreadRead, threadID)
	for _, part := range m.Parts {
		out.Participants = append(out.Participants, part.api())
	}
	return out, err
}

// SetParticipant gives somebody a part in a thread of p's, or another part. A user
// or an agent has to be of the thread's org; an end user's ID is 1 to 36 bytes and
// names whom the org's product calls so. Errors: Unauthenticated, NotFound (the
// thread; no such user or agent in the org), Forbidden (p is not its owner),
// Invalid, Conflict (there are MaxParts).
func (s *Service) SetParticipant(ctx context.Context, p access.Principal, threadID, id string, req api.PutParticipant) (api.Participant, error) {
	who := participant{ID: id, EndUser: req.EndUser, Part: access.Part(req.Part)}
	m, err := s.shares(ctx, p, access.ThreadShare, threadID, who)
	if err != nil {
		return api.Participant{}, err
	}
	if who.Part != access.Reader && who.Part != access.Writer {
		return api.Participant{}, fault.New(fault.Invalid, "part must be %s or %s", access.Reader, access.Writer)
	}
	if err := s.person(ctx, m.Org, who); err != nil {
		return api.Participant{}, err
	}
	idem.Answer(ctx, who.api())
	return who.api(), s.editParts(ctx, m, func(m *meta, b *store.Batch) error { return m.setPart(b, who) })
}

// RemoveParticipant takes somebody's part in a thread of p's away, or p leaves
// another's thread. When it returns he reads and writes nothing of it any more; who
// follows the thread is cut off. Errors: Unauthenticated, NotFound (the thread, the
// participant), Forbidden.
func (s *Service) RemoveParticipant(ctx context.Context, p access.Principal, threadID, id string, endUser bool) error {
	who := participant{ID: id, EndUser: endUser}
	action := access.ThreadShare
	if who.is(p) {
		action = access.ThreadRead
	}
	m, err := s.shares(ctx, p, action, threadID, who)
	if err != nil {
		return err
	}
	return s.editParts(ctx, m, func(m *meta, b *store.Batch) error { return m.dropPart(b, who) })
}

// shares is gate for what changes who takes part. It records whom it is about, if
// that is an ID: any other text, perhaps a key that went astray, is not for the
// record, and what an end user is called is his.
func (s *Service) shares(ctx context.Context, p access.Principal, a access.Action, threadID string, who participant) (meta, error) {
	m, err := s.load(ctx, threadID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return meta{}, store.Fault(err)
	}
	r := m.resource(p, threadID)
	r.Details = map[string]string{}
	if isThreadID(who.ID) && !who.EndUser {
		r.Details["participant_id"] = who.ID
	}
	if who.Part == access.Reader || who.Part == access.Writer {
		r.Details["part"] = string(who.Part)
	}
	if err := s.authority.Check(ctx, p, a, r); err != nil {
		return meta{}, err
	}
	if m.ID == "" {
		return meta{}, access.NotThere
	}
	return m, nil
}

// person tests that who is somebody that can take part in a thread of the org.
func (s *Service) person(ctx context.Context, org string, who participant) error {
	if who.EndUser {
		if who.ID == "" || len(who.ID) > MaxIdentity || !utf8.ValidString(who.ID) || strings.ContainsFunc(who.ID, unicode.IsControl) {
			return fault.New(fault.Invalid, "an end user's ID has 1 to %d bytes of UTF-8, without control characters", MaxIdentity)
		}
		return nil
	}
	if s.known == nil || !isThreadID(who.ID) { // which has the form of every ID
		return errNoPerson
	}
	for _, kind := range []access.Kind{access.User, access.Agent} {
		if err := s.known(ctx, org, kind, who.ID); !errors.Is(err, fault.NotFound) {
			return err
		}
	}
	return errNoPerson
}

// editParts lets edit change who takes part in m, and commits it, again on the
// thread as it is then if somebody was faster.
func (s *Service) editParts(ctx context.Context, m meta, edit func(*meta, *store.Batch) error) error {
	_, err := s.editRecord(ctx, m, func(m *meta, b *store.Batch) error {
		m.Parts, m.UpdatedTS = slices.Clone(m.Parts), s.tick()
		return edit(m, b)
	})
	return err
}

func (m *meta) setPart(b *store.Batch, who participant) error {
	if who.ID == m.Author && who.EndUser == m.EndUser {
		return errOwner
	}
	b.Put(layout.OrgThread(m.Org, who.ID, m.CreatedTS, m.ID), nil)
	if i := m.part(who); i >= 0 {
		m.Parts[i] = who
		return nil
	}
	if len(m.Parts) >= MaxParts {
		return fault.New(fault.Conflict, "there are %d participants, which is the most; remove one first", MaxParts)
	}
	m.Parts = append(m.Parts, who)
	return nil
}

// dropPart keeps the index entry where somebody else is left who has the same ID,
// a user and an end user.
func (m *meta) dropPart(b *store.Batch, who participant) error {
	i := m.part(who)
	if i < 0 {
		return errNoPart
	}
	m.Parts = slices.Delete(m.Parts, i, i+1)
	other := participant{ID: who.ID, EndUser: !who.EndUser}
	if who.ID != m.Author && m.part(other) < 0 {
		b.Delete(layout.OrgThread(m.Org, who.ID, m.CreatedTS, m.ID))
	}
	return nil
}

// part is where who is among m's participants; -1: nowhere.
func (m meta) part(who participant) int {
	return slices.IndexFunc(m.Parts, func(p participant) bool { return p.ID == who.ID && p.EndUser == who.EndUser })
}

// is reports whether that is p.
func (who participant) is(p access.Principal) bool {
	return who.ID == p.ID && who.EndUser == (p.Kind == access.EndUser)
}

func (who participant) api() api.Participant {
	return api.Participant{ID: who.ID, EndUser: who.EndUser, Part: string(who.Part)}
}

// seen is m as p sees it: with the part that he has in another's thread, and for a
// backend key with what is told of the DEK.
func (m meta) seen(p access.Principal) api.Thread {
	t := m.api()
	t.Part = string(m.resource(p, m.ID).Part)
	if p.Kind == access.EndUser && p.Role == access.Backend {
		t.KMS = m.dek()
	}
	return t
}

// dek is what is told of m's DEK; nil: it has none.
func (m meta) dek() *api.ThreadDEK {
	if m.KMS.plain() {
		return nil
	}
	return &api.ThreadDEK{KeyID: m.KMS.KeyID, KEKVersion: int(m.KMS.KEKVersion)}
}
