package kmsbackup

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

func TestWhatWasEncryptedBeforeABackupDecryptsAfterItsRestore(t *testing.T) {
	r := newRig(t)
	_, err := r.kms.CreateKEK(t.Context(), []string{"vault-1"})
	r.must(err)
	dek := r.deks(t.Context(), 3)[2]
	enc, err := r.kms.Encrypt(t.Context(), []kmsapi.EncryptItem{{KeyID: dek.KeyID, Plaintext: []byte("canary"), AAD: []byte("a")}})
	r.must(err)
	sealed, err := r.kms.Seal(t.Context(), []kmsapi.SealItem{{KEKID: "vault-1", Plaintext: []byte("canary"), AAD: []byte("a")}})
	r.must(err)
	backup := r.backup()

	dir := filepath.Join(t.TempDir(), "made", "kms")
	info, err := Restore(t.Context(), bytes.NewReader(backup), storespec.InDir(dir), r.root, Options{})
	want := Info{Created: day, Rows: info.Rows, KEKs: info.KEKs, DEKs: 3, Opened: 3}
	if err != nil || info.KEKs < 2 || info.Rows < 5 || !cmp.Equal(info, want) {
		t.Errorf("%+v, %v; want %+v", info, err, want)
	}
	r.opened(dir, func(s *kms.Service) {
		dec, err := s.Decrypt(t.Context(), []kmsapi.DecryptItem{{KeyID: dek.KeyID, Ciphertext: enc[0].Ciphertext, AAD: []byte("a")}})
		if err != nil || string(dec[0].Plaintext) != "canary" {
			t.Errorf("a thread's: %+v, %v", dec, err)
		}
		open, err := s.Open(t.Context(), []kmsapi.OpenItem{{Envelope: sealed[0].Envelope, AAD: []byte("a")}})
		if err != nil || string(open[0].Plaintext) != "canary" {
			t.Errorf("an envelope's: %+v, %v", open, err)
		}
	})
	if checked, err := Check(bytes.NewReader(backup)); err != nil || checked.Rows != info.Rows {
		t.Errorf("Check: %+v, %v", checked, err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*")); len(left) != 1 {
		t.Errorf("beside the store lies %v", left)
	}
}

// refused restores backup, which must fail with code and leave nothing.
func refused(t *testing.T, backup []byte, root keyring.Root, code fault.Code) error {
	t.Helper()
	parent := t.TempDir()
	info, err := Restore(t.Context(), bytes.NewReader(backup), storespec.InDir(filepath.Join(parent, "kms")), root, Options{VerifyAll: true})
	if !errors.Is(err, code) {
		t.Errorf("%+v, %v; want %v", info, err, code)
	}
	if left, _ := os.ReadDir(parent); len(left) != 0 {
		t.Errorf("the refused backup left %v", left)
	}
	return err
}

func TestABackupIsRefusedWithAFlippedByteAnywhere(t *testing.T) {
	r := newRig(t)
	r.deks(t.Context(), 1)
	backup := r.backup()
	for i := range backup {
		flipped := bytes.Clone(backup)
		flipped[i] ^= 1
		if _, err := Check(bytes.NewReader(flipped)); err == nil && i < len(backup)-(tailSize-32) {
			t.Errorf("byte %d of %d flipped: the checksum holds", i, len(backup))
		}
		if i%37 == 0 || i > len(backup)-tailSize && i%9 == 0 { // a restore takes its time
			if _, err := Restore(t.Context(), bytes.NewReader(flipped), storespec.InDir(filepath.Join(t.TempDir(), "kms")), r.root, Options{}); err == nil {
				t.Errorf("byte %d of %d flipped: restored", i, len(backup))
			}
		}
	}
}

func TestABackupIsRefusedWhenItIsCutOffAnywhereOrGoesOn(t *testing.T) {
	r := newRig(t)
	r.deks(t.Context(), 1)
	backup := r.backup()
	for n := range backup {
		if _, err := Check(bytes.NewReader(backup[:n])); !errors.Is(err, fault.Damaged) {
			t.Errorf("%d bytes of %d: %v", n, len(backup), err)
		}
	}
	refused(t, backup[:len(backup)-1], r.root, fault.Damaged)
	refused(t, append(bytes.Clone(backup), 0), r.root, fault.Damaged)
	refused(t, append(bytes.Clone(backup), backup...), r.root, fault.Damaged)
	refused(t, []byte(strings.Repeat("not a backup at all\n", 10)), r.root, fault.Invalid)
}

func TestTheWrongRootKeyRestoresNothing(t *testing.T) {
	r := newRig(t)
	if err := refused(t, r.backup(), newRoot(t), fault.Damaged); !strings.Contains(err.Error(), "root key") {
		t.Errorf("%v; want a word of the root key", err)
	}
}

// rows is a view of rows that are not in a store.
type rows []store.Record

func (r rows) Scan(_ context.Context, rg store.Range, _ store.ScanOptions) (out []store.Record, _ error) {
	for _, rec := range r {
		if rec.Key >= rg.Start && (rg.End == "" || rec.Key < rg.End) {
			out = append(out, rec)
		}
	}
	return out, nil
}

// TestABackupPutTogetherFromOthersIsRefused makes the checksum right, as anyone
// can, and keeps the seal of a true backup.
func TestABackupPutTogetherFromOthersIsRefused(t *testing.T) {
	r := newRig(t)
	r.deks(t.Context(), 2)
	whole := r.backup()
	var recs rows
	if _, _, err := read(bytes.NewReader(whole), func(key string, value []byte) error {
		recs = append(recs, store.Record{Key: key, Value: value})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	without := func(prefix string) rows {
		out := append(rows{}, recs...)
		for i, rec := range out {
			if strings.HasPrefix(rec.Key, prefix) {
				return append(out[:i], out[i+1:]...)
			}
		}
		t.Fatalf("no row %s", prefix)
		return nil
	}
	var b bytes.Buffer
	_, err := Write(t.Context(), &b, without(layout.DEK("")), r.root, day)
	r.must(err)
	forged := b.Bytes()
	copy(forged[len(forged)-(tailSize-32):], whole[len(whole)-(tailSize-32):])
	if _, err := Check(bytes.NewReader(forged)); err != nil {
		t.Errorf("the checksum: %v; the test shows nothing", err)
	}
	if err := refused(t, forged, r.root, fault.Damaged); !strings.Contains(err.Error(), "no key process with this root key wrote it") {
		t.Error(err)
	}
	if _, err := Write(t.Context(), &b, without(layout.KEK(kmsapi.ThreadsKEK)), r.root, day); !errors.Is(err, fault.Damaged) {
		t.Errorf("a backup without the threads' KEK: %v", err)
	}
}

func TestADEKThatDoesNotOpenIsFoundAndNamed(t *testing.T) {
	r := newRig(t)
	id := r.deks(t.Context(), 1)[0].KeyID
	rec, err := r.store.Get(t.Context(), layout.DEK(id))
	r.must(err)
	rec.Value[3] ^= 1
	var b store.Batch
	b.Put(rec.Key, rec.Value)
	_, err = r.store.Commit(t.Context(), &b)
	r.must(err)
	if err := refused(t, r.backup(), r.root, fault.Damaged); !strings.Contains(err.Error(), id) {
		t.Errorf("%v; want the key ID", err)
	}
}

func TestADirectoryThatHoldsAnythingIsLeftAsItIs(t *testing.T) {
	r := newRig(t)
	backup := r.backup()
	dir := t.TempDir()
	r.must(os.WriteFile(filepath.Join(dir, "letter"), []byte("dear"), 0o600))
	if _, err := Restore(t.Context(), bytes.NewReader(backup), storespec.InDir(dir), r.root, Options{}); err == nil || !strings.Contains(err.Error(), "holds other things") {
		t.Errorf("a letter: %v", err)
	}
	empty := filepath.Join(t.TempDir(), "kms")
	r.must(os.Mkdir(empty, 0o755))
	_, err := Restore(t.Context(), bytes.NewReader(backup), storespec.InDir(empty), r.root, Options{})
	r.must(err)
	if info, err := os.Stat(empty); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the store's directory: %v, %v", info.Mode(), err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(backup), storespec.InDir(empty), r.root, Options{}); err == nil || !strings.Contains(err.Error(), "there is a store in") {
		t.Errorf("a second time: %v", err)
	}
}

func TestASampleIsAsLargeAsAskedAndVerifyAllOpensAll(t *testing.T) {
	r := newRig(t)
	r.deks(t.Context(), 50)
	backup := r.backup()
	for _, tt := range []struct {
		opt  Options
		want int
	}{{Options{Sample: 7}, 7}, {Options{}, 50}, {Options{Sample: 7, VerifyAll: true}, 50}} {
		info, err := Restore(t.Context(), bytes.NewReader(backup), storespec.InDir(filepath.Join(t.TempDir(), "kms")), r.root, tt.opt)
		if err != nil || info.Opened != tt.want {
			t.Errorf("%+v: %+v, %v; want %d opened", tt.opt, info, err, tt.want)
		}
	}
}

// hooked is a root that calls back when it is first used.
type hooked struct {
	keyring.Root
	once *sync.Once
	then func()
}

func (h hooked) LoadKEK(ctx context.Context, name keyring.Name, stored []byte) (keyring.KEK, error) {
	h.once.Do(h.then)
	return h.Root.LoadKEK(ctx, name, stored)
}

func TestARestoreThatWasKilledLeavesNoStoreThatOpens(t *testing.T) {
	r := newRig(t)
	r.deks(t.Context(), 20)
	dir, copied := filepath.Join(t.TempDir(), "kms"), filepath.Join(t.TempDir(), "kms")
	root := hooked{r.root, new(sync.Once), func() {
		r.must(os.CopyFS(copied, os.DirFS(dir))) // what a kill would leave
	}}
	_, err := Restore(t.Context(), bytes.NewReader(r.backup()), storespec.InDir(dir), root, Options{Sample: 1})
	r.must(err)
	if _, err := Restore(t.Context(), bytes.NewReader(r.backup()), storespec.InDir(copied), r.root, Options{}); err == nil {
		t.Error("restored over what was left")
	}
	st, err := pebblestore.Open(copied, pebblestore.Options{})
	r.must(err)
	defer st.Close()
	if _, err := kms.New(t.Context(), kms.Config{Store: st, Root: r.root}); !errors.Is(err, fault.Damaged) {
		t.Errorf("what was left opens: %v", err)
	}
}
