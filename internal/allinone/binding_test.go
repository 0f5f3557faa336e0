package allinone

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// newKMS is a KMS with a key store of its own.
func newKMS(t *testing.T) (*kms.Service, store.Store) {
	t.Helper()
	root, err := keyring.MemoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	st := memstore.New()
	s, err := kms.New(t.Context(), kms.Config{Store: st, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, st
}

func count(t *testing.T, st store.Store, prefix string) (n int) {
	t.Helper()
	for _, err := range store.All(t.Context(), st, store.Prefix(prefix)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// calls is every call of the domain.
var calls = []struct {
	name string
	uses bool // of keys that are there; the others make, rotate or release
	do   func(context.Context, *bound) error
}{
	{"CreateKEK", false, func(ctx context.Context, b *bound) error { _, err := b.CreateKEK(ctx, []string{"v"}); return err }},
	{"CreateDEK", false, func(ctx context.Context, b *bound) error {
		_, err := b.CreateDEK(ctx, []kmsapi.CreateDEKItem{{ThreadID: "t"}})
		return err
	}},
	{"RotateKEK", false, func(ctx context.Context, b *bound) error {
		_, err := b.RotateKEK(ctx, kmsapi.Rotate{KEKID: kmsapi.ThreadsKEK})
		return err
	}},
	{"ImportKEK", false, func(ctx context.Context, b *bound) error { // which these refuse, once they are asked
		if _, err := b.ImportKEK(ctx, nil); !errors.Is(err, fault.Invalid) {
			return err
		}
		return nil
	}},
	{"ReleaseKEK", false, func(ctx context.Context, b *bound) error { return b.ReleaseKEK(ctx, "v", 1) }},
	{"ShredDEK", false, func(ctx context.Context, b *bound) error {
		if err := b.ShredDEK(ctx, "dek-none"); !errors.Is(err, fault.NotFound) {
			return err
		}
		return nil
	}},
	{"Seal", true, func(ctx context.Context, b *bound) error { _, err := b.Seal(ctx, nil); return err }},
	{"Open", true, func(ctx context.Context, b *bound) error { _, err := b.Open(ctx, nil); return err }},
	{"Encrypt", true, func(ctx context.Context, b *bound) error { _, err := b.Encrypt(ctx, nil); return err }},
	{"Decrypt", true, func(ctx context.Context, b *bound) error { _, err := b.Decrypt(ctx, nil); return err }},
	{"Rewrap", true, func(ctx context.Context, b *bound) error { _, err := b.Rewrap(ctx, nil); return err }},
}

func TestAServerWorksWithTheKeyStoreOfItsDataAlone(t *testing.T) {
	data := memstore.New()
	ours, _ := newKMS(t)
	other, otherStore := newKMS(t)
	all := func(keys KMS, check func(name string, err error)) {
		for _, c := range calls {
			check(c.name, c.do(t.Context(), &bound{KMS: keys, store: data}))
		}
	}
	works := func(name string, err error) {
		if err != nil {
			t.Errorf("%s by the first KMS: %v", name, err)
		}
	}
	all(ours, works)
	before := count(t, otherStore, "")
	all(other, func(name string, err error) {
		if !errors.Is(err, errOtherKMS) || !errors.Is(err, fault.Unavailable) {
			t.Errorf("%s by another KMS: %v", name, err)
		}
	})
	if after := count(t, otherStore, ""); after != before {
		t.Errorf("%d rows were made in another KMS", after-before)
	}
	all(ours, works)
}

func TestNoKeyIsMadeRotatedOrReleasedInAKMSThatTookTheOthersPlace(t *testing.T) {
	for _, c := range calls {
		if c.uses {
			continue
		}
		ours, _ := newKMS(t)
		other, otherStore := newKMS(t)
		b := &bound{KMS: ours, store: memstore.New()}
		if err := b.ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.KMS = other
		before := count(t, otherStore, "")
		if err := c.do(t.Context(), b); !errors.Is(err, errOtherKMS) {
			t.Errorf("%s: %v", c.name, err)
		}
		if after := count(t, otherStore, ""); after != before {
			t.Errorf("%s made %d rows in another KMS", c.name, after-before)
		}
	}
}

// What a KMS that took the other's place does not have is not damaged.
func TestAKeyThatIsMissingInAKMSThatTookTheOthersPlaceIsNotBelievedToBeLost(t *testing.T) {
	ours, _ := newKMS(t)
	other, _ := newKMS(t)
	for _, c := range []struct {
		name string
		do   func(*bound) error
	}{
		{"Seal", func(b *bound) error { _, err := b.Seal(t.Context(), []kmsapi.SealItem{{KEKID: "v"}}); return err }},
		{"Open", func(b *bound) error {
			_, err := b.Open(t.Context(), []kmsapi.OpenItem{{Envelope: kmsapi.Envelope{KEKID: "v", KEKVersion: 1}}})
			return err
		}},
		{"Encrypt", func(b *bound) error {
			_, err := b.Encrypt(t.Context(), []kmsapi.EncryptItem{{KeyID: "d"}})
			return err
		}},
		{"Decrypt", func(b *bound) error {
			_, err := b.Decrypt(t.Context(), []kmsapi.DecryptItem{{KeyID: "d"}})
			return err
		}},
		{"Rewrap", func(b *bound) error {
			_, err := b.Rewrap(t.Context(), []kmsapi.RewrapItem{{KeyID: "d"}})
			return err
		}},
	} {
		b := &bound{KMS: ours, store: memstore.New()}
		if err := b.ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.do(b); err != nil {
			t.Errorf("%s by the KMS of the data: %v", c.name, err) // its result says that the key is not there
		}
		b.KMS = other
		if err := c.do(b); !errors.Is(err, errOtherKMS) {
			t.Errorf("%s by another KMS: %v", c.name, err)
		}
	}
}

func TestDataWithoutABindingIsBoundToTheKeyStoreBesideItAlone(t *testing.T) {
	keys, keyStore := newKMS(t)
	for _, row := range []string{layout.VaultMeta("v"), layout.Message("t", layout.MessageID(1, 0))} {
		data := memstore.New()
		var b store.Batch
		b.Put(row, []byte("as an earlier version left it"))
		if _, err := data.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		before := count(t, keyStore, "")
		if err := (&bound{KMS: keys, store: data}).prove(t.Context()); !errors.Is(err, errUnbound) {
			t.Errorf("an external KMS: %v", err)
		}
		if count(t, keyStore, "") != before || count(t, data, layout.KMSCheck()) != 0 {
			t.Error("a refused start left something")
		}
		if err := (&bound{KMS: keys, store: data, adopt: true}).prove(t.Context()); err != nil {
			t.Errorf("the embedded KMS: %v", err)
		}
		if err := (&bound{KMS: keys, store: data}).prove(t.Context()); err != nil {
			t.Errorf("an external KMS, after the embedded one: %v", err)
		}
	}
}

func TestServersThatShareAStoreBindItOnce(t *testing.T) {
	data := memstore.New()
	keys, _ := newKMS(t)
	var wg sync.WaitGroup
	for range 8 {
		b := &bound{KMS: keys, store: data}
		wg.Go(func() {
			for _, c := range calls {
				if err := c.do(t.Context(), b); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		})
	}
	wg.Wait()
	if n := count(t, data, layout.KMSCheck()); n != 1 {
		t.Errorf("%d bindings", n)
	}
}

func TestADamagedBindingIsSaid(t *testing.T) {
	keys, _ := newKMS(t)
	for _, row := range []string{"", "{", `{"key_id":"x","more":1}`} {
		data := memstore.New()
		var b store.Batch
		b.Put(layout.KMSCheck(), []byte(row))
		if _, err := data.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		if err := (&bound{KMS: keys, store: data}).ready(t.Context()); !errors.Is(err, fault.Damaged) {
			t.Errorf("%q: %v", row, err)
		}
	}
}

func TestAStoreOfKeysIsNotAServers(t *testing.T) {
	keys, st := newKMS(t)
	b := &bound{KMS: keys, store: st, adopt: true}
	if err := b.prove(t.Context()); !errors.Is(err, errKeyStore) {
		t.Errorf("prove = %v", err)
	}
	if n := count(t, st, layout.KMSCheck()); n != 0 {
		t.Error("the store of the key process was bound")
	}
	// A key process that begins on the same empty store at the same moment is seen
	// at the latest by the commit.
	other, _ := newKMS(t)
	st = memstore.New()
	b = &bound{KMS: lateKMS{KMS: other, st: st}, store: st}
	if err := b.prove(t.Context()); err == nil || count(t, st, layout.KMSCheck()) != 0 {
		t.Errorf("bound beside keys that came meanwhile: %v", err)
	}
}

// lateKMS has its KEK in the store when it first encrypts.
type lateKMS struct {
	KMS
	st store.Store
}

func (k lateKMS) Encrypt(ctx context.Context, items []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error) {
	b := new(store.Batch)
	b.Put(layout.KEK(kmsapi.ThreadsKEK), nil)
	if _, err := k.st.Commit(ctx, b); err != nil {
		return nil, err
	}
	return k.KMS.Encrypt(ctx, items)
}

func TestTheStoreMayBeSomewhereElse(t *testing.T) {
	dir, elsewhere := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "elsewhere")
	cfg := Config{DataDir: dir, Store: storespec.InDir(elsewhere)}
	for range 2 {
		n, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]bool{
		filepath.Join(elsewhere, "LOCK"): true, filepath.Join(dir, "kms"): true, filepath.Join(dir, "root.key"): true, filepath.Join(dir, "server"): false,
	} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	// The keys of another directory are not those to this data.
	cfg.DataDir = filepath.Join(t.TempDir(), "data")
	if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), elsewhere+" holds data, but ") {
		t.Error(err)
	}
}

// noAdmin is a KMS in which the server has not the role admin.
type noAdmin struct{ KMS }

func (noAdmin) RotateKEK(context.Context, kmsapi.Rotate) (kmsapi.Rotated, error) {
	return kmsapi.Rotated{}, fault.New(fault.Forbidden, "not the role")
}

func TestAServerThatMayNotRotateSaysWhereItIsDone(t *testing.T) {
	keys, _ := newKMS(t)
	_, err := (&bound{KMS: noAdmin{keys}, store: memstore.New()}).RotateKEK(t.Context(), kmsapi.Rotate{KEKID: kmsapi.ThreadsKEK})
	if !errors.Is(err, fault.Forbidden) {
		t.Fatal(err)
	}
	for _, command := range []string{"keyfold-kms rotate-kek --all", "keyfold admin rewrap --all"} {
		if !strings.Contains(err.Error(), command) {
			t.Errorf("%q does not name %s", err, command)
		}
	}
}
