// Package thread owns threads and their messages: who may touch them, their
// order, and what is written of them.
//
// It trusts the store to keep what it committed and the KMS to hold DEKs. It
// never sees a DEK: it names one by the key ID that the thread's metadata
// holds. It trusts the metadata, too: whoever can write to the store can name
// another owner or title there. What he cannot do is move a message: a row
// opens only under its own thread's DEK, in its own thread, under its own ID.
//
// What is encrypted is the message's JSON as the API answers it (package api,
// Message), so that a read passes it through unchanged. In clear lie titles,
// authors and times of threads, and times and sizes of messages. Bodies,
// roles, authors and replies of messages never do, in no store byte, error or
// log line: without a key ID or without the KMS a post fails.
//
// Everything answered without error is on stable storage. Each change is one
// commit, so a crash leaves none of them half done; all it can leave is a DEK
// in the KMS that no thread names, when it comes between the making of the
// DEK and the commit of the thread. Such a DEK has sealed nothing. A rewrap
// (see RewrapKind) goes on where it was.
package thread

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Limits of what a caller may send and ask.
const (
	MaxTitle = 500     // characters of a title
	MaxRole  = 64      // characters of a role
	MaxBody  = 4 << 20 // bytes of a message's body
	MaxDepth = 1000    // levels of arrays and objects in a body: JSON readers stop at some thousands, and a page wraps it in more
	MaxPage  = 1000    // threads or messages of one page; also the default
)

// KMS is what threads need of the key process. A method with items answers one
// result per item, in order; errors are *fault.Error.
type KMS interface {
	// CreateDEK makes a fresh DEK per item.
	CreateDEK(context.Context, []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error)
	// Encrypt seals each plaintext under the DEK named by its key ID.
	Encrypt(context.Context, []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error)
	// Decrypt opens what Encrypt made with the same key ID and AAD.
	Decrypt(context.Context, []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error)
	// CreateKEK answers the primaries of KEKs; the threads' is always there.
	CreateKEK(context.Context, []string) ([]kmsapi.KEKInfo, error)
	// Rewrap brings DEKs, named by their key IDs, under the primary.
	Rewrap(context.Context, []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error)
	// RotateKEK makes a new primary while IfVersion is it, and answers the primary.
	RotateKEK(context.Context, kmsapi.Rotate) (kmsapi.Rotated, error)
	// ImportKEK makes 32 bytes, which stay the caller's to wipe, the primary of the
	// threads' KEK. fault.Invalid: the KMS takes none, or not these.
	ImportKEK(ctx context.Context, raw []byte) (kmsapi.Rotated, error)
	// ShredDEK destroys the DEK named by a key ID. fault.NotFound: there is none.
	ShredDEK(ctx context.Context, keyID string) error
}

// Gate decides and records who may do what, and records what came of it.
type Gate interface {
	access.Gate
	// Done records that something took effect that Check allowed, or that a policy says.
	Done(ctx context.Context, p access.Principal, a access.Action, r access.Resource) error
}

// Config is what a Service stands on.
type Config struct {
	Store      store.Store
	KMS        KMS
	Gate       Gate
	BreakGlass BreakGlass // answers reads of messages while the KMS is away; nil: they fail
	Plain      bool       // new threads are not encrypted

	// Believe tells whether rows that lie in clear are read where their thread's record
	// says that they may: a server did not encrypt once, and not all is encrypted yet.
	// Else whoever writes to the store cannot put words into a thread. It is asked when
	// that matters, before the first thread in clear is made, too, until it has
	// answered. Plain servers read such rows whatever it answers. nil: they are not.
	Believe func(context.Context) (bool, error)
	// Encrypted is called once an EncryptJob has encrypted everything: nothing in
	// clear is to be believed any more, after a restart neither. nil: nothing.
	Encrypted func(context.Context) error
	Now       func() time.Time // nil: time.Now
	Known     Known            // nil: nobody is
}

// Known tells whether an org has a user or agent of this ID. NotFound: it has not,
// whether or not another org has.
type Known func(ctx context.Context, orgID string, kind access.Kind, id string) error

// Service is the thread store. It may be used by many goroutines, and many
// servers may share one store.
type Service struct {
	store      store.Store
	kms        KMS
	authority  Gate
	known      Known
	breakGlass BreakGlass // nil: off
	plain      bool
	believe    func(context.Context) (bool, error)
	believed   atomic.Pointer[bool] // what believe has answered; nil: nothing yet
	encrypted  func(context.Context) error
	now        func() time.Time
	last       atomic.Int64 // the last time that tick gave out
	together   together     // the posts that are on their way
	shared     bool         // other servers may have the store open: see order.go
	tails      tails
	alone      turns   // one message of a thread at a time, of those that go alone; where shared
	hub        hub     // those who follow threads
	imports    turns   // one import of a thread at a time
	reading    reading // the pages that are being read
	moveBatch  int     // rows of one batch of a re-encryption
}

// New returns a Service. It reads nothing yet.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Service{store: c.Store, kms: c.KMS, authority: c.Gate, known: c.Known, breakGlass: c.BreakGlass, plain: c.Plain, now: c.Now, moveBatch: moveBatch, encrypted: c.Encrypted, reading: make(reading, maxReading), believe: c.Believe, shared: store.Shared(c.Store)}
	s.together.apart = s.shared
	if c.Believe == nil {
		s.believed.Store(new(bool))
	}
	return s
}

// tick returns the time in nanoseconds since 1970, at least 1 and greater than
// every time it gave out before in this process.
func (s *Service) tick() int64 { return s.tickAfter(0) }

// tickAfter is tick, and greater than ts.
func (s *Service) tickAfter(ts int64) int64 {
	for {
		last := s.last.Load()
		now := max(s.now().UnixNano(), last+1, ts+1)
		if s.last.CompareAndSwap(last, now) {
			return now
		}
	}
}

// gate is the one way to a thread: it loads the metadata and has it decided and
// recorded whether p may, before anything else is read or written. A thread that is unknown, deleted
// or another org's is the same NotFound, to the byte.
func (s *Service) gate(ctx context.Context, p access.Principal, action access.Action, threadID string) (meta, error) {
	m, err := s.load(ctx, threadID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return meta{}, store.Fault(err)
	}
	// The zero meta of what is not there belongs to no org, which the gate takes for another one.
	if err := s.authority.Check(ctx, p, action, m.resource(p, threadID)); err != nil {
		return meta{}, err
	}
	if m.ID == "" {
		return meta{}, access.NotThere
	}
	return m, nil
}

// resource is the thread as the gate sees it, for p. An end user and a user or
// agent are not the same for having one ID. An ID that is none is not told.
func (m meta) resource(p access.Principal, threadID string) access.Resource {
	r := access.Resource{OrgID: m.Org, Type: "thread"}
	if m.EndUser == (p.Kind == access.EndUser) {
		r.OwnerID = m.Author
	}
	for _, who := range m.Parts {
		if who.is(p) {
			r.Part = who.Part
		}
	}
	if isThreadID(threadID) {
		r.ID = threadID
	}
	return r
}

// load reads a thread that is there, or answers the zero meta and store.ErrNotFound.
func (s *Service) load(ctx context.Context, threadID string) (meta, error) {
	m, err := s.record(ctx, threadID)
	if err != nil {
		return meta{}, err
	}
	if m.Deleted {
		return meta{}, store.ErrNotFound
	}
	return m, nil
}

// record reads a thread, which may be deleted. store.ErrNotFound: there is none, or
// it is being purged.
func (s *Service) record(ctx context.Context, threadID string) (meta, error) {
	if !isThreadID(threadID) {
		return meta{}, store.ErrNotFound
	}
	rec, err := s.store.Get(ctx, layout.ThreadMeta(threadID))
	if err != nil {
		return meta{}, err
	}
	m, err := parseMeta(threadID, rec)
	if err != nil {
		return meta{}, err
	}
	if m.Purge != nil {
		return meta{}, store.ErrNotFound
	}
	return m, s.readCursor(ctx, &m)
}

// isThreadID reports whether id has the form of a thread's ID, a UUID of 36
// characters. Nothing else gets into a key of the store.
func isThreadID(id string) bool { return len(id) == 36 && uuid.Validate(id) == nil }
