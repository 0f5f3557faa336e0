package kmsnode

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsbackup"
	"github.com/keyfold/keyfold/internal/kmsclient"

	"github.com/keyfold/keyfold/internal/store/storespec"
)

// restored is a place for a key process over what a backup holds.
func (r *rig) restored(backup *bytes.Buffer) *rig {
	r.Helper()
	next := &rig{r.TB, r.Config}
	dir, err := os.MkdirTemp("", "kmsnode-")
	r.must(err)
	r.Cleanup(func() { os.RemoveAll(dir) })
	next.DataDir = filepath.Join(dir, "kms")
	_, err = kmsbackup.Restore(r.Context(), bytes.NewReader(backup.Bytes()), storespec.InDir(next.DataDir), r.Root, kmsbackup.Options{VerifyAll: true})
	r.must(err)
	return next
}

func TestAnImportSurvivesBackupAndRestoreAndIsTheSameAfterOneFromBefore(t *testing.T) {
	r := newRig(t)
	c, stop := r.start()
	if _, err := c.ImportKEK(t.Context(), aead.GenerateRaw()); !errors.Is(err, fault.Invalid) {
		t.Errorf("without the setting: %v", err)
	}
	stop()
	r.ImportKEK = true
	c, stop = r.start()
	id, raw := r.dek(c, "t"), aead.GenerateRaw()
	enc, err := c.Encrypt(t.Context(), []kmsapi.EncryptItem{{KeyID: id, Plaintext: []byte("canary")}})
	r.must(err)
	imports := func(c *kmsclient.Client) {
		t.Helper()
		got, err := c.ImportKEK(t.Context(), raw)
		if err != nil || got.KEKVersion != 2 {
			t.Errorf("%+v, %v", got, err)
		}
	}
	var before, after bytes.Buffer
	r.must(c.Backup(t.Context(), &before))
	imports(c)
	r.must(c.Backup(t.Context(), &after))
	wrapped, err := c.CreateDEK(t.Context(), []kmsapi.CreateDEKItem{{ThreadID: "late"}})
	if err != nil || wrapped[0].DEK.KEKVersion != 2 {
		t.Errorf("%+v, %v", wrapped, err)
	}
	stop()
	for _, backup := range []*bytes.Buffer{&before, &after} {
		next := r.restored(backup)
		c, stop := next.start()
		imports(c)
		dec, err := c.Decrypt(t.Context(), []kmsapi.DecryptItem{{KeyID: id, Ciphertext: enc[0].Ciphertext}})
		if err != nil || string(dec[0].Plaintext) != "canary" {
			t.Errorf("%+v, %v", dec, err)
		}
		stop()
		files, _ := filepath.Glob(next.DataDir + "*/*")
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil || bytes.Contains(text, raw) || bytes.Contains(backup.Bytes(), raw) {
				t.Errorf("%s, or the backup, holds the key: %v", file, err)
			}
		}
		if len(files) < 4 {
			t.Errorf("only %q to search", files)
		}
	}
}
