package thread

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsbackup"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// jobs runs the jobs of s.
func (s *site) jobs() *job.Runner {
	return job.New(job.Config{Store: s.rows, Holder: "test", Kinds: []job.Kind{s.MoveKind(), s.RotateAllKind(), s.RewrapKind()}})
}

// TestTheOldDEKIsInNoKeyStoreAndInNoLaterBackup rotates with the real KMS, both on
// disk.
func TestTheOldDEKIsInNoKeyStoreAndInNoLaterBackup(t *testing.T) {
	dir := t.TempDir()
	s := openSite(t, dir)
	th, err := s.Create(t.Context(), owner, api.CreateThread{Title: "a title"})
	if err != nil {
		t.Fatal(err)
	}
	for range 700 {
		if _, err := s.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted(canary)}); err != nil {
			t.Fatal(err)
		}
	}
	before, err := s.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
	if err != nil {
		t.Fatal(err)
	}
	was, err := s.load(t.Context(), th.ID)
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := s.rows.Scan(t.Context(), store.Prefix(layout.Messages(th.ID)), store.ScanOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	jobs := s.jobs()
	keyID, j, err := s.RotateDEK(t.Context(), jobs, th.ID)
	if err != nil {
		t.Fatal(err)
	}
	if j = await(t, jobs, j.ID); j.Status != job.Completed || j.Processed != 700 {
		t.Errorf("the job ended as %+v", j)
	}
	jobs.Close()
	after, err := s.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the list has changed: %v", err)
	}
	k := s.kms.(*kms.Service)
	if _, err := k.GetWrapped(t.Context(), was.KMS.KeyID); !errors.Is(err, fault.NotFound) {
		t.Errorf("the old DEK: %v", err)
	}
	name := rowOf(th.ID, stolen[0].Key)
	res, err := k.Decrypt(t.Context(), []kmsapi.DecryptItem{{KeyID: was.KMS.KeyID, Ciphertext: stolen[0].Value, AAD: name.aad(th.ID)}})
	if err != nil || !errors.Is(res[0].Err, fault.NotFound) {
		t.Errorf("a row of before: %v, %+v", err, res)
	}
	s.close()

	keys := openKeys(t, filepath.Join(dir, "kms"))
	root, err := keyring.OpenFileRoot(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	var backup bytes.Buffer
	if _, err := kmsbackup.Write(t.Context(), &backup, keys, root, time.Now()); err != nil {
		t.Fatal(err)
	}
	wantDEKs(t, keys, was.KMS, keyID)
	if err := keys.Close(); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(backup.Bytes(), was.KMS.WrappedDEK) || bytes.Contains(backup.Bytes(), []byte(was.KMS.KeyID)) {
		t.Error("the backup holds the old DEK")
	}
	restored := filepath.Join(dir, "restored")
	if _, err := kmsbackup.Restore(t.Context(), &backup, storespec.InDir(restored), root, kmsbackup.Options{VerifyAll: true}); err != nil {
		t.Fatal(err)
	}
	keys = openKeys(t, restored)
	defer keys.Close()
	wantDEKs(t, keys, was.KMS, keyID)
	rows, err := os.ReadDir(filepath.Join(dir, "server"))
	if err != nil || len(rows) == 0 {
		t.Errorf("the server's store: %v", err)
	}
}

func openKeys(t *testing.T, dir string) *pebblestore.Store {
	t.Helper()
	keys, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// wantDEKs fails unless keys holds the new DEK and nothing of the old one.
func wantDEKs(t *testing.T, keys store.Store, old kmsMeta, fresh string) {
	t.Helper()
	if _, err := keys.Get(t.Context(), layout.DEK(fresh)); err != nil {
		t.Errorf("the new DEK: %v", err)
	}
	for rec, err := range store.All(t.Context(), keys, store.Range{Start: "\x00"}) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Key == layout.DEK(old.KeyID) || bytes.Contains(rec.Value, old.WrappedDEK) {
			t.Errorf("%s holds the old DEK", rec.Key)
		}
	}
}
