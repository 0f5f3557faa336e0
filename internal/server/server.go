// Package server is the HTTP face of Keyfold's server process: the table of
// its routes, and handlers that decode, make one call of a domain package, and
// encode.
//
// It trusts the domain packages with every decision: a row says only that
// there must be a principal, and the domain's gate says what that principal
// may do. It holds no state and no copy of a rule of the domain's, so there is
// nothing here for a crash to break.
package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/device"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/generationc"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/keylist"
	"github.com/keyfold/keyfold/internal/passkey"
	"github.com/keyfold/keyfold/internal/policy"
	"github.com/keyfold/keyfold/internal/share"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/thread"
	"github.com/keyfold/keyfold/internal/token"
	"github.com/keyfold/keyfold/internal/tracing"
	"github.com/keyfold/keyfold/internal/trail"
	"github.com/keyfold/keyfold/internal/vault"
)

// Config is what the server stands on.
type Config struct {
	Vaults       *vault.Service
	Threads      *thread.Service
	Identity     *identity.Service
	Tokens       *token.Service
	Policies     *policy.Service
	Shares       *share.Service
	Devices      *device.Service
	Passkeys     *passkey.Service // nil: there are none here
	Keys         *keylist.Service
	MaxAge       api.KeyAges // shown beside keys
	Audit        *trail.Reader
	Gate         access.Gate
	Jobs         Jobs                       // knows the kinds vault.RewrapJob, vault.RotationJob, thread.RewrapJob and sealed.RewrapJob
	Now          func() time.Time           // nil: time.Now
	Once         *idem.Service              // nil: an Idempotency-Key counts for messages alone
	Proxies      httpx.Proxies              // whose word about a client's address counts
	Limits       httpx.Limits               // of calls; zero: none
	Ready        []Check                    // what /readyz and /v1/health look at
	KeyProcesses func() (answering, of int) // of a server with several; nil: there is one
	Plain        bool                       // messages of new threads are not encrypted; health says so
	Dev          bool                       // the server is for trying it: see generate-kek
	Store        store.Store                // whose rows operators are shown; see layout.Shown
	Version      string                     // of the program, as health answers show it
	CORSOrigins  []string                   // whose pages may call; see httpx.Config
	Dashboard    fs.FS                      // the files of package web; nil: there is no dashboard here
	Log          *slog.Logger               // nil: nothing is logged
	Tracer       *tracing.Tracer            // nil: there are no traces
	Closing      func() bool                // whether the server is about to close, so that /readyz sends callers elsewhere; nil: never
	// Scrape is the SHA-256 of the token that opens the metrics and nothing else, and for
	// which no store is read. nil: there is none, and operators alone see them.
	Scrape *[sha256.Size]byte
	// Metrics is what operators are shown; New adds its own to it, and others may add
	// theirs. It serves one server. nil: a fresh one.
	Metrics *prometheus.Registry
}

// New returns the handler of all routes.
func New(cfg Config) *httpx.Mux {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	cfg.Metrics.MustRegister(newJobMetrics(cfg.Jobs, cfg.Now))
	var mux *httpx.Mux
	answered := newRequests(cfg.Metrics, func() int64 { return mux.Calls() })
	mux = httpx.New(httpx.Config{
		Rows:         allRows(cfg),
		Observe:      answered.observe,
		Authenticate: cfg.Identity.Authenticate,
		EndUsers:     cfg.Identity.EndUser,
		Forbidden:    strayed(cfg.Gate),
		Once:         once(cfg.Once),
		Proxies:      cfg.Proxies,
		Limits:       cfg.Limits,
		Now:          cfg.Now,
		CORSOrigins:  cfg.CORSOrigins,
		Log:          cfg.Log,
		Tracer:       cfg.Tracer,
	})
	return mux
}

// allRows is the table with generation C, whose clients know it by another
// document than ours, and with the dashboard, which is no API.
func allRows(cfg Config) []httpx.Row {
	all := append(rows(cfg), generationc.Rows(cfg.Threads, cfg.Identity)...)
	if cfg.Dashboard != nil {
		all = append(all, newDashboard(cfg.Dashboard).rows()...)
	}
	return all
}

// strayed has the gate record an org's own key that called what is not for it.
// The gate knows no such action, and so it allows it to nobody.
func strayed(gate access.Gate) func(context.Context, *httpx.Call) error {
	return func(ctx context.Context, c *httpx.Call) error {
		r := access.Resource{OrgID: c.Principal.OrgID, Type: "route", ID: c.Route()}
		if err := gate.Check(ctx, c.Principal, "route.call", r); !errors.Is(err, fault.Forbidden) {
			return err
		}
		return nil
	}
}

// NewHTTPServer returns a server for h with our limits. Bodies and handlers
// are bounded per row; what is bounded here is the rest of a connection's
// life: a head that is slow to come, an answer that nobody takes, a wait for
// the next request. How many connections there are at once is bounded by the
// system's limit of open files alone. What net/http itself refuses, before
// there is a request to route (a head over the limit, a head that is no HTTP),
// it answers in plain text: 4xx, or 501 to a transfer encoding it does not know.
func NewHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      5 * time.Minute, // from the end of the head: body, work and answer
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// "OPTIONS *" is a request like any other.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
