package rotation

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/vault"
)

// restarting is a KMS that is killed at one commit of its store and started
// again, while the server lives on. The killed one reaches the store no more.
// Its calls come one after the other.
type restarting struct {
	vault.KMS // nil: for the calls of CMEK rotations, which nobody makes here

	t    *testing.T
	root keyring.Root
	rows store.Store // what survives
	kms  *kms.Service
	old  []*kms.Service // all lives, to be closed

	mu      sync.Mutex
	at      int // the commit of the next kill; 0: none
	takes   bool
	commits int
}

// life is the store of one life of the KMS.
type life struct {
	store.Store
	of *restarting

	mu   sync.Mutex
	over bool
}

func (l *life) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return 0, store.ErrClosed
	}
	if l.over = l.of.hit(); l.over && !l.of.takes {
		return 0, store.ErrClosed
	}
	rev, err := l.Store.Commit(ctx, b)
	if l.over {
		err = store.ErrClosed
	}
	return rev, err
}

func (l *life) Get(ctx context.Context, key string) (store.Record, error) {
	if l.isOver() {
		return store.Record{}, store.ErrClosed
	}
	return l.Store.Get(ctx, key)
}

func (l *life) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	if l.isOver() {
		return nil, store.ErrClosed
	}
	return l.Store.Scan(ctx, r, opt)
}

func (l *life) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// hit counts a commit and reports whether it is the one.
func (r *restarting) hit() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commits++
	return r.commits == r.at
}

// start begins another life.
func (r *restarting) start() {
	k, err := kms.New(context.Background(), kms.Config{Store: &life{Store: r.rows, of: r}, Root: r.root, Holder: "kms"})
	if err != nil {
		r.t.Error(err)
		return
	}
	r.old = append(r.old, k)
	r.kms = k
}

// through makes one call of the KMS; after one that kills it, it is started
// again.
func through[T any](ctx context.Context, r *restarting, do func(*kms.Service) (T, error)) (T, error) {
	out, err := do(r.kms)
	r.living(ctx)
	return out, err
}

// living returns the KMS, started again if it was killed.
func (r *restarting) living(ctx context.Context) *kms.Service {
	if r.kms.Check(ctx) != nil {
		r.start()
	}
	return r.kms
}

func (r *restarting) CreateKEK(ctx context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	return through(ctx, r, func(k *kms.Service) ([]kmsapi.KEKInfo, error) { return k.CreateKEK(ctx, ids) })
}

func (r *restarting) Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	return through(ctx, r, func(k *kms.Service) ([]kmsapi.SealResult, error) { return k.Seal(ctx, items) })
}

func (r *restarting) Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	return through(ctx, r, func(k *kms.Service) ([]kmsapi.OpenResult, error) { return k.Open(ctx, items) })
}

func (r *restarting) CreateDEK(ctx context.Context, items []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error) {
	return through(ctx, r, func(k *kms.Service) ([]kmsapi.CreateDEKResult, error) { return k.CreateDEK(ctx, items) })
}

func (r *restarting) Encrypt(ctx context.Context, items []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error) {
	return through(ctx, r, func(k *kms.Service) ([]kmsapi.EncryptResult, error) { return k.Encrypt(ctx, items) })
}

func (r *restarting) Decrypt(ctx context.Context, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	return through(ctx, r, func(k *kms.Service) ([]kmsapi.DecryptResult, error) { return k.Decrypt(ctx, items) })
}

func (r *restarting) Rewrap(ctx context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error) {
	return through(ctx, r, func(k *kms.Service) ([]kmsapi.RewrapResult, error) { return k.Rewrap(ctx, items) })
}

func (r *restarting) RotateKEK(ctx context.Context, q kmsapi.Rotate) (kmsapi.Rotated, error) {
	return through(ctx, r, func(k *kms.Service) (kmsapi.Rotated, error) { return k.RotateKEK(ctx, q) })
}

func (r *restarting) ImportKEK(ctx context.Context, raw []byte) (kmsapi.Rotated, error) {
	return through(ctx, r, func(k *kms.Service) (kmsapi.Rotated, error) { return k.ImportKEK(ctx, raw) })
}

func (r *restarting) ReleaseKEK(ctx context.Context, kekID string, below uint32) error {
	_, err := through(ctx, r, func(k *kms.Service) (struct{}, error) { return struct{}{}, k.ReleaseKEK(ctx, kekID, below) })
	return err
}

func (r *restarting) ShredDEK(ctx context.Context, keyID string) error {
	_, err := through(ctx, r, func(k *kms.Service) (struct{}, error) { return struct{}{}, k.ShredDEK(ctx, keyID) })
	return err
}

// TestAKMSKilledAloneAtAnyCommitOfARotationLosesNothing lets the server's jobs
// go on while the KMS comes back.
func TestAKMSKilledAloneAtAnyCommitOfARotationLosesNothing(t *testing.T) {
	n := size{vaults: 2, versions: 2, threads: 3, messages: 2}
	at := 1
	for more := true; more; at++ {
		for _, takes := range []bool{false, true} {
			more = killKMS(t, n, at, takes)
			if t.Failed() {
				t.Fatalf("killed at commit %d, which took effect: %v", at, takes)
			}
		}
	}
	if at < 10 {
		t.Errorf("a rotation had %d commits of the KMS's store", at-2)
	}
}

func killKMS(t *testing.T, n size, at int, takes bool) (killed bool) {
	t.Helper()
	root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	r := &restarting{t: t, root: root, rows: memstore.New(), takes: takes}
	r.start()
	s := &site{rows: memstore.New(), keys: r.rows, root: root}
	if err := s.serve(r, true); err != nil {
		t.Fatal(err)
	}
	s.fill(t, n)
	r.mu.Lock()
	r.at = r.commits + at
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, kind := range kinds {
		if err := s.start(ctx, kind); err != nil {
			t.Error(err)
		}
	}
	for tries := 0; ; tries++ { // the kill may come in the work of the KMS's own job
		s.kms = r.living(ctx)
		if err := s.awaitKMS(ctx); err == nil {
			break
		} else if tries > 0 {
			t.Fatal(err)
		}
	}
	r.mu.Lock()
	killed = r.commits >= r.at
	r.at = 0
	r.mu.Unlock()
	s.readable(t, n)
	s.under(t, 2)
	s.destroy(t, 1)
	s.readable(t, n)
	for _, k := range r.old {
		k.Close()
	}
	s.close(t)
	return killed
}
