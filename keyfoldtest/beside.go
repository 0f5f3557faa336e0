package keyfoldtest

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// Shared starts a server whose store others may have open, too: see Beside.
func Shared() Option { return func(o *options) { o.shared = true } }

// Configure changes what a server is made of, last of all. It is for Keyfold's own
// tests; its type is internal and changes without notice.
func Configure(change func(*allinone.Config)) Option {
	return func(o *options) { o.configure = append(o.configure, change) }
}

// Beside starts one more server over the store and the key process of first, which
// was started with Shared. It has a URL, a clock, a log and faults of its own, and
// the options of first and then opts. Neither knows of the other but by the store.
// Owner and APIKey are those of first.
func Beside(t testing.TB, first *Server, opts ...Option) *Server {
	t.Helper()
	if first.site == nil {
		t.Fatal("keyfoldtest: start the first server with keyfoldtest.Shared()")
	}
	s := &Server{t: t, options: first.options, site: first.site, keys: first.keys, users: first.users, Owner: first.Owner, APIKey: first.APIKey}
	for _, opt := range opts {
		opt(&s.options)
	}
	s.listen()
	s.open()
	t.Cleanup(s.stop)
	return s
}

// Kill ends a server that was started with Shared or Beside as the end of its process
// does: its connections end, and from now on nothing of it reaches the store or the key
// process. Leases that it holds are left to run out. Restart starts it anew.
func (s *Server) Kill() {
	s.t.Helper()
	if s.view == nil {
		s.t.Fatal("keyfoldtest: Kill is for servers that were started with keyfoldtest.Shared() or Beside")
	}
	s.view.kill()
	s.faults.down.Store(true)
	s.dead = true
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.node.Close(over) // it fails to say goodbye
	<-s.served
}

// Pause stops a server that was started with Shared or Beside at its next call of the
// store, as SIGSTOP does, until resume is called: then all goes on as if no time had
// passed. Its key process answers meanwhile.
func (s *Server) Pause() (resume func()) {
	s.t.Helper()
	if s.view == nil {
		s.t.Fatal("keyfoldtest: Pause is for servers that were started with keyfoldtest.Shared() or Beside")
	}
	s.view.mu.Lock()
	return sync.OnceFunc(s.view.mu.Unlock)
}

// site is what servers share.
type site struct{ store store.Store }

// openSite opens the store that servers share, and the key process where it is inside
// of each of them.
func (s *Server) openSite() {
	s.t.Helper()
	s.site = &site{memstore.New()}
	if s.options.dir != "" {
		st, err := pebblestore.Open(filepath.Join(s.options.dir, "server"), pebblestore.Options{})
		if err != nil {
			s.t.Fatalf("keyfoldtest: %v", err)
		}
		s.site.store = st
	}
	s.t.Cleanup(func() {
		if err := s.site.store.Close(); err != nil {
			s.t.Errorf("keyfoldtest: closing the store: %v", err)
		}
	})
	s.makeKeys()
	if err := s.keys.open(s.t.Context()); err != nil {
		s.t.Fatalf("keyfoldtest: the key process: %v", err)
	}
	s.t.Cleanup(func() {
		if err := s.keys.end(); err != nil {
			s.t.Errorf("keyfoldtest: closing the key process: %v", err)
		}
	})
}

// parts are those of the site, seen by one server.
func (s *Server) parts() allinone.Parts {
	s.view = &view{Store: s.site.store}
	s.faults.down.Store(false)
	var keys *kms.Service
	if s.options.kms == Embedded {
		keys = s.keys.service
	}
	if files, ok := s.site.store.(store.Scrubber); ok {
		return allinone.Parts{Store: scrubView{s.view, files}, KMS: keys}
	}
	return allinone.Parts{Store: s.view, KMS: keys}
}

// view is the store as one server has it, until it is killed.
type view struct {
	store.Store
	mu   sync.RWMutex // calls under way read-hold it; it is held while the server is paused
	dead bool
}

// scrubView is a view of a store that scrubs.
type scrubView struct {
	*view
	files store.Scrubber
}

var errKilled = errors.New("keyfoldtest: the server was killed")

// Shared says that there may be other servers.
func (v *view) Shared() bool { return true }

func (v *view) kill() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dead = true
}

// enter begins a call, which ends with v.mu.RUnlock unless there is an error.
func (v *view) enter() error {
	v.mu.RLock()
	if v.dead {
		v.mu.RUnlock()
		return errors.Join(store.ErrClosed, errKilled)
	}
	return nil
}

func (v *view) Get(ctx context.Context, key string) (store.Record, error) {
	if err := v.enter(); err != nil {
		return store.Record{}, err
	}
	defer v.mu.RUnlock()
	return v.Store.Get(ctx, key)
}

func (v *view) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	if err := v.enter(); err != nil {
		return nil, err
	}
	defer v.mu.RUnlock()
	return v.Store.Scan(ctx, r, opt)
}

func (v *view) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if err := v.enter(); err != nil {
		return 0, err
	}
	defer v.mu.RUnlock()
	return v.Store.Commit(ctx, b)
}

func (v *view) Close() error { return nil }

func (v scrubView) Scrub(ctx context.Context, state string) (string, error) {
	if err := v.enter(); err != nil {
		return "", err
	}
	defer v.mu.RUnlock()
	return v.files.Scrub(ctx, state)
}
