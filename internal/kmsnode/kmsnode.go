// Package kmsnode assembles one key process: its root key, its store, its audit,
// the KMS over them and the server that callers reach.
//
// It owns, beside the files of those packages, their places and the order in
// which they are opened and closed:
//
//	DIR         the key store: KEKs and threads' DEKs, wrapped; or it is in a database
//	DIR.audit   the audit of what was done with keys
//	kms.sock    in the directory that holds DIR: the Unix socket
//	root.key    in the same place: the root key file
//	kms.yaml    in the same place: the configuration
//
// each of which but the first may be told to be somewhere else. It trusts whoever
// can read the root key and DIR together. What the packages below committed
// survives a crash; Open takes up what a crash left half done.
package kmsnode

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/keymetrics"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsbackup"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/metered"
	"github.com/keyfold/keyfold/internal/store/storespec"
	"github.com/keyfold/keyfold/internal/tracing"
)

// Config says what to assemble. Root and either DataDir or all of Store, AuditDir and
// Endpoint are needed.
type Config struct {
	DataDir   string              // of the key store, and beside it what is not told to be elsewhere
	Store     storespec.Spec      // the key store where it is not in DataDir
	Root      keyring.Root        // stays the caller's to wipe, after Close
	AuditDir  string              // "": AuditDir(DataDir)
	Endpoint  string              // see kmsserver.Server.Listen; "": Endpoint(DataDir)
	Callers   []kmsserver.Caller  // see kmsserver.Config
	TLS       *kmsserver.TLSFiles // for an endpoint on TCP
	ImportKEK bool                // see kms.Config
	Memory    []string            // protections of memory that the system does not give, for the status
	Version   string              // of the program, for the status
	Log       *slog.Logger        // nil: nothing is logged
	Tracer    *tracing.Tracer     // nil: there are no traces
	Now       func() time.Time    // nil: time.Now
	OnFailure func(error)         // see storespec.Options
}

func (cfg Config) store() storespec.Spec { return cfg.Store.Or(storespec.InDir(cfg.DataDir)) }

// place is where the key store is, for people.
func (cfg Config) place() string {
	if cfg.Store.IsZero() {
		return cfg.DataDir
	}
	return cfg.Store.String()
}

// flag is what a command takes that is to find the key store.
func (cfg Config) flag() string {
	if cfg.Store.IsZero() {
		return "--data-dir " + cfg.DataDir
	}
	return "--store " + cfg.Store.String()
}

// AuditDir is where the audit of the key store in dataDir is unless told otherwise.
func AuditDir(dataDir string) string { return filepath.Clean(dataDir) + ".audit" }

// Endpoint is where the process of the key store in dataDir listens unless told
// otherwise: a path with a slash in it.
func Endpoint(dataDir string) string { return beside(dataDir, "kms.sock") }

// RootFile is where the root key file of the key store in dataDir is unless told otherwise.
func RootFile(dataDir string) string { return beside(dataDir, "root.key") }

// ConfigFile is where the configuration of that process is unless told otherwise.
func ConfigFile(dataDir string) string { return beside(dataDir, "kms.yaml") }

func beside(dataDir, name string) string {
	dir := filepath.Dir(filepath.Clean(dataDir))
	if dir == "." {
		return "./" + name // a name without a slash is no path to a socket
	}
	return filepath.Join(dir, name)
}

// Node is a running key process.
type Node struct {
	keys   *keys
	server *kmsserver.Server
	status func() kmsapi.Status
	ln     net.Listener
	close  sync.Once
	err    error // of close
}

// Open assembles a Node that listens and does not answer yet. Its errors are for
// the operator and name paths.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	n := new(Node)
	if err := n.open(ctx, withDefaults(cfg)); err != nil {
		return nil, errors.Join(err, n.closeParts())
	}
	return n, nil
}

func withDefaults(cfg Config) Config {
	if cfg.AuditDir == "" {
		cfg.AuditDir = AuditDir(cfg.DataDir)
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = Endpoint(cfg.DataDir)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return cfg
}

// open fills n from the bottom up. On an error n holds what was opened so far.
func (n *Node) open(ctx context.Context, cfg Config) (err error) {
	if err := HasStore(ctx, cfg); err != nil {
		return err
	}
	if n.keys, err = openKeys(ctx, cfg, hasKeys); err != nil {
		return err
	}
	started := cfg.Now()
	n.status = func() kmsapi.Status { return n.keys.status(cfg, started) }
	metrics := n.keys.metrics
	metrics.MustRegister(collector{n.keys}, n.keys.kms.Caches(), keymetrics.New(n.keys.kms, cfg.Now))
	if n.server, err = kmsserver.New(kmsserver.Config{
		KMS: n.keys.kms, Callers: cfg.Callers, Log: cfg.Log, Tracer: cfg.Tracer,
		Status: n.status, Backup: n.keys.backup, Metrics: metrics,
	}); err != nil {
		return err
	}
	n.ln, err = n.server.Listen(cfg.Endpoint, cfg.TLS)
	return err
}

// Status is what callers hear who ask for it.
func (n *Node) Status() kmsapi.Status { return n.status() }

// Serve answers until Close, and then returns nil.
func (n *Node) Serve() error { return n.server.Serve(n.ln) }

// drain is longer than every client of several key processes needs to hear that one is
// about to end (see kmsclient): it asks every 250 ms and waits 500 ms for the answer.
const drain = time.Second

// Drain tells callers that the process is about to end, and returns once those who have
// another key process, on the same store, ask that one. A call that must not be sent
// twice would else be lost where it meets the end of its connection.
func (n *Node) Drain(ctx context.Context) {
	if store.Shared(n.keys.store) {
		n.server.Drain(ctx, drain)
	}
}

// Close stops listening, lets the calls under way finish until ctx is done,
// writes the counts of uses to the audit and closes all. Further calls wait for
// the first and answer as it did.
func (n *Node) Close(ctx context.Context) error {
	n.close.Do(func() { n.err = errors.Join(n.server.Close(ctx), n.closeParts()) })
	return n.err
}

func (n *Node) closeParts() error {
	var err error
	if n.ln != nil {
		_ = n.ln.Close() // closed already, if it was served
	}
	if n.keys != nil {
		err = n.keys.close()
	}
	return err
}

// Vacant is an error unless the key store of cfg can be made: nothing is there, and the
// directory, if it is, is ours.
func Vacant(ctx context.Context, cfg Config) error {
	if err := cfg.store().Vacant(ctx); err != nil {
		return err
	}
	return OursToWrite(cfg)
}

// Init makes the key store of cfg, which must not be there yet, with its audit.
func Init(ctx context.Context, cfg Config) error {
	if err := Vacant(ctx, cfg); err != nil {
		return err
	}
	k, err := openKeys(ctx, withDefaults(cfg), anyStore)
	if err != nil {
		return err
	}
	return k.close()
}

// keys is the KMS with what it stands on.
type keys struct {
	cfg     Config
	store   storespec.Store
	metrics *prometheus.Registry
	audit   *audit.Log
	key     ed25519.PrivateKey // of the audit, which signs with this very slice
	pub     string
	kms     *kms.Service
}

// openKeys opens a store that check takes for one of keys.
func openKeys(ctx context.Context, cfg Config, check func(context.Context, store.Store) error) (*keys, error) {
	k := &keys{cfg: cfg, metrics: prometheus.NewRegistry()}
	k.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := k.open(ctx, check); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

func anyStore(context.Context, store.Store) error { return nil }

func (k *keys) open(ctx context.Context, check func(context.Context, store.Store) error) (err error) {
	if k.store, err = k.cfg.store().Open(ctx, storespec.Options{
		Logger: k.cfg.Log, OnFailure: k.cfg.OnFailure,
		CacheBytes: 24 << 20, MemTableBytes: 4 << 20, // the keys in use are in the KMS's own cache
	}); err != nil {
		return err
	}
	if err := check(ctx, k.store); err != nil {
		return err
	}
	if err := k.openAudit(ctx); err != nil {
		return err
	}
	k.kms, err = kms.New(ctx, kms.Config{Store: metered.New(k.store, k.metrics), Tracer: k.cfg.Tracer, Root: k.cfg.Root, Now: k.cfg.Now, Audit: k.audit, Log: k.cfg.Log, ImportKEK: k.cfg.ImportKEK})
	return err
}

func (k *keys) openAudit(ctx context.Context) error {
	key, err := kms.AuditKey(ctx, k.store, k.cfg.Root, k.cfg.Now())
	if err != nil {
		return err
	}
	k.key, k.pub = key, publicText(key)
	if k.audit, err = audit.Open(k.cfg.AuditDir, key, audit.Options{Now: k.cfg.Now}); err != nil {
		return fmt.Errorf("the audit in %s: %w", k.cfg.AuditDir, err)
	}
	return nil
}

// close closes what was opened, the last first.
func (k *keys) close() error {
	var errs []error
	if k.kms != nil {
		k.kms.Close()
	}
	if k.audit != nil {
		errs = append(errs, k.audit.Close())
	}
	clear(k.key)
	if k.store != nil {
		errs = append(errs, k.store.Close())
	}
	return errors.Join(errs...)
}

func (k *keys) status(cfg Config, started time.Time) kmsapi.Status {
	s := kmsapi.Status{Version: cfg.Version, Started: started.UTC(), Root: cfg.Root.Kind(), Memory: cfg.Memory, AuditKey: k.pub}
	s.AuditSeq, s.AuditHash = k.audit.Head()
	if err := k.audit.Err(); err != nil {
		s.AuditError = err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := cfg.Root.Check(ctx); err != nil {
		s.Locked = err.Error()
	}
	if err := k.kms.CheckStore(context.Background()); err != nil {
		s.Store = err.Error()
	}
	return s
}

// backup writes a backup of this moment to w, once that is in the audit.
func (k *keys) backup(ctx context.Context, w io.Writer) error {
	return k.kms.Audited(ctx, "store.backup", "", nil, func() error {
		view, err := k.store.Snapshot(ctx)
		if err != nil {
			return err
		}
		defer view.Close()
		_, err = kmsbackup.Write(ctx, w, view, k.cfg.Root, k.cfg.Now())
		return err
	})
}
