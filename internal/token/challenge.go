package token

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Challenge is something half done that the holder of a text may finish, such
// as a sign-in that waits for its second factor. It is kept as JSON under the
// hash of its text and holds nothing secret.
type Challenge struct {
	Kind    string    `json:"kind"`          // one lower-case word of ours: "mfa", "passkey", "device"
	Subject string    `json:"subject"`       // whom it is about; may be empty
	Data    []byte    `json:"data,omitzero"` // the kind's own, at most MaxData bytes
	Expires time.Time `json:"expires"`       // zero, when it is put: in ChallengeTTL
}

// Limits of challenges.
const (
	ChallengeTTL = 5 * time.Minute // unless Expires says otherwise
	MaxData      = 64 << 10
)

const challengePrefix = "1ot_"

var errChallenge = fault.New(fault.Unauthenticated, "this was finished before, or took too long; begin again")

// PutChallenge stores c and returns its text: "1ot_" and 43 characters.
func (s *Service) PutChallenge(ctx context.Context, c Challenge) (text string, err error) {
	text = newText(challengePrefix, nil)
	return text, s.PutChallengeAs(ctx, text, c)
}

// PutChallengeAs is PutChallenge under a text of the caller's, such as a code
// that a person types. Errors: Conflict (a live one of this kind has the text),
// TooLarge.
func (s *Service) PutChallengeAs(ctx context.Context, text string, c Challenge) error {
	if len(c.Data) > MaxData {
		return fault.New(fault.TooLarge, "what is half done may take %d bytes", MaxData)
	}
	if c.Expires.IsZero() {
		c.Expires = s.now().Add(ChallengeTTL)
	}
	c.Expires = c.Expires.UTC()
	return retry(ctx, func() error {
		o, err := s.look(ctx, c.Kind, text)
		if err != nil {
			return err
		}
		if o.live {
			return fault.New(fault.Conflict, "this code is in use; make another")
		}
		ends(&o.batch, c.Expires, o.key, "")
		return s.putChallenge(ctx, o, c)
	})
}

func (s *Service) putChallenge(ctx context.Context, o *one, c Challenge) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "what is half done does not encode")
	}
	o.batch.Put(o.key, raw)
	return s.commit(ctx, &o.batch)
}

// LookChallenge returns a live challenge of a kind, and leaves it. Errors:
// Unauthenticated.
func (s *Service) LookChallenge(ctx context.Context, kind, text string) (Challenge, error) {
	o, err := s.look(ctx, kind, text)
	if err == nil && !o.live {
		err = errChallenge
	}
	if err != nil {
		return Challenge{}, store.Fault(err)
	}
	return o.Challenge, nil
}

// TakeChallenge returns a live challenge of a kind once: of many calls one gets
// it. Errors: Unauthenticated.
func (s *Service) TakeChallenge(ctx context.Context, kind, text string) (c Challenge, err error) {
	err = s.with(ctx, kind, text, func(o *one) error {
		c = o.Challenge
		o.batch.Delete(o.key)
		o.batch.Delete(layout.TokenEnd(o.Expires, o.key))
		return s.commit(ctx, &o.batch)
	})
	if err != nil {
		return Challenge{}, err
	}
	return c, nil
}

// ChangeChallenge lets change edit Subject and Data of a live challenge, in one
// step against every other change. change may run more than once; its error is
// returned, and then nothing changes. Errors: Unauthenticated.
func (s *Service) ChangeChallenge(ctx context.Context, kind, text string, change func(*Challenge) error) error {
	return s.with(ctx, kind, text, func(o *one) error {
		c := o.Challenge
		if err := change(&c); err != nil {
			return err
		}
		c.Kind, c.Expires = o.Kind, o.Expires
		return s.putChallenge(ctx, o, c)
	})
}

// with does do with a live challenge.
func (s *Service) with(ctx context.Context, kind, text string, do func(*one) error) error {
	return retry(ctx, func() error {
		o, err := s.look(ctx, kind, text)
		if err != nil {
			return err
		}
		if !o.live {
			return errChallenge
		}
		return do(o)
	})
}

// one is the place of a challenge, what lies there, and a batch that requires
// it as it was read.
type one struct {
	Challenge
	live  bool
	key   string
	batch store.Batch
}

func (s *Service) look(ctx context.Context, kind, text string) (*one, error) {
	o := &one{key: layout.Challenge(kind, hash(text))}
	rec, err := s.store.Get(ctx, o.key)
	if err != nil && !isAbsent(err) {
		return nil, err
	}
	o.batch.RequireRevision(o.key, rec.Revision)
	if err != nil {
		return o, nil
	}
	if err := json.Unmarshal(rec.Value, &o.Challenge, json.RejectUnknownMembers(true)); err != nil {
		return nil, damaged(o.key)
	}
	if o.live = s.now().Before(o.Expires); !o.live {
		o.batch.Delete(layout.TokenEnd(o.Expires, o.key)) // the row may get another end
	}
	return o, nil
}
