// Package rotation shows that a rotation of KEKs loses nothing: with the process
// killed at every commit, and under load. The parts are the real ones, wired as
// a server with its KMS embedded.
package rotation

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
	"github.com/keyfold/keyfold/internal/thread"
	"github.com/keyfold/keyfold/internal/vault"
)

var owner = access.Principal{Kind: access.User, ID: "01900000-0000-7000-8000-000000000001", OrgID: "org-1", Plan: access.Enterprise}

// parts is which parts of a site run.
type parts struct {
	jobs bool                                         // jobs that were left go on
	wrap func(name string, s store.Store) store.Store // stands between a store and its users
}

// site is a server and its KMS on disk.
type site struct {
	rows, keys store.Store
	root       *keyring.FileRoot
	kms        *kms.Service
	vaults     *vault.Service
	threads    *thread.Service
	jobs       *job.Runner
}

// open opens what is in dir, and makes it when there is nothing.
func open(dir string, p parts) (*site, error) {
	ctx := context.Background()
	rootKey := filepath.Join(dir, "root.key")
	root, err := keyring.OpenFileRoot(rootKey)
	if errors.Is(err, fs.ErrNotExist) {
		root, err = keyring.CreateFileRoot(rootKey)
	}
	if err != nil {
		return nil, err
	}
	s := &site{root: root}
	for name, at := range map[string]*store.Store{"server": &s.rows, "kms": &s.keys} {
		opened, err := pebblestore.Open(filepath.Join(dir, name), pebblestore.Options{})
		if err != nil {
			return nil, err
		}
		if *at = opened; p.wrap != nil {
			*at = p.wrap(name, opened)
		}
	}
	if s.kms, err = kms.New(ctx, kms.Config{Store: s.keys, Root: root, Holder: "kms", NoJobs: !p.jobs}); err != nil {
		return nil, err
	}
	return s, s.serve(s.kms, p.jobs)
}

// keys is the KMS as the server uses it.
type keys interface {
	vault.KMS
	thread.KMS
}

// serve makes the server's part of s.
func (s *site) serve(k keys, jobs bool) error {
	s.vaults = vault.New(vault.Config{Store: s.rows, KMS: k, Gate: new(accesstest.Gate)})
	s.threads = thread.New(thread.Config{Store: s.rows, KMS: k, Gate: new(accesstest.Gate)})
	s.jobs = job.New(job.Config{Store: s.rows, Kinds: []job.Kind{s.vaults.RewrapKind(), s.threads.RewrapKind()}, Holder: "server"})
	if err := s.vaults.Recover(context.Background()); err != nil || !jobs {
		return err
	}
	return s.jobs.Resume(context.Background())
}

func mustOpen(t testing.TB, dir string, p parts) *site {
	t.Helper()
	s, err := open(dir, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) close(t testing.TB) {
	t.Helper()
	s.jobs.Close()
	s.kms.Close()
	s.root.Wipe()
	if err := errors.Join(s.rows.Close(), s.keys.Close()); err != nil {
		t.Error(err)
	}
}

// rotation is the arguments of the two jobs that rotate everything.
var rotation = map[string]any{
	vault.RewrapJob:  vault.RewrapArgs{Rotate: true},
	thread.RewrapJob: thread.RewrapArgs{Rotate: true},
}

// kinds is the order in which the jobs run.
var kinds = []string{vault.RewrapJob, thread.RewrapJob}

// rotate starts those jobs of a rotation that were not started before, and sees
// all to their end, the KMS's included.
func (s *site) rotate(ctx context.Context) error {
	all, err := s.jobs.List(ctx)
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		i := slices.IndexFunc(all, func(j job.Job) bool { return j.Kind == kind })
		if i < 0 {
			err = s.start(ctx, kind)
		} else {
			err = s.end(ctx, all[i].ID)
		}
		if err != nil {
			return err
		}
	}
	return s.awaitKMS(ctx)
}

// again rotates whatever was rotated before.
func (s *site) again(ctx context.Context) error {
	for _, kind := range kinds {
		if err := s.start(ctx, kind); err != nil {
			return err
		}
	}
	return s.awaitKMS(ctx)
}

// start runs a job to its end.
func (s *site) start(ctx context.Context, kind string) error {
	j, err := s.jobs.Start(ctx, kind, rotation[kind])
	if err != nil {
		return err
	}
	return s.end(ctx, j.ID)
}

func (s *site) end(ctx context.Context, id string) error {
	j, err := s.jobs.Wait(ctx, id)
	if err == nil && (j.Status != job.Completed || j.Failed > 0) {
		err = fmt.Errorf("the job ended as %+v", j)
	}
	return err
}

func (s *site) awaitKMS(ctx context.Context) error {
	for {
		all, err := s.kms.Jobs(ctx)
		if err != nil {
			return err
		}
		running := false
		for _, j := range all {
			running = running || j.Status == "running"
			if j.Status == "failed" || j.Failed > 0 {
				return fmt.Errorf("the job of the KMS ended as %+v", j)
			}
		}
		if !running {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// version is a version row of a secret, taken apart as vault's rows.go says.
type version struct {
	vault, path string
	n           int
	raw         []byte // attributes
	envelope    kmsapi.Envelope
}

func parseVersion(key string, row []byte) version {
	parts := strings.Split(key, ":") // vault:<vault>:version:<path>:<n>
	v := version{vault: parts[1], path: parts[3]}
	v.n, _ = strconv.Atoi(parts[4])
	row = row[1:]
	take := func(n int) []byte {
		out := row[:n]
		row = row[n:]
		return out
	}
	v.raw = take(int(binary.BigEndian.Uint32(take(4))))
	v.envelope.KEKID = string(take(int(take(1)[0])))
	v.envelope.KEKVersion = binary.BigEndian.Uint32(take(4))
	v.envelope.WrappedDEK = take(int(binary.BigEndian.Uint16(take(2))))
	v.envelope.Ciphertext = row
	return v
}

// versions returns every version row of the site.
func (s *site) versions(t testing.TB) (out []version) {
	t.Helper()
	for rec, err := range store.All(context.Background(), s.rows, store.Prefix(layout.Vaults())) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(rec.Key, ":version:") {
			out = append(out, parseVersion(rec.Key, rec.Value))
		}
	}
	return out
}

// open returns the value of a version, whether or not the API would show it.
func (s *site) open(t testing.TB, v version) string {
	t.Helper()
	digest := sha256.Sum256(v.raw)
	aad := aead.AAD("keyfold/secret/v1", v.vault, v.path, strconv.Itoa(v.n), string(digest[:]))
	res, err := s.kms.Open(context.Background(), []kmsapi.OpenItem{{Envelope: v.envelope, AAD: aad}})
	if err == nil {
		err = res[0].Err
	}
	if err != nil {
		t.Errorf("version %d of %s, under version %d of %s, does not open: %v", v.n, v.path, v.envelope.KEKVersion, v.envelope.KEKID, err)
		return ""
	}
	return string(res[0].Plaintext)
}

// facts is a thread's record as far as the test looks at it.
type facts struct {
	ID      string `json:"id"`
	Deleted bool   `json:"deleted"`
	KMS     struct {
		KeyID      string `json:"key_id"`
		WrappedDEK []byte `json:"wrapped_dek"`
		KEKVersion uint32 `json:"kek_version"`
	} `json:"kms"`
}

// records returns every thread's record.
func (s *site) records(t testing.TB) (out []facts) {
	t.Helper()
	for rec, err := range store.All(context.Background(), s.rows, store.Prefix(layout.Threads())) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(rec.Key, ":meta") {
			var f facts
			if err := json.Unmarshal(rec.Value, &f); err != nil {
				t.Fatal(err)
			}
			out = append(out, f)
		}
	}
	return out
}

// under fails unless every row of the server lies under version primary of its
// KEK, and every copy of a wrapped DEK is the KMS's.
func (s *site) under(t testing.TB, primary uint32) {
	t.Helper()
	for _, v := range s.versions(t) {
		if v.envelope.KEKVersion != primary {
			t.Errorf("version %d of %s lies under version %d of its KEK, want %d", v.n, v.path, v.envelope.KEKVersion, primary)
		}
	}
	for _, f := range s.records(t) {
		if f.KMS.KEKVersion != primary {
			t.Errorf("the record of thread %s names version %d of the KEK, want %d", f.ID, f.KMS.KEKVersion, primary)
		}
		if wrapped, err := s.kms.GetWrapped(context.Background(), f.KMS.KeyID); err != nil || string(wrapped) != string(f.KMS.WrappedDEK) {
			t.Errorf("the wrapped DEK in the record of thread %s is not the KMS's (%v)", f.ID, err)
		}
	}
}

// destroy destroys version n of every KEK of the server, and fails if one is
// not at version n+1.
func (s *site) destroy(t testing.TB, n uint32) {
	t.Helper()
	keys, err := s.kms.Keys(context.Background(), kmsapi.KeysQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys.KEKs {
		if k.ID != kmsapi.ThreadsKEK && !strings.HasPrefix(k.ID, "vault-") {
			continue
		}
		if len(k.Versions) != int(n)+1 {
			t.Errorf("%s has %d versions, want %d: it is rotated once", k.ID, len(k.Versions), n+1)
		}
		if err := s.kms.DestroyKEKVersion(context.Background(), k.ID, n); err != nil {
			t.Errorf("destroy version %d of %s: %v", n, k.ID, err)
		}
	}
}

func (s *site) put(vaultID, path, value string) error {
	_, err := s.vaults.Put(context.Background(), owner, vaultID, path, api.PutSecret{Value: &value}, vault.PutOptions{})
	return err
}

func (s *site) post(threadID, text string) error {
	body, err := json.Marshal(text)
	if err == nil {
		_, err = s.threads.Post(context.Background(), owner, threadID, api.PostMessage{Body: body})
	}
	return err
}

// message is a message as far as the test looks at it.
type message struct{ ID, Body string }

// page returns the oldest messages of a thread after one, oldest first.
func (s *site) page(t testing.TB, threadID, after string) []message {
	t.Helper()
	if after == "" {
		after = layout.MessageID(1, 0)
	}
	raw, err := s.threads.ListMessages(context.Background(), owner, threadID, thread.MessageQuery{After: after})
	if err != nil {
		t.Errorf("thread %s: %v", threadID, err)
		return nil
	}
	var page struct{ Messages []message }
	if err := json.Unmarshal(raw, &page); err != nil {
		t.Fatal(err)
	}
	return page.Messages
}

// patience is how long rotations may take that must come to their end.
const patience = 5 * time.Minute

func long() bool { return os.Getenv("KEYFOLD_LONG") != "" }
