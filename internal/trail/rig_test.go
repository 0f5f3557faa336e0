package trail

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

var t0 = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// world is a store, a KMS and a clock, in which trails come and go.
type world struct {
	t     testing.TB
	store store.Store // what trails that are opened from now on stand on
	mem   *memstore.Store
	kms   *fakeKMS
	clock atomic.Int64
	log   syncBuffer
	gate  accesstest.Gate
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, mem: memstore.New(), kms: newFakeKMS()}
	w.store = w.mem
	w.clock.Store(t0.UnixNano())
	return w
}

func (w *world) now() time.Time                { return time.Unix(0, w.clock.Load()) }
func (w *world) sleep(d time.Duration)         { w.clock.Add(int64(d)) }
func (w *world) box(s store.Store) *sealed.Box { return sealed.New(s, w.kms) }

// open opens a trail that signs only when it is asked to. Its marks are old after
// three seconds.
func (w *world) open(heads ...int) *Trail {
	w.t.Helper()
	c := Config{Store: w.store, Box: w.box(w.store), Now: w.now, Every: -1, Log: slog.New(slog.NewTextHandler(&w.log, nil))}
	if len(heads) > 0 {
		c.Heads = heads[0]
	}
	t, err := Open(w.t.Context(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { t.Close() })
	return t
}

func (w *world) reader(t *Trail) *Reader { return NewReader(t, &w.gate) }

// record records an event of org o and of each action, a millisecond apart.
func (w *world) record(t *Trail, actions ...string) {
	w.t.Helper()
	for _, a := range actions {
		w.sleep(time.Millisecond)
		if err := t.Record(w.t.Context(), event("o", a)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func event(org, action string) access.Event {
	return access.Event{
		OrgID: org, ActorType: "user", ActorID: "ann", Action: action, ResourceType: "secret", ResourceID: "db/password", Outcome: access.Allowed,
		Details: map[string]string{"vault_id": "v1", "path": "db/password"}, Addr: netip.MustParseAddr("192.0.2.1"), RequestID: "r1",
	}
}

func (w *world) checkpoint(t *Trail) {
	w.t.Helper()
	w.sleep(time.Second)
	if err := t.Checkpoint(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// owner may read all of org o.
var owner = access.Principal{Kind: access.User, ID: "ann", OrgID: "o", Role: access.Owner}

// verify verifies all of org o, on the server and from an export.
func (w *world) verify(t *Trail, saved ...api.AuditCheckpoint) (api.AuditVerification, auditcheck.Report) {
	w.t.Helper()
	v, err := w.reader(t).Verify(w.t.Context(), owner, VerifyQuery{Limit: MaxVerify})
	if err != nil {
		w.t.Fatal(err)
	}
	return v, w.verifyExport(t, saved...)
}

func (w *world) verifyExport(t *Trail, saved ...api.AuditCheckpoint) auditcheck.Report {
	w.t.Helper()
	w.sleep(time.Millisecond)
	var b bytes.Buffer
	if err := w.reader(t).Export(w.t.Context(), owner, time.Time{}, time.Time{}, &b); err != nil {
		w.t.Fatal(err)
	}
	keys, err := t.PublicKeys(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := auditcheck.VerifyExport(&b, auditcheck.Options{Keys: keys.Keys, Saved: saved})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// good tests that all of org o verifies, with so many events, of which so many
// are signed.
func (w *world) good(t *Trail, events, signed int) {
	w.t.Helper()
	v, r := w.verify(t)
	if !v.ChainValid || v.EventsChecked != events || v.EventsVerified != events || v.EventsSigned != signed {
		w.t.Errorf("the server says %+v, want %d events and %d signed", v, events, signed)
	}
	if !r.OK() || r.Events != events || r.Verified != events || r.Signed != signed {
		w.t.Errorf("the export is %+v, want %d events and %d signed", r, events, signed)
	}
}

// rows returns the rows under a prefix.
func (w *world) rows(prefix string) []store.Record {
	w.t.Helper()
	recs, err := w.mem.Scan(context.Background(), store.Prefix(prefix), store.ScanOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return recs
}

// write is what somebody who can write to the store does.
func (w *world) write(edit func(*store.Batch)) {
	w.t.Helper()
	var b store.Batch
	edit(&b)
	if _, err := w.mem.Commit(context.Background(), &b); err != nil {
		w.t.Fatal(err)
	}
}

// copy returns a store with the rows of w's, as a crash or a thief finds them.
func (w *world) copy() *memstore.Store {
	w.t.Helper()
	s := memstore.New()
	var b store.Batch
	for _, r := range w.rows("") {
		b.Put(r.Key, r.Value)
	}
	if _, err := s.Commit(context.Background(), &b); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) events(org string) []store.Record { return w.rows(layout.Trail(org)) }

// actions lists the actions of org o, oldest first.
func (w *world) actions(t *Trail) (all []string) {
	w.t.Helper()
	out, err := w.reader(t).List(w.t.Context(), owner, Query{Limit: MaxList})
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range out.Events {
		all = append(all, out.Events[len(out.Events)-1-i].Action)
	}
	return all
}

// faultyStore fails commits as it is told.
type faultyStore struct {
	store.Store
	fail atomic.Int32  // 0: none; 1: no effect; 2: took effect
	open chan struct{} // nil, or commits wait for it
}

var errDisk = errors.New("the disk fails")

func (f *faultyStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if f.open != nil {
		<-f.open
	}
	switch f.fail.Load() {
	case 1:
		return 0, errDisk
	case 2:
		f.Store.Commit(ctx, b)
		return 0, errDisk
	}
	return f.Store.Commit(ctx, b)
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

var _ io.Writer = (*syncBuffer)(nil)

// fakeKMS is a KMS of one KEK.
type fakeKMS struct {
	kek  *aead.Key
	away atomic.Bool
}

func newFakeKMS() *fakeKMS {
	k, err := aead.NewKey(aead.GenerateRaw())
	if err != nil {
		panic(err)
	}
	return &fakeKMS{kek: k}
}

func (k *fakeKMS) CreateKEK(_ context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	return []kmsapi.KEKInfo{{KEKID: ids[0], Version: 1}}, nil
}

var errAway = fault.New(fault.Unavailable, "the KMS is away")

func (k *fakeKMS) Seal(_ context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	if k.away.Load() {
		return nil, errAway
	}
	c, err := k.kek.Seal(items[0].Plaintext, items[0].AAD)
	e := kmsapi.Envelope{KEKID: sealed.KEK, KEKVersion: 1, WrappedDEK: make([]byte, aead.KeySize+aead.Overhead), Ciphertext: c}
	return []kmsapi.SealResult{{Envelope: e, Err: err}}, nil
}

func (k *fakeKMS) Open(_ context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	if k.away.Load() {
		return nil, errAway
	}
	p, err := k.kek.Open(items[0].Envelope.Ciphertext, items[0].AAD)
	if err != nil {
		err = fault.New(fault.Unopenable, "it does not open")
	}
	return []kmsapi.OpenResult{{Plaintext: p, Err: err}}, nil
}
