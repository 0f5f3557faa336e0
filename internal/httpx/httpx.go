// Package httpx is the HTTP edge that Keyfold's processes share: routes as
// rows of a table, one pipeline for all of them, and the one place where a
// fault becomes a problem body.
//
// It trusts nothing of a request. A row says how large a body may be, how long
// it may take to arrive, and who may call; the pipeline holds it to that
// before the handler runs: path, route, method, principal, limits, body, in this
// order. What a client does wrong is answered 4xx, always with a problem, and
// never with a redirect: a client that follows one would silently use another
// path than the one it named.
//
// It keeps nothing, so a crash loses only the answers under way. It logs one
// line per request, which holds no header, no query, no body and no path but
// the row's pattern.
package httpx

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/tracing"
)

// Who may call a row.
type Who int

// The zero Who is Principal, so that a row which says nothing is closed.
const (
	Principal Who = iota // a caller that the Authenticator knows
	Public               // anybody; credentials that come along are not looked at
)

// DefaultTimeout is the Timeout of a row that names none.
const DefaultTimeout = 30 * time.Second

// aheadTime is how old what was read ahead may be when the handler begins. When the
// Authenticator took longer, it is read anew.
const aheadTime = 100 * time.Millisecond

// Row is one route.
type Row struct {
	Method string
	// Pattern is a path whose segments are literals, {name} for one segment, or
	// a last {name...} for all that is left. A raw slash and %2F in the latter
	// are the same.
	Pattern string
	// MaxBody bounds the body, in bytes; over it is 413. 0: the row takes no
	// body, and one that comes is not read and ends the connection.
	MaxBody int64
	// OptionalBody lets the body be empty.
	OptionalBody bool
	// FreeForm lets values inside json.RawMessage members be any JSON in UTF-8:
	// with names that come twice and lone surrogates. They are kept to the byte.
	FreeForm bool
	// Lines says that the body is no JSON object, such as JSON Lines; it names no author.
	Lines bool
	// Strict refuses members that the call's type does not have, and null as the
	// body; otherwise they are passed over.
	Strict bool
	// Room is what the handler of a Stream may hold, in bytes, until its client has
	// read; it counts as a large answer of that size. 0: little.
	Room int64
	// Timeout bounds first the arrival of the body (408; on a Public row it is 5 s
	// at most), then the handler's work (503). 0: DefaultTimeout.
	Timeout time.Duration
	Who     Who
	// Optional lets a live credential that comes to a Public row say who calls. Any
	// other is passed over, an org's own key and an admin key too: the principal
	// is then without ID.
	Optional bool
	// Keys lets an org's frontend and backend keys call, as the end user whom the
	// call names; AsKey lets them call as the key that they are. Of neither they
	// are Forbidden.
	Keys, AsKey bool
	// Admin lets admin keys call. Elsewhere they are Forbidden.
	Admin bool
	// Own knows a credential that is for this row alone, and asks nobody: it answers
	// whatever is away. Those that it does not know are the Authenticator's. nil: there is none.
	Own func(bearer string) (access.Principal, bool)
	// Ahead returns ctx, of the call, with word of what the handler reads first, whoever calls,
	// so that the Authenticator can read it with what he reads of the caller; see store.Ahead.
	// It reads nothing itself, since nobody is known yet. It is not for rows that are Public,
	// take a body or have Keys. nil: there is no word.
	Ahead func(ctx context.Context, c *Call) context.Context
	// OwnOnce says that the handler sees to the Idempotency-Key of a write itself.
	OwnOnce bool
	// ErrorIsType puts the type of a problem into its member error, too, where
	// OAuth's clients look for it.
	ErrorIsType bool
	// PlainProblems sends the problems of this path, 405 included, as
	// application/json, for clients that take nothing else for JSON.
	PlainProblems bool
	Handler       Handler
}

// Handler answers one call; Body, NoBody, Empty, Stream and Events make the usual ones.
// It must not keep c, and must either return an error or have answered.
type Handler func(ctx context.Context, c *Call) error

// Authenticator finds the principal of a bearer credential. Its error is a
// *fault.Error, Unauthenticated when the credential is not a live one.
type Authenticator func(ctx context.Context, bearer string) (access.Principal, error)

// Config makes a Mux.
type Config struct {
	Rows         []Row
	Authenticate Authenticator // nil: nobody is known, only public rows answer
	CORSOrigins  []string      // as a browser sends them ("https://app.example.com"), or "*" for any; empty: none
	EndUsers     EndUsers      // nil: an org's own keys may call no row as an end user
	// Forbidden is told of an org's own key on a row that is not for it, before it
	// is answered, and may record it. Its error goes before the answer.
	Forbidden func(ctx context.Context, c *Call) error
	// Once has a write done that its caller, whom the row knows, sent with an
	// Idempotency-Key. nil: the header is passed over.
	Once    Once
	Proxies Proxies // whose word about a client's address counts
	Limits  Limits
	Now     func() time.Time // of Limits; nil: time.Now
	Log     *slog.Logger     // nil: nothing is logged
	Tracer  *tracing.Tracer  // nil: there are no traces

	// Caller takes Authenticate's place where callers are known by their
	// connection. It is asked on every row that is not Public, and its error is
	// the answer. Kinds of Who beyond Principal and Public are its own.
	Caller func(c *Call) (access.Principal, error)
	// Problem appends the body of an error's answer, which is then of type
	// application/json. nil: an api.Problem.
	Problem func(dst []byte, err error) []byte
	// Observe hears of every answer. row is nil when no row was found.
	Observe func(row *Row, status int, took time.Duration)
	// CallerBudgets gives each principal a budget of its own for large bodies, so
	// that no caller can use up another's. It is for principals who are few.
	CallerBudgets bool
}

// Mux serves the rows of a table.
type Mux struct {
	routes    *node
	caller    func(*Call) (access.Principal, error)
	endUsers  EndUsers
	forbidden func(context.Context, *Call) error // nil: nobody hears
	once      Once
	proxies   Proxies
	limits    limits
	cors      cors
	large     *budget
	shares    shares   // of large
	unread    *budget  // of large answers that are being sent
	answers   shares   // of unread
	budgets   *budgets // nil: large is everybody's
	streams   streams  // of events
	problem   func([]byte, error) []byte
	observe   func(*Row, int, time.Duration)
	log       *slog.Logger
	tracer    *tracing.Tracer
	calls     atomic.Int64 // under way
}

// New builds a Mux. It panics when two rows claim the same method and path or
// a pattern is malformed, or one reads ahead that may wait, which are mistakes of the program.
func New(cfg Config) *Mux {
	m := &Mux{
		routes: newNode(), caller: cfg.Caller, endUsers: cfg.EndUsers, forbidden: cfg.Forbidden, once: cfg.Once, proxies: cfg.Proxies, limits: newLimits(cfg.Limits, cfg.Now),
		cors: newCORS(cfg.CORSOrigins), large: newBudget(largeBodies), unread: newBudget(largeAnswers), problem: cfg.Problem, observe: cfg.Observe, log: cfg.Log, tracer: cfg.Tracer,
	}
	for i := range cfg.Rows {
		m.routes.add(&cfg.Rows[i])
	}
	if m.caller == nil {
		m.caller = bearerCaller(cfg.Authenticate)
	}
	if cfg.CallerBudgets {
		m.budgets = new(budgets)
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	return m
}

// ServeHTTP answers one request and logs it.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.calls.Add(1)
	defer m.calls.Add(-1)
	c := &Call{Addr: m.proxies.client(r), mux: m, w: w, r: r, start: time.Now(), requestID: [1]string{requestID(r)}}
	if m.tracer != nil {
		var ctx context.Context
		ctx, c.span = m.tracer.StartRequest(r, c.requestID[0])
		c.r = r.WithContext(ctx)
	}
	defer func() {
		if v := recover(); v != nil {
			c.fail(panicked(v))
		}
		c.boundRest()
		m.logCall(c)
		if c.cut {
			panic(http.ErrAbortHandler) // which net/http takes as: end the connection
		}
	}()
	c.commonHeaders()
	c.leaveBody()
	if m.cors.apply(w, r) {
		c.status = http.StatusNoContent
		w.WriteHeader(c.status)
		return
	}
	if err := m.serve(c); err != nil {
		c.fail(err)
	}
}

// Calls is how many calls are under way.
func (m *Mux) Calls() int64 { return m.calls.Load() }

// serve is the pipeline: each step may refuse, none has an effect before the
// handler's.
func (m *Mux) serve(c *Call) error {
	if err := m.route(c); err != nil {
		return err
	}
	if c.ctx = c.r.Context(); c.row.Ahead != nil {
		c.ctx = c.row.Ahead(c.ctx, c)
	}
	if err := m.admit(c); err != nil {
		return c.named(c.ctx, err)
	}
	if time.Since(c.start) > aheadTime {
		c.ctx = c.r.Context()
	}
	if err := c.readBody(); err != nil {
		return err
	}
	defer c.freeBody()
	defer c.freeRoom()
	ctx := &deadline{Context: c.ctx, at: time.Now().Add(c.row.timeout()), requestID: c.requestID[0]}
	defer ctx.end()
	if err := c.keyHere(ctx); err != nil {
		return c.named(ctx, err)
	}
	give, err := c.roomFor(c.row.Room)
	if err != nil {
		return c.named(ctx, err)
	}
	defer give()
	return c.named(ctx, c.handle(ctx))
}

// admit finds the principal of c, if its row needs one, and holds the caller to
// the limits.
func (m *Mux) admit(c *Call) (err error) {
	if c.row.Who == Public {
		if err := m.limits.address(c.Addr); err != nil || !c.row.Optional {
			return err
		}
		if c.Principal, err = m.caller(c); errors.Is(err, fault.Unauthenticated) || c.Principal.Kind == access.OrgKey || c.Principal.Kind == access.Operator {
			c.Principal, err = access.Principal{Addr: c.Addr, RequestID: c.requestID[0]}, nil
		}
		return err
	}
	if own, ok := c.ownCaller(); ok {
		c.Principal = own
	} else if c.Principal, err = m.caller(c); err != nil {
		return err
	}
	if visitor(c.Principal) {
		return m.limits.address(c.Addr)
	}
	return m.limits.principal(c.Principal)
}

func (row *Row) timeout() time.Duration {
	if row.Timeout > 0 {
		return row.Timeout
	}
	return DefaultTimeout
}
