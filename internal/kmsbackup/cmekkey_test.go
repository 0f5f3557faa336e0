package kmsbackup

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

func TestCustomersKeysAndTheirGrantsAreInABackupAndProved(t *testing.T) {
	r := newRig(t)
	var all []string
	for range 101 { // more than a page
		k, err := r.kms.CreateCMEKKey(t.Context(), "")
		r.must(err)
		all = append(all, k.Fingerprint)
	}
	const caller = "cert:agent-7"
	r.must(r.kms.GrantCMEKKey(t.Context(), all[0], caller))
	sealed, err := r.kms.CMEKSeal(t.Context(), caller, []kmsapi.CMEKSealItem{{Fingerprint: all[0], Vault: "v", Path: "p", Version: 2, Plaintext: []byte("canary")}})
	r.must(err)
	dir := filepath.Join(t.TempDir(), "kms")
	info, err := Restore(t.Context(), bytes.NewReader(r.backup()), storespec.InDir(dir), r.root, Options{})
	if err != nil || info.CMEKs != len(all) {
		t.Errorf("%+v, %v", info, err)
	}
	r.opened(dir, func(s *kms.Service) {
		got, err := s.CMEKOpen(t.Context(), caller, []kmsapi.CMEKOpenItem{{Fingerprint: all[0], Vault: "v", Path: "p", Value: sealed[0].Value}})
		if err != nil || string(got[0].Plaintext) != "canary" {
			t.Errorf("%+v, %v", got, err)
		}
	})

	var b store.Batch
	b.Put(layout.CMEKKey(strings.Repeat("f", 64)), []byte("{}"))
	_, err = r.store.Commit(t.Context(), &b)
	r.must(err)
	if err := refused(t, r.backup(), r.root, fault.Damaged); !strings.Contains(err.Error(), "customer's key ffff") {
		t.Error(err)
	}
}
