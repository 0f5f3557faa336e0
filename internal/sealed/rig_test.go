package sealed

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// canary is the beginning of every secret of the tests.
const canary = "canary-7d1f"

// rig is a Box over a store and a real KMS, with the test between them.
type rig struct {
	*Box
	t   testing.TB
	mem store.Store
	kms *hookedKMS
}

func newRig(t testing.TB) *rig {
	t.Helper()
	root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := kms.New(context.Background(), kms.Config{Store: memstore.New(), Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	r := &rig{t: t, mem: memstore.New(), kms: &hookedKMS{Service: k}}
	r.Box = New(r.mem, r.kms)
	return r
}

// put stores canary and the name's ID at n.
func (r *rig) put(n Name) {
	r.t.Helper()
	if err := r.tryPut(n); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryPut(n Name) error {
	return store.Retry(r.t.Context(), func() error {
		var b store.Batch
		if err := r.Put(r.t.Context(), &b, n, []byte(canary+n.ID)); err != nil {
			return err
		}
		_, err := r.mem.Commit(r.t.Context(), &b)
		return err
	})
}

// opens fails unless the row at n opens as put left it.
func (r *rig) opens(n Name) {
	r.t.Helper()
	if value, err := r.Get(r.t.Context(), n); err != nil || string(value) != canary+n.ID {
		r.t.Errorf("%v: %q, %v", n, value, err)
	}
}

// fails tests err, and that it says nothing of a secret.
func (r *rig) fails(what string, err error, code fault.Code) {
	r.t.Helper()
	if !errors.Is(err, code) || strings.Contains(err.Error(), canary) {
		r.t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func (r *rig) row(n Name) store.Record {
	r.t.Helper()
	rec, err := r.mem.Get(r.t.Context(), n.key())
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

func (r *rig) set(key string, value []byte) {
	r.t.Helper()
	var b store.Batch
	b.Put(key, value)
	if _, err := r.mem.Commit(r.t.Context(), &b); err != nil {
		r.t.Fatal(err)
	}
}

// under returns how many rows lie under each version of the KEK.
func (r *rig) under() map[uint32]int {
	r.t.Helper()
	out := map[uint32]int{}
	for rec, err := range store.All(r.t.Context(), r.mem, store.Prefix(layout.AllSealed())) {
		if err != nil {
			r.t.Fatal(err)
		}
		if e, err := parse(rec.Value); err == nil {
			out[e.KEKVersion]++
		}
	}
	return out
}

// rewrap runs a job to its end.
func (r *rig) rewrap(rotate bool) job.Job {
	r.t.Helper()
	runner := r.runner(r.mem)
	defer runner.Close()
	j, err := runner.Start(r.t.Context(), RewrapJob, RewrapArgs{Rotate: rotate})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.await(runner, j.ID)
}

func (r *rig) runner(s store.Store) *job.Runner {
	return job.New(job.Config{Store: s, Kinds: []job.Kind{New(s, r.kms).RewrapKind(r.kms)}, Holder: "test"})
}

func (r *rig) await(runner *job.Runner, id string) job.Job {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	defer cancel()
	j, err := runner.Wait(ctx, id)
	if err != nil {
		r.t.Fatalf("%v: %+v", err, j)
	}
	return j
}

// whole fails unless j did n rows without a failure.
func (r *rig) whole(j job.Job, n int) {
	r.t.Helper()
	if j.Status != job.Completed || j.Failed != 0 || j.Processed != n || j.Total != n {
		r.t.Errorf("the job ended as %+v, want %d rows", j, n)
	}
}

// destroy takes a version of the KEK away; the KMS refuses while it is in use.
func (r *rig) destroy(version uint32) {
	r.t.Helper()
	if err := r.kms.DestroyKEKVersion(r.t.Context(), KEK, version); err != nil {
		r.t.Errorf("version %d cannot be destroyed: %v", version, err)
	}
}

// hookedKMS is a KMS with the test before and after each call.
type hookedKMS struct {
	*kms.Service
	mu     sync.Mutex
	calls  []string
	before func(call string) error
	after  func(call string) error // an error is answered though the call took effect
	seals  func([]kmsapi.SealResult) []kmsapi.SealResult
	opened func([]kmsapi.OpenResult) []kmsapi.OpenResult
	wraps  func([]kmsapi.RewrapResult) []kmsapi.RewrapResult
}

func (k *hookedKMS) count(name string) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.calls {
		if c == name {
			n++
		}
	}
	return n
}

// through calls f between before and after, and changes its answer.
func through[T any](k *hookedKMS, name string, change func(T) T, f func() (T, error)) (out T, err error) {
	k.mu.Lock()
	k.calls = append(k.calls, name)
	k.mu.Unlock()
	if k.before != nil {
		if err := k.before(name); err != nil {
			return out, err
		}
	}
	if out, err = f(); err == nil && k.after != nil {
		err = k.after(name)
	}
	if err == nil && change != nil {
		out = change(out)
	}
	return out, err
}

func (k *hookedKMS) CreateKEK(ctx context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	return through(k, "CreateKEK", nil, func() ([]kmsapi.KEKInfo, error) { return k.Service.CreateKEK(ctx, ids) })
}

func (k *hookedKMS) Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	return through(k, "Seal", k.seals, func() ([]kmsapi.SealResult, error) { return k.Service.Seal(ctx, items) })
}

func (k *hookedKMS) Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	return through(k, "Open", k.opened, func() ([]kmsapi.OpenResult, error) { return k.Service.Open(ctx, items) })
}

func (k *hookedKMS) Rewrap(ctx context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error) {
	return through(k, "Rewrap", k.wraps, func() ([]kmsapi.RewrapResult, error) { return k.Service.Rewrap(ctx, items) })
}

func (k *hookedKMS) RotateKEK(ctx context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error) {
	return through(k, "RotateKEK", nil, func() (kmsapi.Rotated, error) { return k.Service.RotateKEK(ctx, r) })
}

func (k *hookedKMS) ReleaseKEK(ctx context.Context, id string, below uint32) error {
	_, err := through(k, "ReleaseKEK", nil, func() (struct{}, error) { return struct{}{}, k.Service.ReleaseKEK(ctx, id, below) })
	return err
}
