// Package kmsserver is the HTTP face of the key process: the table of its
// routes, who may call which, and the listeners that know who calls.
//
// Callers are known by their connection: on a Unix socket by the UID that the
// kernel vouches for, on TCP by the name in a client certificate that the
// operator's CA signed. Nothing that a request says changes who it is from. A
// caller who is not in the list is answered 403 and nothing else.
//
// It trusts the kernel's UIDs, the CA, and package kms with all that concerns
// keys. Of a listed caller it trusts nothing: bodies, counts, time and
// connections are bounded, each caller's apart, so that none takes another's.
// Plaintexts and customers' keys are wiped when they were answered; what net/http and TLS buffer of
// them is not ours to wipe.
//
// It keeps nothing but its sockets. A crash leaves a dead one behind, which the
// next start replaces.
package kmsserver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/tracing"
)

// KMS is what the routes call: kms.Service, but for a test. Errors are
// *fault.Error. It must not keep items or what they hold, customers' keys and
// ImportKEK's raw key included, and Decrypt's and Open's plaintexts are the
// caller's to wipe.
type KMS interface {
	CreateKEK(ctx context.Context, ids []string) ([]kmsapi.KEKInfo, error)
	CreateDEK(ctx context.Context, items []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error)
	Encrypt(ctx context.Context, items []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error)
	Decrypt(ctx context.Context, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error)
	Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error)
	Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error)
	Rewrap(ctx context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error)
	GetWrapped(ctx context.Context, keyID string) ([]byte, error)

	CMEKRotationKey(ctx context.Context, owner string) (kmsapi.CMEKRotationKey, error)
	OpenCMEKRotation(ctx context.Context, o kmsapi.OpenCMEKRotation) (session string, err error)
	CMEKRotationAlive(ctx context.Context, session string) (bool, error)
	CloseCMEKRotation(ctx context.Context, session string) error
	Reencrypt(ctx context.Context, session string, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error)

	CMEKKeys

	ListKEKs(ctx context.Context, q kmsapi.ListQuery) (kmsapi.KEKList, error)
	ListDEKs(ctx context.Context, keyIDs []string) (kmsapi.DEKList, error)
	RotateKEK(ctx context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error)
	ImportKEK(ctx context.Context, raw []byte) (kmsapi.Rotated, error)
	ReleaseKEK(ctx context.Context, kekID string, below uint32) error
	DestroyKEKVersion(ctx context.Context, kekID string, version uint32) error
	ShredDEK(ctx context.Context, keyID string) error
	Keys(ctx context.Context, q kmsapi.KeysQuery) (kmsapi.Keys, error)
	Jobs(ctx context.Context) ([]kmsapi.Job, error)
	Job(ctx context.Context, id string) (kmsapi.Job, error)
	CancelJob(ctx context.Context, id string) error
	ExportBreakGlass(ctx context.Context) ([]byte, error)
	Check(ctx context.Context) error
}

// Config is what a Server stands on.
type Config struct {
	KMS     KMS
	Callers []Caller // empty: this process's own UID, in every role
	Status  func() kmsapi.Status
	// Backup writes a backup of the key store, consistent at one moment. nil: the
	// route answers 404.
	Backup func(ctx context.Context, w io.Writer) error
	// Metrics is what GET /metrics shows; New adds its own metrics to it, and
	// others may add theirs. It serves one Server. nil: a fresh one.
	Metrics *prometheus.Registry
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: nothing is logged
	Tracer  *tracing.Tracer  // nil: there are no traces
}

// Server answers the callers of a KMS.
type Server struct {
	cfg     Config
	callers callers
	mux     *httpx.Mux
	conns   *conns
	metrics *metrics
	refused refusals
	log     *slog.Logger
	http    *http.Server
	closing atomic.Bool
}

// New checks cfg.Callers and builds a Server, which listens nowhere yet.
func New(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if len(cfg.Callers) == 0 {
		own := uint32(os.Geteuid())
		cfg.Callers = []Caller{{UID: &own, Roles: Crypto | Admin | CMEK}}
	}
	callers, err := newCallers(cfg.Callers)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, callers: callers, conns: newConns(maxFresh, maxKnown), log: cfg.Log}
	s.metrics = newMetrics(cfg.Metrics, s.conns)
	s.mux = httpx.New(httpx.Config{
		Rows:          s.rows(),
		Caller:        s.caller,
		Problem:       kmsapi.AppendError,
		Observe:       s.metrics.observe,
		CallerBudgets: true,
		Log:           cfg.Log,
		Tracer:        cfg.Tracer.Joining(),
	})
	s.http = s.newHTTP()
	return s, nil
}

// newHTTP bounds the parts of a connection's life that no row bounds.
func (s *Server) newHTTP() *http.Server {
	return &http.Server{
		Handler:                      s.mux,
		ReadHeaderTimeout:            5 * time.Second, // and of the TLS handshake
		WriteTimeout:                 3 * time.Minute, // from the end of the head: body, work and answer
		IdleTimeout:                  2 * time.Minute,
		MaxHeaderBytes:               16 << 10,
		DisableGeneralOptionsHandler: true,
		ConnContext:                  withConn,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// Serve answers connections of ln, which Listen made, until Close, and then
// returns nil. It may be called for several listeners.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Drain lets /readyz answer that the process is closing, so that its callers go to
// another; all else goes on. It returns after d, or when ctx is done.
func (s *Server) Drain(ctx context.Context, d time.Duration) {
	s.closing.Store(true)
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Close stops listening and lets the calls under way finish until ctx is done;
// the rest is cut off.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Store(true)
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	return err
}

type connKey struct{}

// withConn keeps a connection where its calls find it.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}
