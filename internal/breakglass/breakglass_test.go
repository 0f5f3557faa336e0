package breakglass

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/thread"
	"github.com/keyfold/keyfold/internal/vault"
)

const canary = "canary-8d1f"

var owner = access.Principal{Kind: access.User, ID: "0198aaaa-0000-7000-8000-000000000001", OrgID: "org1"}

// site is a server and its KMS, which the test can take away.
type site struct {
	*testing.T
	dir     string
	kms     *awayKMS
	store   store.Store
	threads *thread.Service
	vaults  *vault.Service
	thread  string
	ids     []string // of two messages
	page    string   // with the KMS there
}

// awayKMS is a KMS that does not answer while away is set.
type awayKMS struct {
	*kms.Service
	away bool
}

func (k *awayKMS) err() error {
	if k.away {
		return fault.New(fault.Unavailable, "the KMS does not answer")
	}
	return nil
}

func (k *awayKMS) Encrypt(ctx context.Context, items []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error) {
	if err := k.err(); err != nil {
		return nil, err
	}
	return k.Service.Encrypt(ctx, items)
}

func (k *awayKMS) Decrypt(ctx context.Context, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	if err := k.err(); err != nil {
		return nil, err
	}
	return k.Service.Decrypt(ctx, items)
}

func (k *awayKMS) Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	if err := k.err(); err != nil {
		return nil, err
	}
	return k.Service.Seal(ctx, items)
}

func (k *awayKMS) Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	if err := k.err(); err != nil {
		return nil, err
	}
	return k.Service.Open(ctx, items)
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, dir: t.TempDir(), store: memstore.New()}
	root, err := keyring.CreateFileRoot(s.path("root.key"))
	s.must(err)
	service, err := kms.New(t.Context(), kms.Config{Store: memstore.New(), Root: root})
	s.must(err)
	t.Cleanup(service.Close)
	s.kms = &awayKMS{Service: service}
	s.export("keyring")
	s.serve(nil)
	th, err := s.threads.Create(t.Context(), owner, api.CreateThread{})
	s.must(err)
	s.thread = th.ID
	for i := range 2 {
		raw, err := s.post(fmt.Sprintf(`"%s %d"`, canary, i))
		s.must(err)
		s.ids = append(s.ids, strings.Split(string(raw), `"`)[3])
	}
	page, err := s.list()
	s.must(err)
	s.page = page
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// export writes what the KMS exports now.
func (s *site) export(name string) {
	s.Helper()
	text, err := s.kms.ExportBreakGlass(s.Context())
	s.must(err)
	s.must(os.WriteFile(s.path(name), text, 0o600))
}

// serve makes the server anew, with break-glass or without.
func (s *site) serve(glass thread.BreakGlass) {
	s.threads = thread.New(thread.Config{Store: s.store, KMS: s.kms, Gate: new(accesstest.Gate), BreakGlass: glass})
	s.vaults = vault.New(vault.Config{Store: s.store, KMS: s.kms, Gate: new(accesstest.Gate)})
}

// open sets up break-glass with a keyring file and what audits it.
func (s *site) open(keyring string, rec audit.Recorder) {
	s.Helper()
	r, err := Open(s.Context(), Config{RootFile: s.path("root.key"), KeyringFile: s.path(keyring), Audit: rec})
	s.must(err)
	s.Cleanup(r.Close)
	s.serve(r)
}

func (s *site) post(body string) ([]byte, error) {
	return s.threads.Post(s.Context(), owner, s.thread, api.PostMessage{Body: []byte(body)})
}

func (s *site) list() (string, error) {
	raw, err := s.threads.ListMessages(s.Context(), owner, s.thread, thread.MessageQuery{})
	return string(raw), err
}

// refused fails the test unless err is a fault.Unavailable and nothing came with it.
func (s *site) refused(what, got string, err error) {
	s.Helper()
	if got != "" || !errors.Is(err, fault.Unavailable) || strings.Contains(fmt.Sprint(err), canary) {
		s.Errorf("%s: %q, %v", what, got, err)
	}
}

// recorder keeps events, or fails.
type recorder struct {
	events []audit.Event
	err    error
}

func (r *recorder) Record(_ context.Context, events ...audit.Event) error {
	r.events = append(r.events, events...)
	return r.err
}

func TestBreakGlassReadsMessagesAndIsAuditedInALogThatVerifies(t *testing.T) {
	s := newSite(t)
	key, err := audit.OpenOrCreateKeyFile(s.path("audit.key"))
	s.must(err)
	log, err := audit.Open(s.path("audit"), key, audit.Options{})
	s.must(err)
	s.open("keyring", log)
	s.kms.away = true
	page, err := s.list()
	if err != nil || page != s.page {
		t.Errorf("%q, %v", page, err)
	}
	raw, err := s.threads.GetMessage(t.Context(), owner, s.thread, s.ids[1])
	if err != nil || !strings.Contains(string(raw), canary+" 1") {
		t.Errorf("%q, %v", raw, err)
	}
	s.must(log.Close())
	report, err := audit.Verify(s.path("audit"), key.Public().(ed25519.PublicKey), audit.VerifyOptions{})
	if err != nil || !report.OK() || report.Records != 3 {
		t.Errorf("%+v, %v", report, err)
	}
	text, err := os.ReadFile(s.path("audit/00000000000000000001.jsonl"))
	s.must(err)
	for _, want := range []string{
		`"actor":"process","action":"breakglass.open","target":"threads","detail":{"kek_version":1}`,
		fmt.Sprintf(`"actor":"user:%s","action":"breakglass.read","target":"%s","detail":{"first":"%s","last":"%s","messages":2}`, owner.ID, s.thread, s.ids[0], s.ids[1]),
		fmt.Sprintf(`"detail":{"first":"%s","last":"%s","messages":1}`, s.ids[1], s.ids[1]),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("not in the audit: %s", want)
		}
	}
	if bytes.Contains(text, []byte(canary)) {
		t.Error("a message is in the audit")
	}
}

// A keyring and an audit, and with them nothing but reads of messages.
func TestBreakGlassOpensNoSecretAndWritesNothing(t *testing.T) {
	value := canary
	for _, on := range []bool{true, false} {
		s := newSite(t)
		v, err := s.vaults.Create(t.Context(), owner, api.CreateVault{Name: "v"})
		s.must(err)
		_, err = s.vaults.Put(t.Context(), owner, v.ID, "a", api.PutSecret{Type: "note", Value: &value}, vault.PutOptions{})
		s.must(err)
		var rec recorder
		if on {
			s.open("keyring", &rec)
		}
		s.kms.away = true
		before := len(rec.events)
		_, err = s.vaults.Put(t.Context(), owner, v.ID, "b", api.PutSecret{Type: "note", Value: &value}, vault.PutOptions{})
		s.refused("a secret is written", "", err)
		read, err := s.vaults.Read(t.Context(), owner, v.ID, "a")
		s.refused("a secret is read", read.Secret.Value, err)
		raw, err := s.post(`"more"`)
		s.refused("a message is posted", string(raw), err)
		if len(rec.events) != before {
			t.Errorf("on=%v: %v", on, rec.events)
		}
		if page, err := s.list(); on && page != s.page {
			t.Errorf("on: %q, %v", page, err)
		} else if !on {
			s.refused("off: a page is read", page, err)
		}
	}
}

func TestARecordThatFailsLeavesTheMessagesClosed(t *testing.T) {
	s := newSite(t)
	rec := &recorder{}
	s.open("keyring", rec)
	s.kms.away, rec.err = true, errors.New("the disk is full")
	page, err := s.list()
	s.refused("a page", page, err)
	raw, err := s.threads.GetMessage(t.Context(), owner, s.thread, s.ids[0])
	s.refused("a message", string(raw), err)
	if _, err := Open(t.Context(), Config{RootFile: s.path("root.key"), KeyringFile: s.path("keyring"), Audit: rec}); err == nil {
		t.Error("it is set up without a record")
	}
}

func TestTheRecordIsThereBeforeAnythingIsOpened(t *testing.T) {
	s := newSite(t)
	rec := &recorder{}
	s.open("keyring", rec)
	s.kms.away = true
	s.editMeta(func(meta string) string { return strings.Replace(meta, `"kek_id":"threads"`, `"kek_id":"other"`, 1) })
	page, err := s.list()
	s.refused("a page that does not open", page, err)
	want := []audit.Event{
		{Actor: "process", Action: "breakglass.open", Target: "threads", Detail: map[string]any{"kek_version": uint32(1)}},
		{Actor: owner.Ref(), Action: "breakglass.read", Target: s.thread, Detail: map[string]any{"messages": 2, "first": s.ids[0], "last": s.ids[1]}},
	}
	if diff := cmp.Diff(want, rec.events); diff != "" {
		t.Error(diff)
	}
}

// editMeta changes the metadata of the thread as one would who writes to the store.
func (s *site) editMeta(edit func(string) string) {
	s.Helper()
	rec, err := s.store.Get(s.Context(), layout.ThreadMeta(s.thread))
	s.must(err)
	now := edit(string(rec.Value))
	if now == string(rec.Value) {
		s.Fatal("nothing was edited")
	}
	var b store.Batch
	b.Put(rec.Key, []byte(now))
	_, err = s.store.Commit(s.Context(), &b)
	s.must(err)
}

// kmsFields is the part of a thread's metadata that names its DEK.
func (s *site) kmsFields(thread string) string {
	s.Helper()
	rec, err := s.store.Get(s.Context(), layout.ThreadMeta(thread))
	s.must(err)
	_, fields, _ := strings.Cut(string(rec.Value), `"kms":`)
	return fields
}

// With break-glass as with the KMS: nothing that one writes to the store makes
// a thread open with another's key.
func TestAThreadOpensByItsOwnKeyAlone(t *testing.T) {
	s := newSite(t)
	s.open("keyring", &recorder{})
	other, err := s.threads.Create(t.Context(), owner, api.CreateThread{})
	s.must(err)
	s.kms.away = true
	mine, theirs := s.kmsFields(s.thread), s.kmsFields(other.ID)
	field := func(fields, name string) string {
		_, rest, _ := strings.Cut(fields, `"`+name+`":"`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	for name, edit := range map[string]func(string) string{
		"its key ID swapped": func(m string) string { return strings.ReplaceAll(m, field(mine, "key_id"), field(theirs, "key_id")) },
		"its wrapped DEK swapped": func(m string) string {
			return strings.ReplaceAll(m, field(mine, "wrapped_dek"), field(theirs, "wrapped_dek"))
		},
		"all of its key swapped": func(m string) string { return strings.ReplaceAll(m, mine, theirs) },
		"another KEK version":    func(m string) string { return strings.ReplaceAll(m, `"kek_version":1`, `"kek_version":2`) },
	} {
		whole := mine
		s.editMeta(edit)
		page, err := s.list()
		s.refused(name, page, err)
		s.editMeta(func(m string) string { head, _, _ := strings.Cut(m, `"kms":`); return head + `"kms":` + whole })
	}
	if page, err := s.list(); page != s.page {
		t.Errorf("with its own again: %v", err)
	}
}

func TestAfterARotationAnOldKeyringOpensWhatItKnows(t *testing.T) {
	s := newSite(t)
	_, err := s.kms.RotateKEK(t.Context(), kmsapi.Rotate{KEKID: kmsapi.ThreadsKEK})
	s.must(err)
	s.export("newer")
	fresh, err := s.threads.Create(t.Context(), owner, api.CreateThread{}) // under version 2
	s.must(err)
	_, err = s.threads.Post(t.Context(), owner, fresh.ID, api.PostMessage{Body: []byte(`"text"`)})
	s.must(err)
	s.kms.away = true
	for name, opensFresh := range map[string]bool{"keyring": false, "newer": true} {
		s.open(name, &recorder{})
		if page, err := s.list(); page != s.page {
			t.Errorf("%s: under version 1: %v", name, err)
		}
		raw, err := s.threads.ListMessages(t.Context(), owner, fresh.ID, thread.MessageQuery{})
		if opensFresh && err != nil {
			t.Errorf("%s: under version 2: %v", name, err)
		}
		if !opensFresh {
			s.refused("under version 2", string(raw), err)
			if log := fmt.Sprint(errors.Unwrap(err)); !strings.Contains(log, "keyfold-kms export-breakglass") {
				t.Errorf("the log is told %q", log)
			}
		}
	}
}

func TestWrongFilesAreRefusedAtStart(t *testing.T) {
	s, other := newSite(t), newSite(t)
	s.must(os.WriteFile(s.path("empty"), nil, 0o600))
	text, err := os.ReadFile(s.path("keyring"))
	s.must(err)
	s.must(os.WriteFile(s.path("huge"), append(bytes.Repeat([]byte("x\n"), maxKeyring/2), text...), 0o600))
	for name, c := range map[string]struct {
		root, keyring string
		want          string
	}{
		"another root":          {other.path("root.key"), s.path("keyring"), "use the root key file and an export of the same KMS"},
		"another KMS's keyring": {s.path("root.key"), other.path("keyring"), "use the root key file and an export of the same KMS"},
		"no root":               {s.path("none"), s.path("keyring"), "no such file"},
		"no keyring":            {s.path("root.key"), s.path("none"), "no such file"},
		"an empty keyring":      {s.path("root.key"), s.path("empty"), "keyfold-kms export-breakglass"},
		"a file of megabytes":   {s.path("root.key"), s.path("huge"), "keyfold-kms export-breakglass"},
		"the files swapped":     {s.path("keyring"), s.path("root.key"), ""},
	} {
		var rec recorder
		_, err := Open(t.Context(), Config{RootFile: c.root, KeyringFile: c.keyring, Audit: &rec})
		if err == nil || !strings.Contains(err.Error(), c.want) && !errors.Is(err, os.ErrNotExist) || len(rec.events) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAClosedReaderOpensNothing(t *testing.T) {
	s := newSite(t)
	r, err := Open(t.Context(), Config{RootFile: s.path("root.key"), KeyringFile: s.path("keyring"), Audit: &recorder{}})
	s.must(err)
	s.serve(r)
	r.Close()
	s.kms.away = true
	page, err := s.list()
	s.refused("a page", page, err)
}
