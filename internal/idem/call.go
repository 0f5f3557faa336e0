package idem

import (
	"context"
	"crypto/hmac"
	"errors"
	"sync"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// call is a write under way that came with a key.
type call struct {
	service *Service
	request Request
	day     int64
	name    string // of its row
	digest  string // of the request

	mu      sync.Mutex // guards all below; held during a commit
	mode    mode
	answer  any                                // nil: not known yet
	secret  bool                               // it must not lie in clear
	echo    bool                               // it says no more than the request
	convert func(any) any                      // makes what goes out of it; nil: it goes out itself
	derive  func(context.Context) (any, error) // what stands for an answer that is not kept
	rest    func(context.Context) error        // what may be left to do after the row's commit; nil: nothing
	ref     string
	begun   bool           // the row is there
	at      store.Revision // which it was put at, while it has no answer
	ended   bool           // and has the answer
	seen    *row           // the row of an earlier request with this key
	taken   bool           // the handler goes on from seen by itself
}

// mode is how a write is told from the one before.
type mode int

const (
	single     mode = iota // one commit; the row goes with it
	several                // several commits; the row goes with the first, the answer comes after the last
	repeatable             // doing it again changes nothing; the row comes after the last
	skipped                // no row
)

type callKey struct{}

// of returns the call that ctx is of; nil: none that came with a key.
func of(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// with runs set on the call that ctx is of, if it is one.
func with(ctx context.Context, set func(*call)) {
	if c := of(ctx); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		set(c)
	}
}

// Answer says what the call answers once the next commit is made, which is its
// only one or its last. It is kept as it is, so it holds nothing but what lies in clear in the
// store anyway. Said again it counts anew.
// A func() any is asked at the commit.
func Answer(ctx context.Context, out any) { keep(ctx, out, false) }

// Secret is Answer for what must not lie in clear: it is kept sealed by the KMS.
func Secret(ctx context.Context, out any) { keep(ctx, out, true) }

// Echo is Answer for what says no more than the request did: it is answered also when
// what the request named is not there any more.
func Echo(ctx context.Context, out any) {
	with(ctx, func(c *call) { c.answer, c.echo = out, true })
}

func keep(ctx context.Context, out any, secret bool) {
	with(ctx, func(c *call) { c.answer, c.secret = out, secret })
}

// As has answers go out as convert makes them.
func As(ctx context.Context, convert func(any) any) {
	with(ctx, func(c *call) { c.convert = convert })
}

// Derive says that the call's only commit is next, and that its answer is not kept:
// a request that is sent again is answered what again returns then.
func Derive(ctx context.Context, again func(context.Context) (any, error)) {
	with(ctx, func(c *call) { c.derive = again })
}

// Rest says what the call does after the commit that its answer is in, and may do again
// at any time: a request that is sent again does it before it is answered, since the
// one before may have been cut off there.
func Rest(ctx context.Context, rest func(context.Context) error) {
	with(ctx, func(c *call) { c.rest = rest })
}

// Several says that the call makes several commits, of which the first alone does
// not count as done. It is for calls without an answer: of one that said none the
// same is taken.
func Several(ctx context.Context) { with(ctx, func(c *call) { c.mode = several }) }

// Repeatable says that the call may be made again at any time, and then does what is
// left of it: it leaves its row at its end. It fails when there is one, and the call
// was made to its end before.
func Repeatable(ctx context.Context) (err error) {
	with(ctx, func(c *call) { c.mode, err = repeatable, c.look(ctx) })
	return err
}

// Skip says that the call sees to its key itself.
func Skip(ctx context.Context) { with(ctx, func(c *call) { c.mode = skipped }) }

// Ref has the row of the next commit keep a short text without spaces, for Resume.
func Ref(ctx context.Context, ref string) {
	with(ctx, func(c *call) { c.mode, c.ref = several, ref })
}

// Resume returns what Ref kept of the request before, after a commit failed for its
// sake; "": it did not, or nothing was kept. Who gets it goes on from there, and what
// he answers is the answer.
func Resume(ctx context.Context) (ref string) {
	with(ctx, func(c *call) {
		if c.seen != nil && c.seen.ref != "" && hmac.Equal([]byte(c.seen.request), []byte(c.digest)) {
			ref, c.taken = c.seen.ref, true
		}
	})
	return ref
}

// Look fails when the request was made before. It is for what a call does beyond
// the store before its commit, such as making a key. It costs a read.
func Look(ctx context.Context) (err error) {
	with(ctx, func(c *call) { err = c.look(ctx) })
	return err
}

// Apart returns ctx for commits that are no part of the call's effect.
func Apart(ctx context.Context) context.Context {
	if of(ctx) == nil {
		return ctx
	}
	return context.WithValue(ctx, callKey{}, (*call)(nil))
}

// errSeen is the error of a commit of a request that was made before. Do takes it,
// in whatever it was wrapped, for the earlier answer.
var errSeen = errors.New("idem: the request was made before")

// look fails with errSeen when there is a row. The caller holds the lock.
func (c *call) look(ctx context.Context) error {
	if c.seen == nil && !c.begun {
		var err error
		if c.seen, err = c.service.find(ctx, c); err != nil {
			return store.Fault(err)
		}
	}
	if c.seen != nil {
		return errSeen
	}
	return nil
}

// row is what the next commit puts of the call, which the caller holds the lock of.
func (c *call) row(ctx context.Context, b *store.Batch) (row, error) {
	r := row{request: c.digest, until: c.service.now().Add(c.request.Timeout + slack), ref: c.ref}
	switch {
	case c.mode == several:
	case c.answer != nil:
		out := c.answer
		if later, ok := out.(func() any); ok {
			out = later()
		}
		if c.convert != nil {
			out = c.convert(out)
		}
		body, err := c.request.Encode(out)
		if err != nil {
			return r, err
		}
		defer clear(body)
		err = c.service.fill(ctx, b, &r, c, c.request.Status(), body, c.secret)
		if c.echo && r.kind == clearly {
			r.kind = echoed
		}
		return r, err
	case c.derive != nil:
		r.status, r.kind = c.request.Status(), derived
	case c.request.Status() == noContent:
		r.status, r.kind = noContent, empty
	}
	return r, nil
}

// commit commits b with the call's row: with the first commit, and with a later one
// whose answer was said after that.
func (c *call) commit(ctx context.Context, s store.Store, b *store.Batch) (store.Revision, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mode == repeatable || c.mode == skipped || c.begun && (c.ended || c.mode == several || c.answer == nil) {
		return s.Commit(ctx, b)
	}
	if c.seen != nil {
		return 0, errSeen
	}
	all := store.Batch{ // the service keeps its own
		Writes:        append(make([]store.Write, 0, len(b.Writes)+2), b.Writes...),
		Preconditions: append(make([]store.Precondition, 0, len(b.Preconditions)+3), b.Preconditions...),
	}
	r, err := c.row(ctx, &all)
	if err != nil {
		return 0, err
	}
	if !c.begun {
		for _, key := range c.keys() {
			all.RequireAbsent(key)
		}
	}
	all.Put(c.key(), r.encode())
	rev, err := s.Commit(ctx, &all)
	switch {
	case err == nil:
		c.begun, c.ended, c.at = true, r.status != 0, rev
	case errors.Is(err, store.ErrConflict):
		if found := c.look(ctx); found != nil {
			return 0, found
		}
	}
	return rev, err
}

// told reports whether err says something about the state that a request of before
// may have made, and nothing about what its principal may do.
func told(err error, r *row) bool {
	f := fault.Of(err)
	switch f.Code {
	case fault.Conflict, fault.Gone, fault.PreconditionFailed, fault.Invalid, fault.TooLarge, fault.Unopenable, fault.Unauthenticated:
		return true
	case fault.Forbidden:
		return f.Type == api.ProblemResourceLimitExceeded
	case fault.NotFound: // it may be gone, or not the caller's any more: then there is no answer to be shown
		return r.kind == empty || r.kind == echoed
	}
	return false
}
