package vault

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest/fresh"
)

// The people and programs of the tests.
var (
	owner    = access.Principal{Kind: access.User, ID: "01900000-0000-7000-8000-000000000001", OrgID: "org-1", Plan: access.Enterprise}
	mate     = access.Principal{Kind: access.User, ID: "01900000-0000-7000-8000-000000000002", OrgID: "org-1", Plan: access.Enterprise}
	stranger = access.Principal{Kind: access.User, ID: "01900000-0000-7000-8000-000000000003", OrgID: "org-2", Plan: access.Enterprise}
	agent    = access.Principal{Kind: access.Agent, ID: "01900000-0000-7000-8000-000000000004", OrgID: "org-1", Plan: access.Enterprise}
	nobody   = access.Principal{}
)

const noVault = "01900000-0000-7000-8000-00000000ffff"

// rig is a Service with all that it stands on.
type rig struct {
	*Service
	t     testing.TB
	mem   store.Store
	hooks *hookStore
	kms   *hookKMS
	asked *accesstest.Gate
	clock atomic.Int64 // nanoseconds since 1970
	log   *bytes.Buffer
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, mem: fresh.Store(t), log: new(bytes.Buffer)}
	r.hooks = &hookStore{Store: r.mem}
	r.kms = &hookKMS{KMS: newKMS(t)}
	r.asked = &accesstest.Gate{Now: r.present}
	r.clock.Store(time.Date(2030, 1, 2, 3, 4, 5, 123456789, time.UTC).UnixNano())
	r.restart()
	return r
}

// restart puts a new Service over the same store and KMS.
func (r *rig) restart() {
	r.Service = New(Config{Store: r.hooks, KMS: r.kms, Gate: r.asked, Now: r.present, Log: slog.New(slog.NewTextHandler(r.log, nil))})
	if err := r.Recover(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) present() time.Time      { return time.Unix(0, r.clock.Load()) }
func (r *rig) advance(d time.Duration) { r.clock.Add(int64(d)) }

// vault makes a vault of owner's.
func (r *rig) vault() string {
	r.t.Helper()
	v, err := r.Create(r.t.Context(), owner, api.CreateVault{Name: "production"})
	if err != nil {
		r.t.Fatal(err)
	}
	return v.ID
}

// sealed makes a vault of owner's with CMEK enabled under a new key.
func (r *rig) sealed() (string, *cmek.Key) {
	r.t.Helper()
	id, key := r.vault(), cmek.Generate()
	if _, err := r.EnableCMEK(r.t.Context(), owner, id, api.EnableCMEK{Fingerprint: key.Fingerprint()}); err != nil {
		r.t.Fatal(err)
	}
	return id, key
}

// put writes as owner and returns the version.
func (r *rig) put(vaultID, path, value string) int {
	r.t.Helper()
	m, err := r.Put(r.t.Context(), owner, vaultID, path, api.PutSecret{Value: &value}, PutOptions{})
	if err != nil {
		r.t.Fatalf("Put(%s): %v", path, err)
	}
	return m.Version
}

func (r *rig) read(vaultID, path string) (Read, error) {
	return r.Read(r.t.Context(), owner, vaultID, path)
}

// wantValue reads the newest version as owner.
func (r *rig) wantValue(vaultID, path, want string) {
	r.t.Helper()
	got, err := r.read(vaultID, path)
	if err != nil {
		r.t.Fatalf("Read(%s): %v", path, err)
	}
	if got.Secret.Value != want {
		r.t.Fatalf("Read(%s) = %q, want %q", path, got.Secret.Value, want)
	}
}

// rows is the whole store: values by key.
func (r *rig) rows() map[string]string {
	r.t.Helper()
	out := map[string]string{}
	for rec, err := range store.All(context.Background(), r.mem, store.Range{}) {
		if err != nil {
			r.t.Fatal(err)
		}
		out[rec.Key] = string(rec.Value)
	}
	return out
}

// set writes a row past the Service, as somebody with the disk could.
func (r *rig) set(key, value string) {
	r.t.Helper()
	b := new(store.Batch)
	b.Put(key, []byte(value))
	if _, err := r.mem.Commit(context.Background(), b); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) unset(key string) {
	r.t.Helper()
	b := new(store.Batch)
	b.Delete(key)
	if _, err := r.mem.Commit(context.Background(), b); err != nil {
		r.t.Fatal(err)
	}
}

// want fails unless err has the code itself, and not only a cause of it.
func want(t testing.TB, what string, err error, code fault.Code) {
	t.Helper()
	if err == nil || fault.Of(err).Code != code {
		t.Errorf("%s: %v, want %s", what, err, code)
		return
	}
	if len(err.Error()) < 12 || strings.Contains(err.Error(), "%!") {
		t.Errorf("%s: the message %q does not help", what, err)
	}
}

// hookStore lets a test stand between two steps, or fail one.
type hookStore struct {
	store.Store
	beforeCommit func(*store.Batch) error // an error fails the commit
	afterCommit  func() error             // an error is answered though the commit took effect
	sawRead      func(key string)         // of a Get or the start of a Scan
}

func (h *hookStore) Under() store.Store { return h.Store }

func (h *hookStore) Get(ctx context.Context, key string) (store.Record, error) {
	if h.sawRead != nil {
		h.sawRead(key)
	}
	return h.Store.Get(ctx, key)
}

func (h *hookStore) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	if h.sawRead != nil {
		h.sawRead(r.Start)
	}
	return h.Store.Scan(ctx, r, opt)
}

func (h *hookStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if h.beforeCommit != nil {
		if err := h.beforeCommit(b); err != nil {
			return 0, err
		}
	}
	rev, err := h.Store.Commit(ctx, b)
	if err == nil && h.afterCommit != nil {
		err = h.afterCommit()
	}
	return rev, err
}

// hookKMS does the same for the KMS, and counts.
type hookKMS struct {
	KMS
	beforeSeal, beforeOpen func() error                                  // an error fails the call
	itemErr                error                                         // fails every item
	answer                 func([]kmsapi.SealResult) []kmsapi.SealResult // changes what Seal answers
	openAnswer             func([]kmsapi.OpenResult) []kmsapi.OpenResult // and Open
	seals, opens           atomic.Int64
}

func (h *hookKMS) Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	h.seals.Add(1)
	if h.beforeSeal != nil {
		if err := h.beforeSeal(); err != nil {
			return nil, err
		}
	}
	if h.itemErr != nil {
		return []kmsapi.SealResult{{Err: h.itemErr}}, nil
	}
	res, err := h.KMS.Seal(ctx, items)
	if h.answer != nil {
		res = h.answer(res)
	}
	return res, err
}

func (h *hookKMS) Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	h.opens.Add(1)
	if h.beforeOpen != nil {
		if err := h.beforeOpen(); err != nil {
			return nil, err
		}
	}
	if h.itemErr != nil {
		return []kmsapi.OpenResult{{Err: h.itemErr}}, nil
	}
	res, err := h.KMS.Open(ctx, items)
	if h.openAnswer != nil {
		res = h.openAnswer(res)
	}
	return res, err
}

// once returns f for its first call and nothing after, so that a hook may call the Service.
func once(f func()) func() error {
	done := false
	return func() error {
		if !done {
			done = true
			f()
		}
		return nil
	}
}

func ptr[T any](v T) *T { return &v }

func failing(err error) func(*store.Batch) error { return func(*store.Batch) error { return err } }
