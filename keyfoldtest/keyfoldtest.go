// Package keyfoldtest starts ready Keyfold servers for tests: a whole Keyfold
// in the test's process, behind a real HTTP listener on the loopback, with an
// owner who has an API key.
//
//	func TestReadsItsPassword(t *testing.T) {
//		s := keyfoldtest.Start(t)
//		app := NewApp(s.URL, s.APIKey)
//		...
//	}
//
// By default everything is in memory, the key process included. A test can move the server's clock, take
// its key process away, restart it, and look for a plaintext in its log and
// in all that it stores.
//
// Several servers can be over one store and one key process: see Shared and Beside.
//
// A server serves one test and ends with it. Its methods fail the test instead
// of returning errors; they may be called from the test's goroutine only.
package keyfoldtest

import (
	"bytes"
	"cmp"
	"context"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/password"
)

// Server is a running Keyfold.
type Server struct {
	URL    string // "http://127.0.0.1:<port>", the same after Restart
	APIKey string // of Owner
	Owner  User   // the first user of an org on the enterprise plan

	t        testing.TB
	users    *int // made so far, by all servers of a site
	options  options
	clock    clock
	faults   faults
	keys     *keyProcess // nil: the key process is the server's own
	down     bool        // keys was taken away
	site     *site       // nil: the server is alone
	view     *view       // of the site's store
	dead     bool        // was killed
	log      logBuffer
	listener keptListener
	node     *allinone.Node
	served   <-chan error // what Serve of node returned, then closed
}

// Option changes what Start starts.
type Option func(*options)

type options struct {
	dir     string
	kms     string
	origins []string
	plain   bool
	dev     bool
	shared  bool
	stores  stores

	dashboard fs.FS
	configure []func(*allinone.Config)
}

// OnDisk keeps the data in dir, as "keyfold dev --data dir" does. Data that is
// there already stays, and Owner is a new user beside it.
func OnDisk(dir string) Option { return func(o *options) { o.dir = dir } }

// WithCORS lets pages of these origins call the server.
func WithCORS(origins ...string) Option { return func(o *options) { o.origins = origins } }

// WithDashboard serves these files as the dashboard, under /ui/. Without it there is
// none.
func WithDashboard(files fs.FS) Option { return func(o *options) { o.dashboard = files } }

// WithoutEncryption has the server store the messages of threads in clear, until a
// Restart after SetEncryption.
func WithoutEncryption() Option { return func(o *options) { o.plain = true } }

// AsDev runs the server as keyfold dev does: POST /admin/encryption/generate-kek is
// there, and the key process imports KEKs.
func AsDev() Option { return func(o *options) { o.dev = true } }

// SetEncryption says whether the server encrypts threads from the next Restart on.
func (s *Server) SetEncryption(on bool) { s.options.plain = !on }

// Start starts a server that stops at the end of the test.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := &Server{t: t, users: new(int), options: options{kms: cmp.Or(os.Getenv("KEYFOLD_TEST_KMS"), Embedded)}}
	for _, opt := range opts {
		opt(&s.options)
	}
	s.options.stores = storesFor(t, s.options.dir)
	s.listen()
	switch {
	case s.options.shared:
		s.openSite()
	case s.options.kms != Embedded:
		s.makeKeys()
	}
	s.open()
	t.Cleanup(s.stop)
	s.Owner = s.NewOrg("enterprise")
	s.APIKey = s.Owner.APIKey
	return s
}

// Restart stops the server, and its key process, in good order and starts both
// again on the same data and address. The server must be OnDisk, or one of those that
// share a store: then the key process stays.
func (s *Server) Restart() {
	s.t.Helper()
	if s.options.dir == "" && s.site == nil {
		s.t.Fatal("keyfoldtest: Restart would lose the data: start the server with keyfoldtest.OnDisk(t.TempDir())")
	}
	s.stop()
	s.open()
}

// listen takes a port, which stays the server's until the end of the test.
func (s *Server) listen() {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatalf("keyfoldtest: %v", err)
	}
	s.t.Cleanup(func() { ln.Close() })
	s.listener, s.URL = keptListener{ln.(*net.TCPListener)}, "http://"+ln.Addr().String()
}

// keptListener outlives the node that serves it: connections made during a
// Restart wait for the next one.
type keptListener struct{ *net.TCPListener }

// Close only ends the Accept under way.
func (l keptListener) Close() error { return l.SetDeadline(time.Now()) }

// makeKeys makes the key process that the server will call.
func (s *Server) makeKeys() {
	s.t.Helper()
	keys, err := newKeyProcess(s.options, &s.clock)
	if err != nil {
		s.t.Fatalf("keyfoldtest: %v", err)
	}
	s.t.Cleanup(func() { os.RemoveAll(keys.dir) })
	s.keys = keys
}

func (s *Server) open() {
	s.t.Helper()
	cfg := allinone.Config{
		DataDir:     s.options.dir,
		Store:       s.options.stores.server,
		KeyStore:    s.options.stores.keys,
		CORSOrigins: s.options.origins,
		Dashboard:   s.options.dashboard,
		Plain:       s.options.plain,
		Dev:         s.options.dev,
		SignUp:      identity.SignUpOpen,
		Passwords:   password.New(password.Params{Memory: 64, Passes: 1, Lanes: 1}), // quick, and worth nothing elsewhere
		PublicURL:   strings.Replace(s.URL, "127.0.0.1", "localhost", 1),            // passkeys are for names
		Version:     "test",
		Now:         s.clock.now,
		Log:         slog.New(slog.NewJSONHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		WrapKMS:     s.faults.wrap,
	}
	if s.keys != nil {
		if s.site == nil {
			if err := s.keys.open(s.t.Context()); err != nil {
				s.t.Fatalf("keyfoldtest: the key process: %v", err)
			}
		}
		s.keys.configure(&cfg)
	}
	if s.site != nil {
		cfg.Parts = s.parts()
	}
	for _, change := range s.options.configure {
		change(&cfg)
	}
	node, err := allinone.Open(s.t.Context(), cfg)
	if err != nil {
		s.t.Fatalf("keyfoldtest: %v", err)
	}
	if err := s.listener.SetDeadline(time.Time{}); err != nil {
		s.t.Fatalf("keyfoldtest: %v", err)
	}
	served := make(chan error, 1)
	go func() {
		defer close(served)
		served <- node.Serve(s.listener)
	}()
	s.node, s.served, s.dead = node, served, false
}

// stop closes the node. Requests of the test that are still under way get a minute;
// a connection that its client opened and never used takes net/http five seconds.
func (s *Server) stop() {
	if s.dead {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.node.Close(ctx); err != nil {
		s.t.Errorf("keyfoldtest: closing the server: %v", err)
	}
	if err := <-s.served; err != nil {
		s.t.Errorf("keyfoldtest: serving: %v", err)
	}
	if s.keys == nil || s.site != nil {
		return
	}
	if !s.down {
		s.hangUp()
	}
	s.down = false
	if err := s.keys.close(); err != nil {
		s.t.Errorf("keyfoldtest: closing the key process: %v", err)
	}
}

func (s *Server) hangUp() {
	s.t.Helper()
	if err := s.keys.hangUp(); err != nil {
		s.t.Errorf("keyfoldtest: ending the key process: %v", err)
	}
}

// Node returns the parts of the running server. It is for Keyfold's own tests;
// its type is internal and changes without notice.
func (s *Server) Node() *allinone.Node { return s.node }

// Log returns all that the server logged so far, debug lines included, one
// JSON object a line.
func (s *Server) Log() string { return s.log.String() }

// Advance moves the server's clock forward. Between calls it runs as the real
// one does.
func (s *Server) Advance(d time.Duration) { s.clock.advance(d) }

// Now is the server's time.
func (s *Server) Now() time.Time { return s.clock.now() }

// clock is the real clock plus what it was advanced by.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// logBuffer is a log that is read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
