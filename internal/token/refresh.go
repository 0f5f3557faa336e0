package token

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// A refresh token is "1rt_" and the base64url form, without padding, of 32
// random bytes: 16 of its session, which the row is found by, and 16 of its
// own. Each works once.
const (
	refreshPrefix = "1rt_"
	RefreshTTL    = 30 * 24 * time.Hour // a session without a new token ends

	// reuse is how long a token that was used is taken again: a client may ask
	// twice at once, or lose the answer. Each time it gets a token of its own.
	// Once one of these is used the others are used too.
	reuse   = 10 * time.Second
	maxLive = 16
	maxUsed = 64 // that are remembered; whoever uses up more in that moment has no second try of the oldest
)

// errRefresh is the answer to every refresh token that does not work.
var errRefresh = fault.New(fault.Unauthenticated, "the refresh token does not work, or was used before; sign in again")

// Session is what a refresh token stands for.
type Session struct {
	UserID string
	Since  time.Time // the sign-in that it began with
}

// sessionRow is a session as JSON under layout.Refresh of the hash of its 16
// bytes. A session that has ended has no row.
type sessionRow struct {
	User    string     `json:"user"`
	Since   time.Time  `json:"since"`
	Expires time.Time  `json:"expires"`
	Live    []string   `json:"live"`          // hex SHA-256 of the texts that work
	Used    []usedText `json:"used,omitzero"` // and of those that did until not long ago
}

type usedText struct {
	Hash string    `json:"hash"`
	At   time.Time `json:"at"`
}

// IssueRefresh begins a session and returns its first refresh token. since is
// as Claims.IssuedAt.
func (s *Service) IssueRefresh(ctx context.Context, userID string, since time.Time) (string, error) {
	id := make([]byte, sessionBytes)
	rand.Read(id) // never fails: see crypto/rand
	text, name := newText(refreshPrefix, id), hash(id)
	row := sessionRow{User: userID, Since: since.UTC(), Live: []string{hash(text)}}
	var b store.Batch
	b.RequireAbsent(layout.Refresh(name))
	b.Put(layout.RefreshOf(userID, name), nil)
	if err := s.putSession(&b, name, row); err != nil {
		return "", err
	}
	if err := s.commit(ctx, &b); err != nil {
		return "", store.Fault(err)
	}
	return text, nil
}

const sessionBytes = 16

// SessionOf names the session of a refresh token; "" when text has not the form of one.
func SessionOf(text string) string {
	raw, ok := parseText(refreshPrefix, text)
	if !ok {
		return ""
	}
	return hash(raw[:sessionBytes])
}

// putSession adds row to b, with its end, which is RefreshTTL from now.
func (s *Service) putSession(b *store.Batch, name string, row sessionRow) error {
	key := layout.Refresh(name)
	row.Expires = s.now().UTC().Add(RefreshTTL)
	raw, err := json.Marshal(row)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "a session does not encode")
	}
	b.Put(key, raw)
	ends(b, row.Expires, key, layout.RefreshOf(row.User, name))
	return nil
}

// Redeem takes a refresh token for the next one. Errors: Unauthenticated, one
// for every cause. A token that was used before, and is not taken again, ends
// its session: session then says whose it was, though err is not nil.
func (s *Service) Redeem(ctx context.Context, text string) (session Session, next string, err error) {
	err = retry(ctx, func() error {
		f, err := s.find(ctx, text)
		if err != nil {
			return err
		}
		session = Session{UserID: f.row.User, Since: f.row.Since}
		if !f.row.use(hash(text), s.now().UTC()) {
			if err := f.end(ctx, s); err != nil {
				return err
			}
			s.log.WarnContext(ctx, "a refresh token was used twice; its session is ended", "user", f.row.User)
			return errRefresh
		}
		next = newText(refreshPrefix, f.id)
		f.row.Live = append(f.row.Live, hash(next))
		if err := s.putSession(&f.batch, f.name, f.row); err != nil {
			return err
		}
		return s.commit(ctx, &f.batch)
	})
	if err != nil {
		return session, "", err
	}
	return session, next, nil
}

// use takes the text of this hash out of the row's, and reports whether it works.
func (r *sessionRow) use(text string, now time.Time) bool {
	r.Used = slices.DeleteFunc(r.Used, func(u usedText) bool { return now.Sub(u.At) > reuse })
	if slices.Contains(r.Live, text) {
		for _, t := range r.Live {
			r.Used = append(r.Used, usedText{t, now})
		}
		r.Live, r.Used = nil, r.Used[max(0, len(r.Used)-maxUsed):]
		return true
	}
	if len(r.Live) >= maxLive {
		r.Live = r.Live[1:]
	}
	return slices.ContainsFunc(r.Used, func(u usedText) bool { return u.Hash == text })
}

// RevokeRefresh ends the session of a refresh token, if there is one.
func (s *Service) RevokeRefresh(ctx context.Context, text string) error {
	err := retry(ctx, func() error {
		f, err := s.find(ctx, text)
		if err != nil {
			return err
		}
		return f.end(ctx, s)
	})
	if errors.Is(err, fault.Unauthenticated) {
		return nil
	}
	return err
}

// RevokeAll ends all sessions that the user has when it is called.
func (s *Service) RevokeAll(ctx context.Context, userID string) error {
	all := store.Prefix(layout.RefreshOf(userID, ""))
	for {
		recs, err := s.store.Scan(ctx, all, store.ScanOptions{Limit: 1000})
		if err != nil || len(recs) == 0 {
			return store.Fault(err)
		}
		var b store.Batch
		for _, rec := range recs {
			b.Delete(rec.Key)
			b.Delete(layout.Refresh(strings.TrimPrefix(rec.Key, all.Start)))
		}
		if _, err := s.store.Commit(ctx, &b); err != nil {
			return store.Fault(err)
		}
	}
}

// found is a session that goes on, with a batch that requires it as it was read.
type found struct {
	id    []byte // sessionBytes of the text
	name  string
	row   sessionRow
	batch store.Batch
}

// find returns the session of a refresh token. Errors: errRefresh, or the store's.
func (s *Service) find(ctx context.Context, text string) (*found, error) {
	raw, ok := parseText(refreshPrefix, text)
	if !ok {
		return nil, errRefresh
	}
	f := &found{id: raw[:sessionBytes], name: hash(raw[:sessionBytes])}
	key := layout.Refresh(f.name)
	rec, err := s.store.Get(ctx, key)
	if isAbsent(err) {
		return nil, errRefresh
	} else if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(rec.Value, &f.row, json.RejectUnknownMembers(true)); err != nil {
		return nil, damaged(key)
	}
	if !s.now().Before(f.row.Expires) {
		return nil, errRefresh
	}
	f.batch.RequireRevision(key, rec.Revision)
	f.batch.Delete(layout.TokenEnd(f.row.Expires, key))
	return f, nil
}

// end removes the session.
func (f *found) end(ctx context.Context, s *Service) error {
	f.batch.Delete(layout.Refresh(f.name))
	f.batch.Delete(layout.RefreshOf(f.row.User, f.name))
	return s.commit(ctx, &f.batch)
}
