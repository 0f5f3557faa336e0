package keyfoldtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// Where the key process is. The default is what the environment variable
// KEYFOLD_TEST_KMS says, or Embedded.
const (
	Embedded = "embedded" // inside the server
	Socket   = "socket"   // beside it, behind a Unix socket
	MTLS     = "mtls"     // beside it, behind TCP with mutual TLS
)

// KMS puts the key process where the test wants it: Embedded, Socket or MTLS. The
// server reaches the latter two as it would reach another process or machine.
func KMS(where string) Option { return func(o *options) { o.kms = where } }

// keyProcess is a KMS beside the server, in the process of the test.
type keyProcess struct {
	options options
	clock   *clock
	dir     string // of sockets and certificates

	store    store.Store
	root     *keyring.FileRoot
	service  *kms.Service
	server   *kmsserver.Server
	endpoint string
	files    *kmsserver.TLSFiles // nil on a socket
	served   chan error
}

// newKeyProcess makes what the process needs to listen; it does not run yet.
func newKeyProcess(o options, clock *clock) (p *keyProcess, err error) {
	p = &keyProcess{options: o, clock: clock, endpoint: "127.0.0.1:0"}
	if p.dir, err = os.MkdirTemp("", "kf"); err != nil { // short: the path of a socket may not be long
		return nil, err
	}
	switch o.kms {
	case Embedded: // for several servers of the test's process, and it listens nowhere
	case Socket:
		p.endpoint = filepath.Join(p.dir, "kms.sock")
	case MTLS:
		p.files = &kmsserver.TLSFiles{Cert: p.file("server.crt"), Key: p.file("server.key"), CA: p.file("ca.crt")}
		err = kmsserver.MakeTLS(p.dir)
	default:
		err = fmt.Errorf("no key process is %q: Embedded, Socket or MTLS", o.kms)
	}
	return p, err
}

func (p *keyProcess) file(name string) string { return filepath.Join(p.dir, name) }

// configure tells a server how to reach the process.
func (p *keyProcess) configure(cfg *allinone.Config) {
	if p.options.kms == Embedded {
		return
	}
	if p.files == nil {
		cfg.KMSURL = "unix://" + p.endpoint
		return
	}
	cfg.KMSURL = "https://" + p.endpoint
	cfg.KMSTLS = allinone.TLSFiles{Cert: p.file("keyfold-server.crt"), Key: p.file("keyfold-server.key"), CA: p.file("ca.crt")}
}

// open opens the keys, in memory or where "keyfold dev" has them, and listens.
func (p *keyProcess) open(ctx context.Context) (err error) {
	if err := p.openStore(ctx); err != nil {
		return err
	}
	p.service, err = kms.New(ctx, kms.Config{Store: p.store, Root: p.root, Now: p.clock.now, ImportKEK: p.options.dev})
	if err != nil {
		return err
	}
	if p.options.kms == Embedded {
		return nil
	}
	return p.listen()
}

// end is close, after hangUp where it listens.
func (p *keyProcess) end() error {
	var err error
	if p.server != nil {
		err = p.hangUp()
	}
	return errors.Join(err, p.close())
}

func (p *keyProcess) openStore(ctx context.Context) (err error) {
	dir := p.options.dir
	if p.store, err = p.newStore(ctx); err != nil {
		return err
	}
	if dir == "" {
		p.root, err = keyring.MemoryRoot()
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, "root.key")
	if p.root, err = keyring.OpenFileRoot(path); errors.Is(err, os.ErrNotExist) {
		p.root, err = keyring.CreateFileRoot(path)
	}
	return err
}

// newStore opens the keys where keyfold dev has them, or in memory.
func (p *keyProcess) newStore(ctx context.Context) (store.Store, error) {
	at := p.options.stores.keys
	if p.options.dir != "" {
		at = at.Or(storespec.InDir(filepath.Join(p.options.dir, "kms")))
	}
	if at.IsZero() {
		return memstore.New(), nil
	}
	return at.Open(ctx, storespec.Options{})
}

// listen begins to answer. The second time it does so where it did before.
func (p *keyProcess) listen() (err error) {
	own := uint32(os.Geteuid())
	callers := []kmsserver.Caller{{UID: &own, Roles: kmsserver.Crypto | kmsserver.Admin}}
	if p.files != nil {
		callers = []kmsserver.Caller{{Name: "keyfold-server", Roles: kmsserver.Crypto | kmsserver.Admin}}
	}
	if p.server, err = kmsserver.New(kmsserver.Config{KMS: p.service, Callers: callers}); err != nil {
		return err
	}
	ln, err := p.server.Listen(p.endpoint, p.files)
	if err != nil {
		return err
	}
	if p.files != nil {
		p.endpoint = ln.Addr().String()
	}
	p.served = make(chan error, 1)
	go func(s *kmsserver.Server) { p.served <- s.Serve(ln) }(p.server)
	return nil
}

// hangUp ends the listener and all connections, as the end of a process does.
func (p *keyProcess) hangUp() error {
	over, cancel := context.WithCancel(context.Background())
	cancel() // calls under way are cut off
	err := p.server.Close(over)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, <-p.served)
}

// close ends all but the directory.
func (p *keyProcess) close() error {
	p.service.Close()
	p.root.Wipe()
	return p.store.Close()
}
