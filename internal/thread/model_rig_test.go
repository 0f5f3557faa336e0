package thread

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
	"pgregory.net/rapid"
)

// rig is two servers on one store, and a KMS on another.
type rig struct {
	dir        string // of both stores; "": they outlive the processes
	rows, keys store.Store
	root       *keyring.FileRoot
	kms        *kms.Service
	calls      KMS // the kms as the servers call it
	way        kmsWay
	servers    [2]*Service
	gate       *accesstest.Gate
	clock      atomic.Int64 // of both servers, in nanoseconds since 1970
	encrypts   bool         // the servers do
	believes   bool         // what lies in clear is read
	refused    int          // calls
}

func newRig(t *rapid.T, dir string, rows, keys store.Store) *rig {
	root, err := keyring.MemoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{dir: dir, root: root, gate: new(accesstest.Gate), rows: rows, keys: keys, way: newKMSWay(t)}
	r.clock.Store(1_790_000_000_000_000_000)
	return r
}

// open opens the stores and starts all processes.
func (r *rig) open(t *rapid.T) {
	if r.dir != "" {
		var err, err1 error
		r.rows, err = pebblestore.Open(filepath.Join(r.dir, "server"), pebblestore.Options{CacheBytes: 8 << 20, MemTableBytes: 1 << 20})
		r.keys, err1 = pebblestore.Open(filepath.Join(r.dir, "kms"), pebblestore.Options{CacheBytes: 8 << 20, MemTableBytes: 1 << 20})
		if err != nil || err1 != nil {
			t.Fatal(err, err1)
		}
	}
	r.openKMS(t)
	for i := range r.servers {
		r.servers[i] = r.server()
	}
}

// openKMS starts the key process. It remembers but two keys, so that it reads its
// store often.
func (r *rig) openKMS(t *rapid.T) {
	var err error
	if r.kms, err = kms.New(context.Background(), kms.Config{Store: r.keys, Root: r.root, CacheEntries: 2}); err != nil {
		t.Fatal(err)
	}
	r.calls = r.way.open(t, r.kms)
}

func (r *rig) closeKMS() {
	r.way.close()
	r.kms.Close()
}

func (r *rig) server() *Service {
	s := New(Config{
		Store: r.rows, KMS: r.calls, Gate: r.gate, Known: known, Plain: !r.encrypts, Believe: func(context.Context) (bool, error) { return r.believes, nil },
		Now:       func() time.Time { return time.Unix(0, r.clock.Load()) },
		Encrypted: func(context.Context) error { r.believes = false; return nil },
	})
	s.moveBatch = 2
	return s
}

// shut ends all processes and closes the stores, if they are files.
func (r *rig) shut() (err error) {
	r.closeKMS()
	if r.dir != "" {
		err = r.rows.Close()
		if err1 := r.keys.Close(); err == nil {
			err = err1
		}
	}
	return err
}

// close ends all for good.
func (m *model) close() {
	m.cutOff()
	_ = m.shut() // what the stores hold, settle has looked at
	m.way.remove()
	if m.dir != "" {
		os.RemoveAll(m.dir)
	}
}

// at is one of the servers, a moment later.
func (m *model) at(t *rapid.T) *Service {
	m.clock.Add(int64(time.Millisecond))
	return m.servers[between(t, "server", 0, 1)]
}

// wait lets some time pass.
func (m *model) wait(t *rapid.T) {
	m.clock.Add(rapid.Int64Range(0, int64(2*countAge)).Draw(t, "time"))
}

// waitDays lets much time pass; those who follow were not behind.
func (m *model) waitDays(t *rapid.T) {
	for _, f := range slices.Clone(m.follows) {
		m.hearOne(t, f)
	}
	m.clock.Add(rapid.Int64Range(1, 5).Draw(t, "days") * int64(day))
}

// restart ends one process, or all, and starts it again.
func (m *model) restart(t *rapid.T) {
	switch what := pick(t, "process", []string{"server", "kms", "all", "other setting"}); what {
	case "server":
		i := between(t, "server", 0, 1)
		m.cutOff(m.servers[i])
		m.servers[i] = m.server()
	case "kms":
		m.closeKMS()
		m.openKMS(t)
		for _, s := range m.servers {
			s.kms = m.calls
		}
	case "other setting":
		m.encrypts = !m.encrypts
		m.believes = m.believes || !m.encrypts
		m.restartAll(t)
		if id := m.under(t, EncryptJob); id != "" && !m.encrypts {
			m.step(t, id) // which ends it
		}
	default:
		m.restartAll(t)
	}
}

func (m *model) restartAll(t *rapid.T) {
	m.cutOff()
	if err := m.shut(); err != nil {
		t.Fatal(err)
	}
	m.rig.open(t)
}

// known tells who is a user or an agent.
func known(_ context.Context, org string, kind access.Kind, id string) error {
	for _, p := range people {
		if p.OrgID == org && p.Kind == kind && p.ID == id {
			return nil
		}
	}
	return fault.New(fault.NotFound, "nobody")
}
