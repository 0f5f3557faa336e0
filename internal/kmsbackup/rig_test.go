package kmsbackup

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

var day = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// rig is a key store in use.
type rig struct {
	testing.TB
	store *pebblestore.Store
	root  *keyring.FileRoot
	kms   *kms.Service
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{TB: t, root: newRoot(t)}
	var err error
	r.store, err = pebblestore.Open(t.TempDir(), pebblestore.Options{})
	r.must(err)
	r.kms, err = kms.New(t.Context(), kms.Config{Store: r.store, Root: r.root})
	r.must(err)
	t.Cleanup(func() {
		r.kms.Close()
		r.must(r.store.Close())
	})
	return r
}

func newRoot(t testing.TB) *keyring.FileRoot {
	t.Helper()
	root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// deks makes n DEKs.
func (r *rig) deks(ctx context.Context, n int) []kmsapi.DEKInfo {
	r.Helper()
	items := make([]kmsapi.CreateDEKItem, n)
	for i := range items {
		items[i].ThreadID = fmt.Sprintf("t%d", i)
	}
	results, err := r.kms.CreateDEK(ctx, items)
	r.must(err)
	infos := make([]kmsapi.DEKInfo, n)
	for i, res := range results {
		r.must(res.Err)
		infos[i] = res.DEK
	}
	return infos
}

// backup returns a backup of this moment.
func (r *rig) backup() []byte {
	r.Helper()
	view, err := r.store.Snapshot(r.Context())
	r.must(err)
	defer view.Close()
	var b bytes.Buffer
	_, err = Write(r.Context(), &b, view, r.root, day)
	r.must(err)
	return b.Bytes()
}

// opened opens the key store in dir for do.
func (r *rig) opened(dir string, do func(*kms.Service)) {
	r.Helper()
	st, err := pebblestore.Open(dir, pebblestore.Options{})
	r.must(err)
	defer st.Close()
	s, err := kms.New(r.Context(), kms.Config{Store: st, Root: r.root})
	r.must(err)
	defer s.Close()
	do(s)
}
