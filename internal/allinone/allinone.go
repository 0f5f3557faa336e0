// Package allinone assembles a server: its store, identity, vaults, threads,
// the HTTP server over them, and the KMS: inside the process (embedded), with
// its own store and root key, or in one of its own that is called (external).
// Which of the two is said once, at the start. "keyfold dev" and package
// keyfoldtest run it.
//
// It owns the data directory:
//
//	DIR/server/    the server's store: everything, sealed under the KMS's keys; or it is in a database
//	DIR/root.key   embedded alone: the root key (mode 0600); without it nothing in DIR opens
//	DIR/kms/       embedded alone: the KMS's store: KEKs and thread DEKs, wrapped
//	DIR/kms.audit/ embedded alone: what was done with keys
//	DIR/audit/     with break-glass alone: what was read without the KMS; DIR/audit.key signs it
//
// Embedded, it trusts whoever can read DIR/root.key and DIR/kms together. A
// root key is made once, on the first start of an empty directory; whenever
// there is something that a missing key protects, Open fails and says which
// file to bring back. External, it holds no key and reads neither of the two.
// A server's store works with one key store alone, and notes which (see
// binding): with another one Open fails. Servers that share a store are so bound
// to one key store, and a store of keys is never taken for a server's.
//
// Everything that the stores committed survives a crash; what a crash left half
// done Open finishes (see vault.Recover).
package allinone

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/guard"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/keylist"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/password"
	"github.com/keyfold/keyfold/internal/policy"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/server"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/metered"
	"github.com/keyfold/keyfold/internal/store/storespec"
	"github.com/keyfold/keyfold/internal/thread"
	"github.com/keyfold/keyfold/internal/tracing"
	"github.com/keyfold/keyfold/internal/trail"
	"github.com/keyfold/keyfold/internal/vault"
)

// KMS is the key process as vaults and threads use it.
type KMS interface {
	vault.KMS
	thread.KMS
	keylist.KMS
}

// Config says what to assemble. The zero Config is a whole Keyfold in memory.
type Config struct {
	DataDir     string           // made when missing; "": in memory, gone with the process
	Store       storespec.Spec   // of the server; none: in DataDir
	KeyStore    storespec.Spec   // of an embedded KMS; none: in DataDir
	KMSURL      string           // "" or Embedded: inside this process; unix:///path or https://host:port: an external one, or several over one key store, separated by commas
	KMSTLS      TLSFiles         // of an external KMS at https
	BreakGlass  BreakGlass       // reads of messages while an external KMS is away; zero: there are none
	SignUp      identity.SignUp  // who may make an account; "": nobody
	DefaultPlan access.Plan      // of an org that signs up; "": enterprise
	Passwords   *password.Hasher // nil: one with the default parameters
	Plain       bool             // messages of new threads are stored in clear, and the log says so again and again
	Dev         bool             // see server.Config; the embedded KMS imports KEKs, too
	MaxAge      api.KeyAges      // of keys; see server.Config
	Retention   time.Duration    // what the orgs' policies say is purged so often; 0: never by itself
	PublicURL   string           // where people find the server: "https://keys.example.com"; "": links are paths, and there are no passkeys
	Proxies     httpx.Proxies    // see server.Config
	Limits      httpx.Limits     // see server.Config
	CORSOrigins []string         // see server.Config
	Dashboard   fs.FS            // see server.Config
	Scrape      *[32]byte        // see server.Config
	Version     string           // of the program, for health answers
	Log         *slog.Logger     // nil: nothing is logged
	Tracer      *tracing.Tracer  // nil: there are no traces
	Now         func() time.Time // nil: time.Now
	OnFailure   func(error)      // see storespec.Options: ends the process when a store cannot go on; nil: nothing does
	WrapKMS     func(KMS) KMS    // for tests: puts something between the server and the KMS; nil: nothing
	Parts       Parts            // for tests: what is open already
}

// Parts are open before the node is, and stay open after it, so that several nodes
// of one process can be over them as several servers are over one database.
type Parts struct {
	Store store.Store  // the server's; nil: DataDir's
	KMS   *kms.Service // in the place of the embedded one; nil: what KMSURL says
}

// Embedded is the KMSURL of a KMS inside this process.
const Embedded = "embedded"

// TLSFiles are paths of PEM files.
type TLSFiles struct{ Cert, Key, CA string }

// BreakGlass is what the reads of messages without the KMS need: see package
// breakglass. It needs a data directory, for its audit.
type BreakGlass struct {
	RootFile    string // the KMS's root key file
	KeyringFile string // what "keyfold-kms export-breakglass" wrote
}

// Node is a running Keyfold. Its fields are the parts of it, for what has no
// call in the API yet and for tests.
type Node struct {
	Handler  http.Handler
	Identity *identity.Service
	Jobs     *job.Runner // the server's
	Store    store.Store // the server's
	KeyStore store.Store // the KMS's; nil when it is external, or another's part

	metrics  *prometheus.Registry
	http     *http.Server
	mux      atomic.Pointer[httpx.Mux]
	calls    atomic.Int64   // under way
	closing  atomic.Bool    // see Drain
	opened   []func() error // closes what was opened, in the order of opening
	close    sync.Once
	closeErr error
}

// Open assembles a Node and recovers what a crash left half done. It listens
// nowhere yet. Its errors are for the operator and name paths.
//
// An external KMS need not be there yet: until it is, what needs a key is
// answered as Unavailable, and the node is not ready. One that is there and has
// not the keys to the data is an error.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.BreakGlass.check(cfg); err != nil {
		return nil, err
	}
	n := &Node{metrics: newMetrics()}
	if err := n.open(ctx, cfg); err != nil {
		return nil, errors.Join(err, n.closeParts())
	}
	return n, nil
}

// open fills n from the bottom up. On an error n holds what was opened so far.
func (n *Node) open(ctx context.Context, cfg Config) (err error) {
	dir := dataDir(cfg.DataDir)
	if err := dir.make(cfg); err != nil {
		return err
	}
	if n.Store = cfg.Parts.Store; n.Store == nil {
		n.Store, err = n.openStore(ctx, dir.server(cfg), cfg)
	}
	if err != nil {
		return err
	}
	n.Store = metered.New(n.Store, n.metrics)
	keys, err := n.openKMS(ctx, dir, cfg)
	if err != nil {
		return err
	}
	return n.assemble(ctx, keys, cfg)
}

// openStore opens a store; where none is named, one in memory.
func (n *Node) openStore(ctx context.Context, at storespec.Spec, cfg Config) (s store.Store, err error) {
	if s = memstore.New(); !at.IsZero() {
		s, err = at.Open(ctx, storespec.Options{Logger: cfg.Log, OnFailure: cfg.OnFailure})
	}
	if err != nil {
		return nil, err
	}
	n.opened = append(n.opened, s.Close)
	return s, nil
}

// assemble builds the domain and the server over an open store and the KMS.
func (n *Node) assemble(ctx context.Context, keys *bound, cfg Config) error {
	box := sealed.New(n.Store, keys)
	t, err := trail.Open(ctx, trail.Config{Store: n.Store, Box: box, Now: cfg.Now, Log: cfg.Log})
	if err != nil {
		return err
	}
	n.opened = append(n.opened, t.Close)
	gate := guard.New(guard.Config{Rules: policy.NewTable(n.Store), Recorder: t, Noter: t, Now: cfg.Now})
	rows := idem.Wrap(n.Store) // for all that calls change
	vaults := vault.New(vault.Config{Store: rows, KMS: keys, Gate: gate, Now: cfg.Now, Log: cfg.Log})
	if err := vaults.Recover(ctx); err != nil {
		return err
	}
	offline, err := n.openBreakGlass(ctx, cfg)
	if err != nil {
		return err
	}
	clear := inClear{n.Store, box}
	threads := thread.New(thread.Config{
		Store: rows, KMS: keys, Gate: gate, Now: cfg.Now, BreakGlass: offline, Known: n.known,
		Plain: cfg.Plain, Encrypted: clear.forget,
		Believe: func(ctx context.Context) (bool, error) { return clear.known(ctx, cfg.Plain) },
	})
	n.Jobs = job.New(job.Config{
		Store: rows, Kinds: []job.Kind{vaults.RewrapKind(), vaults.RotationKind(), threads.RewrapKind(), threads.MoveKind(), threads.RotateAllKind(), threads.EncryptKind(), threads.PurgeKind(), box.RewrapKind(keys)}, Now: cfg.Now, Log: cfg.Log, Tracer: cfg.Tracer,
		Holder: holder(n.Store), Busy: n.busy,
	})
	n.opened = append(n.opened, func() error { n.Jobs.Close(); return nil })
	if err := n.Jobs.Resume(ctx); err != nil {
		return err
	}
	n.retain(threads, cfg)
	limits, count := n.limits(box, cfg)
	s := server.Config{
		Vaults:       vaults,
		Threads:      threads,
		Audit:        trail.NewReader(t, gate),
		Keys:         keylist.New(keys, threads, cfg.MaxAge),
		MaxAge:       cfg.MaxAge,
		Gate:         gate,
		Jobs:         n.Jobs,
		Now:          cfg.Now,
		Proxies:      cfg.Proxies,
		Limits:       limits,
		Ready:        []server.Check{{Name: "store", Do: answers(n.Store)}, {Name: server.KeyProcess, Do: keys.answers}},
		KeyProcesses: keys.several,
		Once:         n.once(box, t, cfg),
		Version:      cfg.Version,
		Plain:        cfg.Plain,
		Dev:          cfg.Dev,
		Store:        n.Store,
		CORSOrigins:  cfg.CORSOrigins,
		Dashboard:    cfg.Dashboard,
		Log:          cfg.Log,
		Tracer:       cfg.Tracer,
		Closing:      n.closing.Load,
		Scrape:       cfg.Scrape,
		Metrics:      n.metrics,
	}
	if err := n.people(&s, rows, box, t, cfg); err != nil {
		return err
	}
	n.show(keys.inside, s.Tokens, t, cfg)
	n.sayClear(cfg, threads.InClear)
	mux := server.New(s)
	count()
	n.mux.Store(mux)
	n.Handler = n.counts(mux)
	n.http = server.NewHTTPServer(n.Handler, cfg.Log)
	return nil
}

// counts is h, with the calls that are under way counted.
func (n *Node) counts(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.calls.Add(1)
		defer n.calls.Add(-1)
		h.ServeHTTP(w, r)
	})
}

// busy reports whether there are calls that a job can be in the way of. One may be
// that of who watches the job, and those who follow threads only wait.
func (n *Node) busy() bool {
	calls := n.calls.Load()
	if mux := n.mux.Load(); mux != nil { // a job may go on before the server is there
		calls -= int64(mux.Streams())
	}
	return calls > 1
}

// answers asks s for a row that is not there.
func answers(s store.Store) func(context.Context) error {
	return func(ctx context.Context) error {
		if _, err := s.Get(ctx, "ready"); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return nil
	}
}

// Serve answers connections of ln until Close, and then returns nil. It may be
// called for several listeners.
func (n *Node) Serve(ln net.Listener) error {
	if err := n.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Drain lets /readyz answer that the server is closing, so that balancers send
// their calls elsewhere; all else goes on. It returns after d, or when ctx is done.
func (n *Node) Drain(ctx context.Context, d time.Duration) {
	n.closing.Store(true)
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Close stops listening, ends the streams of events, lets the other requests under
// way finish until ctx is done, and closes the stores. Further calls wait for the
// first and answer as it did.
func (n *Node) Close(ctx context.Context) error {
	n.close.Do(func() {
		n.closing.Store(true)
		n.mux.Load().EndStreams()
		err := n.http.Shutdown(ctx)
		if err != nil { // ctx is done; the rest is cut off
			err = errors.Join(err, n.http.Close())
		}
		n.closeErr = errors.Join(err, n.closeParts())
	})
	return n.closeErr
}

// closeParts closes what was opened, the last first. A store waits for its
// running calls.
func (n *Node) closeParts() error {
	var errs []error
	for _, shut := range slices.Backward(n.opened) {
		errs = append(errs, shut())
	}
	return errors.Join(errs...)
}
