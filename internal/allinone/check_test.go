package allinone

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

func TestALookAtTheKeysBindsNothing(t *testing.T) {
	ours, _ := newKMS(t)
	other, otherStore := newKMS(t)
	fresh, unbound, bindingOurs := memstore.New(), memstore.New(), memstore.New()
	var b store.Batch
	b.Put(layout.VaultMeta("v"), nil)
	_, err := unbound.Commit(t.Context(), &b)
	if err := errors.Join(err, (&bound{KMS: ours, store: bindingOurs}).prove(t.Context())); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data store.Store
		keys KMS
		want error
	}{
		"nothing": {fresh, ours, nil}, "data that is not bound": {unbound, ours, errUnbound}, "a store of keys": {otherStore, ours, errKeyStore},
		"its keys": {bindingOurs, ours, nil}, "another's keys": {bindingOurs, other, errOtherKMS},
	} {
		rows, keys := count(t, c.data, ""), count(t, otherStore, "")
		if err := (&bound{KMS: c.keys, store: c.data}).look(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if count(t, c.data, "") != rows || count(t, otherStore, "") != keys {
			t.Errorf("%s: something was written", name)
		}
	}
}

// A first start that was cut off goes on; that its keys are not whole is no error.
func TestACheckFindsNothingWrongWithAFirstStartThatWasCutOff(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{DataDir: dir}
	for _, step := range []func() error{
		func() error { return nil },
		func() error {
			root, err := keyring.CreateFileRoot(filepath.Join(dir, "root.key"))
			if err != nil {
				return err
			}
			defer root.Wipe()
			st, err := storespec.InDir(filepath.Join(dir, "kms")).Open(t.Context(), storespec.Options{})
			if err != nil {
				return err
			}
			_, err = kms.AuditKey(t.Context(), st, root, time.Now())
			return errors.Join(err, st.Close())
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(t.Context(), cfg, nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Check = %v", err)
		}
		if after, err := os.ReadDir(dir); err != nil || len(after) != len(before) {
			t.Errorf("%v is there, before %v; %v", after, before, err)
		}
	}
	start(t, cfg).stop()
	if err := Check(t.Context(), cfg, nil); err != nil {
		t.Errorf("after the first start: %v", err)
	}
}
