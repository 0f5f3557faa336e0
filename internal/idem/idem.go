// Package idem has a write that is sent again change nothing twice, and answers it
// what it was answered first (docs/idempotency.md).
//
// A request names itself by a key. What it changes and the row that says so are one
// commit: Do gives the call a context, and a Store of this package adds the row to the
// first commit that is made with it, on the condition that there is none. So a first
// request costs no round trip more, and one that comes again finds out at its own
// commit, or when it fails for what the first one changed: then the row is looked up
// and its answer given. The handler has run until there, so that whoever may not do it
// any more hears that and not the answer.
//
// A service says its answer before its commit (Answer, Secret, Derive), so that a
// crash right after it loses nothing. Where it says none, the row of the first commit
// says that the request was begun, and its answer is put into it by the commit before
// which it is said, or after the last; a
// request that finds a row without one is told honestly that it is under way, or that
// its answer is lost.
//
// It trusts the store, and the KMS for the answers that are secrets and for the key
// under which names and digests are made: a row tells whoever steals the store neither
// a key nor anything of a request. Rows lie under the day of their request and are
// removed once the day after it is over.
package idem

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// Limits.
const (
	MaxKey  = 255       // characters of a key
	maxBody = 64 << 10  // bytes of an answer that is kept
	maxDay  = 5_000_000 // rows that one server keeps for a principal in a day
)

// slack is how much longer than its time a call may take to end.
const slack = 5 * time.Second

const day = 24 * time.Hour

// Sealer keeps what must not lie in clear. Put adds to b, which is committed then.
type Sealer interface {
	Key(context.Context) ([]byte, error) // always the same 32 bytes
	Put(ctx context.Context, b *store.Batch, day int64, name string, value []byte) error
	Get(ctx context.Context, day int64, name string) ([]byte, error)
}

// Config makes a Service.
type Config struct {
	Store  store.Store // without this package's wrapping
	Sealer Sealer
	Now    func() time.Time // nil: time.Now
	// Replayed records that a request was answered from its row, before it is.
	Replayed func(context.Context, Request) error
}

// Service keeps what was answered. It may be used by many goroutines, and many
// servers may share one store, whose clocks may differ by minutes.
type Service struct {
	store    store.Store
	sealer   Sealer
	now      func() time.Time
	replayed func(context.Context, Request) error

	mu     sync.Mutex        // guards what is below
	key    []byte            // nil: not asked for yet
	counts map[string]uint32 // rows of today by principal
	today  int64
}

// New returns a Service. It reads nothing yet.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Service{store: c.Store, sealer: c.Sealer, now: c.Now, replayed: c.Replayed}
}

// Request is a write that came with a key.
type Request struct {
	Key       string
	Principal access.Principal // whom the key is one of
	Route     string           // for the record
	Parts     []string         // all that makes the request what it is, but for its body
	Body      []byte
	Timeout   time.Duration // after which nobody works on it
	// Status is that of the answer if the call succeeds, once the handler runs.
	Status func() int
	// Encode writes an answer as the handler will.
	Encode func(any) ([]byte, error)
}

// Reply is an answer.
type Reply struct {
	Status   int
	Location string
	Body     []byte // nil: none
	Replayed bool
}

var (
	errKey      = fault.New(fault.Invalid, "the idempotency key must be 1 to %d printable ASCII characters", MaxKey)
	errReused   = fault.New(fault.KeyReused, "this idempotency key was used for another request; send another key").WithType(api.ProblemIdempotencyKeyReused)
	errUnderWay = fault.New(fault.Conflict, "a request with this idempotency key is under way; send it again in a moment").WithType(api.ProblemIdempotencyInProgress).WithRetryAfter(time.Second)
	errLost     = fault.New(fault.Conflict, "a request with this idempotency key was begun, and its answer is lost; look whether it took effect, and send another key if it did not").WithType(api.ProblemIdempotencyAnswerLost)
	errMany     = fault.New(fault.TooMany, "you sent %d requests with idempotency keys today; send them without until tomorrow", maxDay).WithRetryAfter(time.Hour)
)

// CheckKey reports what is wrong with a key. Errors: Invalid.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKey || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return errKey
	}
	return nil
}

// Do has a request done, or answers what it was answered first. Errors: do's; Invalid
// (the key), KeyReused, Conflict (it is under way, or its answer is lost), TooMany,
// Unavailable (of the KMS).
func (s *Service) Do(ctx context.Context, r Request, do func(context.Context) (Reply, error)) (Reply, error) {
	if err := CheckKey(r.Key); err != nil {
		return Reply{}, err
	}
	key, err := s.secret(ctx)
	if err != nil {
		return Reply{}, err
	}
	c := &call{service: s, request: r, day: s.now().Unix() / int64(day/time.Second)}
	who := r.Principal.OrgID + " " + r.Principal.Ref() // no two principals of any orgs are the same
	c.name = digest(key, "name", []string{who, r.Key}, nil)
	if !s.admit(who, c.day) {
		return Reply{}, errMany
	}
	c.digest = digest(key, "request", r.Parts, r.Body)
	out, err := do(context.WithValue(ctx, callKey{}, c))
	return s.end(ctx, c, out, err)
}

// end makes the answer of what the handler answered.
func (s *Service) end(ctx context.Context, c *call, out Reply, err error) (Reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.mode == skipped:
		return out, err
	case c.taken:
		out.Replayed = true
		return out, err
	case c.seen == nil && !c.begun && (err == nil || told(err, &row{kind: empty})):
		late, cancel := afterwards(ctx)
		defer cancel()
		if found := c.look(late); found != nil && found != errSeen {
			return Reply{}, found
		}
		if c.seen != nil && err != nil && !told(err, c.seen) {
			return Reply{}, err
		}
	}
	switch {
	case c.seen != nil:
		return s.replay(ctx, c)
	case err != nil:
		if c.begun && !c.ended { // nobody goes on with it
			s.giveUp(ctx, c)
		}
		return Reply{}, err
	case c.begun && !c.ended || c.mode == repeatable:
		return out, s.finish(ctx, c, out)
	}
	return out, nil
}

// afterwards is ctx for what is kept of a call whose client may have hung up: he is the
// one who comes again.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), slack)
}

// finish puts the answer into the row, after the last commit. Where it cannot be put
// the request is done all the same.
func (s *Service) finish(ctx context.Context, c *call, out Reply) error {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	_ = store.Retry(ctx, func() error { // a rewrap may begin at this moment
		r := row{request: c.digest, location: out.Location, ref: c.ref}
		var b store.Batch
		if c.ref != "" { // who comes again goes on from it: no answer is kept
			r.kind, r.status = lost, out.Status
		} else if err := s.fill(ctx, &b, &r, c, out.Status, out.Body, true); err != nil {
			r.kind, r.status = lost, out.Status
		}
		b.Put(c.key(), r.encode())
		_, err := s.store.Commit(ctx, &b)
		return err
	})
	return nil
}

// giveUp has the row say that nobody works on it any more, unless it got the answer by
// a commit that was reported as failed.
func (s *Service) giveUp(ctx context.Context, c *call) {
	ctx, cancel := afterwards(ctx)
	defer cancel()
	var b store.Batch
	b.RequireRevision(c.key(), c.at)
	b.Put(c.key(), row{request: c.digest, ref: c.ref}.encode())
	_, _ = s.store.Commit(ctx, &b)
}

// fill writes an answer into r, and into b what lies apart.
func (s *Service) fill(ctx context.Context, b *store.Batch, r *row, c *call, status int, body []byte, secret bool) error {
	r.status = status
	switch {
	case len(body) == 0:
		r.kind = empty
	case len(body) > maxBody:
		r.kind = lost
	case secret:
		r.kind = sealed
		return s.sealer.Put(ctx, b, c.day, c.name, body)
	default:
		r.kind, r.body = clearly, append([]byte(nil), body...)
	}
	return nil
}

// replay answers from the row that was seen.
func (s *Service) replay(ctx context.Context, c *call) (Reply, error) {
	r := c.seen
	switch {
	case !hmac.Equal([]byte(r.request), []byte(c.digest)):
		return Reply{}, errReused
	case r.status == 0 && s.now().Before(r.until):
		return Reply{}, errUnderWay
	case r.status == 0 || r.kind == lost:
		return Reply{}, errLost
	}
	if c.rest != nil {
		if err := c.rest(Apart(ctx)); err != nil {
			return Reply{}, err
		}
	}
	if s.replayed != nil {
		if err := s.replayed(ctx, c.request); err != nil {
			return Reply{}, err
		}
	}
	out := Reply{Status: r.status, Location: r.location, Body: r.body, Replayed: true}
	switch r.kind {
	case empty:
		out.Body = nil
	case sealed:
		body, err := s.sealer.Get(ctx, r.day, c.name)
		if errors.Is(err, fault.NotFound) {
			err = errLost
		}
		out.Body = body
		return out, err
	case derived:
		if c.derive == nil {
			return Reply{}, errLost
		}
		v, err := c.derive(Apart(ctx))
		if err != nil {
			return Reply{}, err
		}
		out.Body, err = c.request.Encode(v)
		return out, err
	}
	return out, nil
}

// secret is the key of names and digests.
func (s *Service) secret(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	key := s.key
	s.mu.Unlock()
	if key != nil {
		return key, nil
	}
	key, err := s.sealer.Key(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
	return key, nil
}

// digest is half of an HMAC over a purpose, parts and a body, in hex.
func digest(key []byte, purpose string, parts []string, body []byte) string {
	m := hmac.New(sha256.New, key)
	var n [8]byte
	write := func(size int) {
		binary.BigEndian.PutUint64(n[:], uint64(size))
		m.Write(n[:])
	}
	write(len(purpose))
	m.Write([]byte(purpose))
	for _, part := range parts {
		write(len(part))
		m.Write([]byte(part))
	}
	write(len(body))
	m.Write(body)
	return hex.EncodeToString(m.Sum(nil)[:16])
}

// admit counts one more row of a principal's, and reports whether there is room.
func (s *Service) admit(principal string, today int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.today != today || s.counts == nil {
		s.today, s.counts = today, map[string]uint32{}
	}
	if s.counts[principal] >= maxDay {
		return false
	}
	s.counts[principal]++
	return true
}
