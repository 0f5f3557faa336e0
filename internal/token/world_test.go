package token

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// world is a Service with its store, KMS, log and clock in the test's hands.
type world struct {
	*Service
	t     testing.TB
	store *fakeStore
	kms   *fakeKMS
	logs  *logs
	clock *atomic.Int64 // nanoseconds since 1970; stands still
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, store: &fakeStore{Store: memstore.New()}, kms: &fakeKMS{}, logs: new(logs), clock: new(atomic.Int64)}
	w.clock.Store(1_790_000_000_123_456_789)
	w.Service = w.another()
	return w
}

// another is a second server on the same store, KMS, log and clock.
func (w *world) another() *Service {
	return New(Config{
		Store: w.store, Box: sealed.New(w.store, w.kms), Now: func() time.Time { return time.Unix(0, w.clock.Load()) },
		Log: slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
}

func (w *world) pass(d time.Duration) { w.clock.Add(int64(d)) }

// rows is every record of the store.
func (w *world) rows() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	for rec, err := range store.All(context.Background(), w.store.Store, store.Range{Start: "\x00"}) {
		if err != nil {
			w.t.Fatal(err)
		}
		all[rec.Key] = string(rec.Value)
	}
	return all
}

// begins counts the rows whose keys begin so.
func (w *world) begins(prefix string) (n int) {
	w.t.Helper()
	for key := range w.rows() {
		if strings.HasPrefix(key, prefix) {
			n++
		}
	}
	return n
}

func (w *world) write(b store.Batch) {
	w.t.Helper()
	if _, err := w.store.Store.Commit(context.Background(), &b); err != nil {
		w.t.Fatal(err)
	}
}

var agent = Claims{
	Kind: access.Agent, ID: "0198aaaa-0000-7000-8000-000000000001", OrgID: "0198bbbb-0000-7000-8000-000000000001",
	Scopes: []string{"prod/**", "a/*"}, Vaults: []string{"0198cccc-0000-7000-8000-000000000001"},
}

// issue returns a token of the agent's for d.
func (w *world) issue(s *Service, d time.Duration) string {
	w.t.Helper()
	c := agent
	c.Expires = s.now().Add(d)
	text, expires, err := s.Issue(context.Background(), c)
	if err != nil || !expires.Equal(c.Expires.Truncate(time.Second)) {
		w.t.Fatal(expires, err)
	}
	return text
}

// lives fails unless s takes the token.
func (w *world) lives(s *Service, text string) Claims {
	w.t.Helper()
	c, err := s.Verify(context.Background(), text)
	if err != nil || c.ID != agent.ID {
		w.t.Fatalf("Verify = %+v, %v", c, err)
	}
	return c
}

// dead fails unless s refuses the token as it refuses every other.
func (w *world) dead(s *Service, text, why string) {
	w.t.Helper()
	if c, err := s.Verify(context.Background(), text); err != errToken || c.ID+c.OrgID != "" {
		w.t.Errorf("%s: Verify = %+v, %v", why, c, err)
	}
}

// fakeStore is a store that can fail and be watched.
type fakeStore struct {
	store.Store
	mu      sync.Mutex
	gets    []string
	commits int
	fail    func(key string) error // of Get, Scan ("scan") and Commit ("commit"); it may do things first
}

func (s *fakeStore) call(name string) error {
	s.mu.Lock()
	if name == "commit" {
		s.commits++
	} else {
		s.gets = append(s.gets, name)
	}
	fail := s.fail
	s.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(name)
}

func (s *fakeStore) Get(ctx context.Context, key string) (store.Record, error) {
	if err := s.call(key); err != nil {
		return store.Record{}, err
	}
	return s.Store.Get(ctx, key)
}

func (s *fakeStore) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	if err := s.call("scan"); err != nil {
		return nil, err
	}
	return s.Store.Scan(ctx, r, opt)
}

func (s *fakeStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if err := s.call("commit"); err != nil {
		return 0, err
	}
	return s.Store.Commit(ctx, b)
}

// fakeKMS is a KMS of one KEK.
type fakeKMS struct {
	mu    sync.Mutex
	kek   *aead.Key
	down  error
	opens int
	deaf  bool   // it opens nothing
	once  func() // runs before the next Open
}

func (k *fakeKMS) CreateKEK(_ context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kek == nil {
		k.kek, _ = aead.NewKey(aead.GenerateRaw())
	}
	return []kmsapi.KEKInfo{{KEKID: ids[0], Version: 1}}, k.down
}

func (k *fakeKMS) Seal(_ context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kek == nil || k.down != nil {
		return []kmsapi.SealResult{{Err: fault.New(fault.NotFound, "there is no KEK of this ID")}}, k.down
	}
	c, err := k.kek.Seal(items[0].Plaintext, items[0].AAD)
	e := kmsapi.Envelope{KEKID: items[0].KEKID, KEKVersion: 1, WrappedDEK: bytes.Repeat([]byte{1}, aead.KeySize+aead.Overhead), Ciphertext: c}
	return []kmsapi.SealResult{{Envelope: e, Err: err}}, nil
}

func (k *fakeKMS) Open(_ context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	k.mu.Lock()
	once := k.once
	k.once = nil
	k.mu.Unlock()
	if once != nil {
		once()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opens++
	if k.down != nil {
		return nil, k.down
	}
	p, err := k.kek.Open(items[0].Envelope.Ciphertext, items[0].AAD)
	if err != nil || k.deaf {
		err = fault.New(fault.Unopenable, "does not open")
	}
	return []kmsapi.OpenResult{{Plaintext: p, Err: err}}, nil
}

func (k *fakeKMS) set(down error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = down
}

type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// every formats v in every way that a log may.
func every(v any) string { return fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v, v) }
