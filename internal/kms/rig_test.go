package kms

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest/fresh"
)

var (
	ctx = context.Background()
	day = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
)

// rig is a store and a root, over which services come and go.
type rig struct {
	testing.TB
	store    store.Store
	root     keyring.Root
	rootPath string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.key")
	root, err := keyring.CreateFileRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{TB: t, store: fresh.Store(t), root: root, rootPath: path}
}

// start opens a Service; one that is dropped without Close has crashed.
func (r *rig) start(change ...func(*Config)) *Service {
	r.Helper()
	s, err := r.tryStart(change...)
	r.must(err)
	return s
}

func (r *rig) tryStart(change ...func(*Config)) (*Service, error) {
	cfg := Config{Store: r.store, Root: r.root, Now: func() time.Time { return day }}
	for _, c := range change {
		c(&cfg)
	}
	return New(ctx, cfg)
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) get(key string) store.Record {
	r.Helper()
	rec, err := r.store.Get(ctx, key)
	r.must(err)
	return rec
}

func (r *rig) put(key string, value []byte) {
	r.Helper()
	var b store.Batch
	b.Put(key, value)
	_, err := r.store.Commit(ctx, &b)
	r.must(err)
}

// dump is every record of the store.
func (r *rig) dump() map[string]string {
	r.Helper()
	all := map[string]string{}
	for rec, err := range store.All(ctx, r.store, store.Range{}) {
		r.must(err)
		all[rec.Key] = string(rec.Value)
	}
	return all
}

func (r *rig) createKEK(s *Service, ids ...string) []kmsapi.KEKInfo {
	r.Helper()
	infos, err := s.CreateKEK(ctx, ids)
	r.must(err)
	return infos
}

func (r *rig) createDEK(s *Service, thread string) kmsapi.DEKInfo {
	r.Helper()
	dek, err := createDEKOne(s, thread)
	r.must(err)
	return dek
}

func createDEKOne(s *Service, thread string) (kmsapi.DEKInfo, error) {
	out, err := s.CreateDEK(ctx, []kmsapi.CreateDEKItem{{ThreadID: thread}})
	if err != nil {
		return kmsapi.DEKInfo{}, err
	}
	return out[0].DEK, out[0].Err
}

func (r *rig) encrypt(s *Service, keyID, plaintext, aad string) []byte {
	r.Helper()
	ciphertext, err := encryptOne(s, keyID, plaintext, aad)
	r.must(err)
	return ciphertext
}

func encryptOne(s *Service, keyID, plaintext, aad string) ([]byte, error) {
	out, err := s.Encrypt(ctx, []kmsapi.EncryptItem{{KeyID: keyID, Plaintext: []byte(plaintext), AAD: []byte(aad)}})
	if err != nil {
		return nil, err
	}
	return out[0].Ciphertext, out[0].Err
}

func decryptOne(s *Service, keyID string, ciphertext []byte, aad string) (string, error) {
	out, err := s.Decrypt(ctx, []kmsapi.DecryptItem{{KeyID: keyID, Ciphertext: ciphertext, AAD: []byte(aad)}})
	if err != nil {
		return "", err
	}
	return string(out[0].Plaintext), out[0].Err
}

func (r *rig) mustDecrypt(s *Service, keyID string, ciphertext []byte, aad, want string) {
	r.Helper()
	if got, err := decryptOne(s, keyID, ciphertext, aad); err != nil || got != want {
		r.Errorf("%s does not decrypt its own: %q, %v", keyID, got, err)
	}
}

func (r *rig) mustNotDecrypt(s *Service, keyID string, ciphertext []byte, aad string, code fault.Code) {
	r.Helper()
	if got, err := decryptOne(s, keyID, ciphertext, aad); got != "" || !errors.Is(err, code) {
		r.Errorf("Decrypt under %s: %q, %v; want %s", keyID, got, err, code)
	}
}

func (r *rig) seal(s *Service, kekID, plaintext, aad string) kmsapi.Envelope {
	r.Helper()
	e, err := sealOne(s, kekID, plaintext, aad)
	r.must(err)
	return e
}

func sealOne(s *Service, kekID, plaintext, aad string) (kmsapi.Envelope, error) {
	out, err := s.Seal(ctx, []kmsapi.SealItem{{KEKID: kekID, Plaintext: []byte(plaintext), AAD: []byte(aad)}})
	if err != nil {
		return kmsapi.Envelope{}, err
	}
	return out[0].Envelope, out[0].Err
}

func openOne(s *Service, e kmsapi.Envelope, aad string) (string, error) {
	out, err := s.Open(ctx, []kmsapi.OpenItem{{Envelope: e, AAD: []byte(aad)}})
	if err != nil {
		return "", err
	}
	return string(out[0].Plaintext), out[0].Err
}

func (r *rig) mustOpen(s *Service, e kmsapi.Envelope, aad, want string) {
	r.Helper()
	if got, err := openOne(s, e, aad); err != nil || got != want {
		r.Errorf("the envelope does not open: %q, %v", got, err)
	}
}

func (r *rig) mustNotOpen(s *Service, e kmsapi.Envelope, aad string, code fault.Code) {
	r.Helper()
	if got, err := openOne(s, e, aad); got != "" || !errors.Is(err, code) {
		r.Errorf("Open: %q, %v; want %s", got, err, code)
	}
}

// record reads the row of a DEK.
func (r *rig) record(keyID string) record {
	r.Helper()
	rec, err := parseRow(r.get(layout.DEK(keyID)).Value)
	r.must(err)
	return rec
}

// rawDEK returns the raw key that lies under keyID.
func (r *rig) rawDEK(s *Service, keyID string) []byte {
	r.Helper()
	ring, err := s.kek(ctx, kmsapi.ThreadsKEK)
	r.must(err)
	defer s.keks.release(ring)
	rec := r.record(keyID)
	raw, err := ring.key.Unwrap(rec.KEKVersion, rec.Wrapped, dekAAD(keyID, rec.ThreadID))
	r.must(err)
	return raw
}

// forge writes a row for keyID that holds raw and is in order otherwise.
func (r *rig) forge(s *Service, keyID string, raw []byte, change func(*record)) {
	r.Helper()
	ring, err := s.kek(ctx, kmsapi.ThreadsKEK)
	r.must(err)
	defer s.keks.release(ring)
	rec := record{ThreadID: "t", KEKID: kmsapi.ThreadsKEK, Version: 1, Created: day}
	rec.Wrapped, rec.KEKVersion, err = ring.key.Wrap(raw, dekAAD(keyID, rec.ThreadID))
	r.must(err)
	change(&rec)
	row, err := rec.marshal(newKey(r, raw), keyID)
	r.must(err)
	r.put(layout.DEK(keyID), row)
}

// eachFlip calls f with b changed in one bit, for every bit, and cut short at
// every length.
func eachFlip(b []byte, f func(bad []byte)) {
	for i := range b {
		for bit := range 8 {
			bad := bytes.Clone(b)
			bad[i] ^= 1 << bit
			f(bad)
		}
		f(b[:i])
	}
	f(append(bytes.Clone(b), 0))
}

// together runs f n times at once, and reports what fails.
func (r *rig) together(n int, f func(i int) error) {
	r.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := f(i); err != nil {
				r.Error(err)
			}
		})
	}
	wg.Wait()
}

// faultyStore fails commits, and counts those that it lets through.
type faultyStore struct {
	store.Store
	mu      sync.Mutex
	commits int
	fail    func(b *store.Batch) (err error, tookEffect bool)
}

func (f *faultyStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	f.mu.Lock()
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		if err, tookEffect := fail(b); err != nil {
			if tookEffect {
				f.Store.Commit(ctx, b)
			}
			return 0, err
		}
	}
	rev, err := f.Store.Commit(ctx, b)
	if err == nil && len(b.Writes) > 0 {
		f.mu.Lock()
		f.commits++
		f.mu.Unlock()
	}
	return rev, err
}

func (f *faultyStore) failing(fail func(b *store.Batch) (error, bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

// rotate rotates a KEK and waits for the job, if there is one.
func (r *rig) rotate(s *Service, kek string) kmsapi.Rotated {
	r.Helper()
	got, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: kek})
	r.must(err)
	r.finish(s, got.Job.ID)
	return got
}

// finish waits until a job has completed.
func (r *rig) finish(s *Service, jobID string) job.Job {
	r.Helper()
	if jobID == "" {
		return job.Job{}
	}
	j, err := s.jobs.Wait(ctx, jobID)
	r.must(err)
	if j.Status != job.Completed {
		r.Fatalf("the job ended as %s: %s", j.Status, j.Error)
	}
	return j
}
