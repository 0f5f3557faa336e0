package thread

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// The people of the tests.
var (
	nobody   = access.Principal{}
	owner    = access.Principal{Kind: access.User, ID: "0198aaaa-0000-7000-8000-000000000001", OrgID: "org1"}
	mate     = access.Principal{Kind: access.User, ID: "a:b/ü %\"\\", OrgID: "org1"}
	stranger = access.Principal{Kind: access.User, ID: owner.ID, OrgID: "org2"} // same ID, other org
)

// world is a Service with its store and KMS in the test's hands.
type world struct {
	*Service
	store *countingStore
	kms   *twinKMS
	asked *accesstest.Gate
	clock *atomic.Int64 // nanoseconds since 1970; stands still
}

func newWorld(t testing.TB) *world {
	t.Helper()
	mem := memstore.New()
	t.Cleanup(func() { mem.Close() })
	return newWorldOn(mem)
}

func newWorldOn(s store.Store) *world {
	w := &world{store: &countingStore{Store: s}, kms: &twinKMS{keys: map[string]*aead.Key{}}, clock: new(atomic.Int64), asked: new(accesstest.Gate)}
	w.clock.Store(1_790_000_000_000_000_000)
	w.Service = w.another()
	return w
}

// another is a second server on the same store, KMS and clock.
func (w *world) another() *Service {
	return New(Config{Store: w.store, KMS: w.kms, Gate: w.asked, Now: func() time.Time { return time.Unix(0, w.clock.Load()) }, Believe: always})
}

func (w *world) thread(t testing.TB, p access.Principal, title string) api.Thread {
	t.Helper()
	th, err := w.Create(t.Context(), p, api.CreateThread{Title: title})
	if err != nil {
		t.Fatal(err)
	}
	return th
}

func (w *world) post(t testing.TB, p access.Principal, thread string, req api.PostMessage) api.Message {
	t.Helper()
	raw, err := w.Post(t.Context(), p, thread, req)
	if err != nil {
		t.Fatal(err)
	}
	return decodeAs[api.Message](t, raw)
}

// say posts text as a JSON string and returns the message's ID.
func (w *world) say(t testing.TB, thread, text string) string {
	t.Helper()
	return w.post(t, owner, thread, api.PostMessage{Body: quoted(text)}).ID
}

func (w *world) list(t testing.TB, p access.Principal, thread string, q MessageQuery) api.Messages {
	t.Helper()
	raw, err := w.ListMessages(t.Context(), p, thread, q)
	if err != nil {
		t.Fatal(err)
	}
	return decodeAs[api.Messages](t, raw)
}

// dump is every record of the store: key to value and revision.
func (w *world) dump(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for rec, err := range store.All(context.Background(), w.store.Store, store.Range{Start: "\x00"}) {
		if err != nil {
			t.Fatal(err)
		}
		all[rec.Key] = fmt.Sprintf("%d %s", rec.Revision, rec.Value)
	}
	return all
}

// unchanged fails the test when the store is not as before says.
func (w *world) unchanged(t testing.TB, before map[string]string) {
	t.Helper()
	if after := w.dump(t); !maps.Equal(before, after) {
		t.Errorf("the store changed: %d records before, %d after", len(before), len(after))
	}
}

func (w *world) get(t testing.TB, key string) []byte {
	t.Helper()
	rec, err := w.store.Store.Get(context.Background(), key)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return rec.Value
}

// overwrite puts value under key as someone with write access to the store would.
func (w *world) overwrite(t testing.TB, key string, value []byte) {
	t.Helper()
	var b store.Batch
	b.Put(key, value)
	if _, err := w.store.Store.Commit(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
}

// editMeta rewrites the thread's record.
func (w *world) editMeta(t testing.TB, thread string, edit func(*meta)) {
	t.Helper()
	var m meta
	if err := json.Unmarshal(w.get(t, layout.ThreadMeta(thread)), &m); err != nil {
		t.Fatal(err)
	}
	edit(&m)
	value, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	w.overwrite(t, layout.ThreadMeta(thread), value)
}

func decodeAs[T any](t testing.TB, raw []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("not JSON of %T: %v", v, err)
	}
	return v
}

func quoted(text string) json.RawMessage {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return b
}

func ids(msgs []api.Message) []string {
	out := []string{}
	for _, m := range msgs {
		out = append(out, m.ID)
	}
	return out
}

func wantCode(t testing.TB, err error, want fault.Code) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v (%v), want %v", err, fault.Of(err).Code, want)
	}
}

// countingStore counts calls and lets a test come between them.
type countingStore struct {
	store.Store
	gets, scans, scanned, commits atomic.Int64
	beforeCommit, afterCommit     func() error
}

// Shared has all tests run as on one of several servers, where the environment says so.
func (s *countingStore) Shared() bool { return os.Getenv("KEYFOLD_TEST_SHARED") != "" }

func (s *countingStore) Get(ctx context.Context, key string) (store.Record, error) {
	s.gets.Add(1)
	return s.Store.Get(ctx, key)
}

func (s *countingStore) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	s.scans.Add(1)
	recs, err := s.Store.Scan(ctx, r, opt)
	s.scanned.Add(int64(len(recs)))
	return recs, err
}

func (s *countingStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	s.commits.Add(1)
	if s.beforeCommit != nil {
		if err := s.beforeCommit(); err != nil {
			return 0, err
		}
	}
	rev, err := s.Store.Commit(ctx, b)
	if err == nil && s.afterCommit != nil {
		err = s.afterCommit()
	}
	return rev, err
}

func (s *countingStore) reset() {
	s.gets.Store(0)
	s.scans.Store(0)
	s.scanned.Store(0)
	s.commits.Store(0)
}

// twinKMS is a KMS in memory whose keys and failures are in the test's hands.
type twinKMS struct {
	mu    sync.Mutex
	keys  map[string]*aead.Key
	items int // asked of Encrypt and Decrypt
	calls atomic.Int64

	// What the test puts between: fail answers a whole call and refuse one of
	// Encrypt, creating and encrypting change results, before runs first.
	before     func()
	fail       error
	refuse     func([]kmsapi.EncryptItem) error
	creating   func(*kmsapi.CreateDEKResult)
	encrypting func(kmsapi.EncryptItem, *kmsapi.EncryptResult)
	shorten    bool

	rotations, lag uint32 // the primary is 1 + rotations; Rewrap is lag behind
	rewraps        []int  // items of each call of Rewrap
	rewrapping     []kmsapi.RewrapItem
	lost           error // answers the next rotation, which takes effect
	made           int   // keys
	shredded       []string
}

func (k *twinKMS) begin(n int) error {
	k.calls.Add(1)
	if k.before != nil {
		k.before()
	}
	k.mu.Lock()
	k.items += n
	k.mu.Unlock()
	return k.fail
}

func (k *twinKMS) key(id string) (*aead.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key, ok := k.keys[id]; ok {
		return key, nil
	}
	return nil, fault.New(fault.NotFound, "no such key")
}

func (k *twinKMS) make() string {
	key, err := aead.NewKey(aead.GenerateRaw())
	if err != nil {
		panic(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.made++
	id := fmt.Sprintf("key-%d", k.made)
	k.keys[id] = key
	return id
}

func (k *twinKMS) CreateDEK(_ context.Context, items []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error) {
	if err := k.begin(0); err != nil {
		return nil, err
	}
	out := make([]kmsapi.CreateDEKResult, len(items))
	for i := range items {
		out[i].DEK = kmsapi.DEKInfo{KeyID: k.make(), WrappedDEK: []byte("wrapped"), KEKID: kmsapi.ThreadsKEK, KEKVersion: 1 + k.rotations}
		if k.creating != nil {
			k.creating(&out[i])
		}
	}
	return k.cut(out), nil
}

func (k *twinKMS) Encrypt(_ context.Context, items []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error) {
	if err := k.begin(len(items)); err != nil {
		return nil, err
	}
	if k.refuse != nil {
		if err := k.refuse(items); err != nil {
			return nil, err
		}
	}
	out := make([]kmsapi.EncryptResult, len(items))
	for i, it := range items {
		key, err := k.key(it.KeyID)
		if err != nil {
			out[i].Err = err
			continue
		}
		out[i].Ciphertext, out[i].Err = key.Seal(it.Plaintext, it.AAD)
		if k.encrypting != nil {
			k.encrypting(it, &out[i])
		}
	}
	if k.shorten {
		return out[:0], nil
	}
	return out, nil
}

func (k *twinKMS) Decrypt(_ context.Context, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	if err := k.begin(len(items)); err != nil {
		return nil, err
	}
	out := make([]kmsapi.DecryptResult, len(items))
	for i, it := range items {
		key, err := k.key(it.KeyID)
		if err != nil {
			out[i].Err = err
			continue
		}
		if out[i].Plaintext, err = key.Open(it.Ciphertext, it.AAD); err != nil {
			out[i].Err = fault.New(fault.Unopenable, "does not open")
		}
	}
	if k.shorten {
		return out[:len(out)-1], nil
	}
	return out, nil
}

func (k *twinKMS) cut(out []kmsapi.CreateDEKResult) []kmsapi.CreateDEKResult {
	if k.shorten {
		return nil
	}
	return out
}
