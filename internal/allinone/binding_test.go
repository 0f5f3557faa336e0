package allinone

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
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

// everyCall makes one call of each kind and returns their errors.
func everyCall(ctx context.Context, b *bound) []error {
	_, err1 := b.CreateKEK(ctx, []string{"v"})
	_, err2 := b.CreateDEK(ctx, []kmsapi.CreateDEKItem{{ThreadID: "t"}})
	_, err3 := b.Seal(ctx, nil)
	_, err4 := b.Open(ctx, nil)
	_, err5 := b.Encrypt(ctx, nil)
	_, err6 := b.Decrypt(ctx, nil)
	_, err7 := b.Rewrap(ctx, nil)
	_, err8 := b.RotateKEK(ctx, kmsapi.Rotate{KEKID: "v"})
	err9 := b.ReleaseKEK(ctx, "v", 2)
	return []error{err1, err2, err3, err4, err5, err6, err7, err8, err9}
}

func TestAServerWorksWithTheKeyStoreOfItsDataAlone(t *testing.T) {
	data := memstore.New()
	ours, _ := newKMS(t)
	other, otherStore := newKMS(t)
	for i, err := range everyCall(t.Context(), &bound{KMS: ours, store: data}) {
		if err != nil {
			t.Errorf("call %d of the first KMS = %v", i, err)
		}
	}
	before := count(t, otherStore, "")
	b := &bound{KMS: other, store: data}
	for i, err := range everyCall(t.Context(), b) {
		if !errors.Is(err, errOtherKMS) || !errors.Is(err, fault.Unavailable) {
			t.Errorf("call %d of another KMS = %v", i, err)
		}
	}
	if after := count(t, otherStore, ""); after != before {
		t.Errorf("%d rows were made in another KMS", after-before)
	}
	b.KMS = ours // is there again
	for i, err := range everyCall(t.Context(), b) {
		if err != nil {
			t.Errorf("call %d of the first KMS again = %v", i, err)
		}
	}
}

func TestNoKeyIsMadeInAKMSThatTookTheOthersPlace(t *testing.T) {
	ours, _ := newKMS(t)
	other, otherStore := newKMS(t)
	b := &bound{KMS: ours, store: memstore.New()}
	if err := b.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.KMS = other
	before := count(t, otherStore, "")
	for i, err := range everyCall(t.Context(), b) {
		if !errors.Is(err, errOtherKMS) {
			t.Errorf("call %d = %v", i, err)
		}
	}
	if after := count(t, otherStore, ""); after != before {
		t.Errorf("%d rows were made in another KMS", after-before)
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
			for i, err := range everyCall(t.Context(), b) {
				if err != nil {
					t.Errorf("call %d = %v", i, err)
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
