package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// breakable is a file system in which these operations on files with name in
// their names fail once broken is set.
func breakable(fs vfs.FS, name string, kinds ...errorfs.OpKind) (vfs.FS, *atomic.Bool) {
	broken := new(atomic.Bool)
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.Contains(filepath.Base(op.Path), name) && slices.Contains(kinds, op.Kind) {
			return syscall.EIO
		}
		return nil
	})), broken
}

var syncs = []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}

func TestAFailedSyncIsNotAcknowledgedAndEndsTheStore(t *testing.T) {
	for name, kinds := range map[string][]errorfs.OpKind{"sync": syncs, "write": {errorfs.OpFileWrite}} {
		t.Run(name, func(t *testing.T) {
			mem, ctx := vfs.NewCrashableMem(), context.Background()
			fs, broken := breakable(mem, ".log", kinds...)
			var failures []error
			s := open(t, "/store", Options{fs: fs, OnFailure: func(err error) { failures = append(failures, err) }})
			put(t, s, "k", []byte("safe"))
			broken.Store(true)
			var b store.Batch
			b.Put("k", []byte("not safe"))
			if _, err := s.Commit(ctx, &b); !errors.Is(err, fault.Unavailable) || errors.Is(err, store.ErrConflict) {
				t.Fatalf("Commit = %v, want fault.Unavailable", err)
			}
			broken.Store(false) // too late: the next sync would succeed without the first one's data
			_, getErr := s.Get(ctx, "k")
			_, scanErr := s.Scan(ctx, store.Range{}, store.ScanOptions{})
			_, commitErr := s.Commit(ctx, &b)
			for _, err := range []error{getErr, scanErr, commitErr, s.Close()} {
				if !errors.Is(err, fault.Unavailable) {
					t.Errorf("a store that failed answers %v", err)
				}
			}
			if len(failures) != 1 || !errors.Is(failures[0], fault.Unavailable) {
				t.Errorf("OnFailure was called with %v", failures)
			}
			s = open(t, "/store", Options{fs: mem.CrashClone(vfs.CrashCloneCfg{})})
			defer s.Close()
			if r, err := s.Get(ctx, "k"); err != nil || string(r.Value) != "safe" {
				t.Errorf("after a power failure: Get = %q, %v", r.Value, err)
			}
		})
	}
}

func TestADiskThatFailsAtOpenIsNotCalledDamage(t *testing.T) {
	for _, c := range []struct {
		name  string
		kinds []errorfs.OpKind
	}{
		{"MANIFEST", syncs}, // Pebble calls it fatal
		{".log", []errorfs.OpKind{errorfs.OpCreate}},
		{"LOCK", []errorfs.OpKind{errorfs.OpLock}},
		{"store", []errorfs.OpKind{errorfs.OpList}},
	} {
		fs, broken := breakable(vfs.NewMem(), c.name, c.kinds...)
		broken.Store(true)
		if _, err := Open("/store", Options{fs: fs}); !errors.Is(err, fault.Unavailable) || errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: Open = %v, want fault.Unavailable", c.name, err)
		}
		broken.Store(false)
		mustClose(t, open(t, "/store", Options{fs: fs}))
	}
}

// TestACommitReturnsAndIsNotedOnlyAfterItsSync holds the sync of a commit.
func TestACommitReturnsAndIsNotedOnlyAfterItsSync(t *testing.T) {
	var armed atomic.Bool
	begun, release := make(chan struct{}), make(chan struct{})
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if slices.Contains(syncs, op.Kind) && strings.HasSuffix(op.Path, ".log") && armed.CompareAndSwap(true, false) {
			close(begun)
			<-release
		}
		return nil
	}))
	s := open(t, "/store", Options{fs: fs})
	put(t, s, "k", nil)
	before := s.synced.Load()
	armed.Store(true)
	returned := make(chan struct{})
	go func() {
		put(t, s, "l", nil)
		close(returned)
	}()
	select {
	case <-begun:
	case <-returned:
		t.Fatal("a commit returned without a sync")
	}
	select {
	case <-returned:
		t.Error("a commit returned before it was synced")
	default:
	}
	if s.synced.Load() != before {
		t.Error("a commit was noted as synced before it was")
	}
	close(release)
	<-returned
	if s.synced.Load() == before {
		t.Error("a synced commit was not noted")
	}
	mustClose(t, s)
}

// badManifestRole breaks the manifest, so that Pebble fails in its background.
func badManifestRole(dir string) error {
	fs, broken := breakable(vfs.Default, "MANIFEST", syncs...)
	s, err := Open(dir, Options{fs: fs, OnFailure: func(err error) {
		fmt.Println("failed:", errors.Unwrap(err))
		os.Exit(3)
	}})
	if err != nil {
		return err
	}
	var b store.Batch
	b.Put("k", []byte("v"))
	if _, err := s.Commit(context.Background(), &b); err != nil {
		return err
	}
	broken.Store(true)
	return fmt.Errorf("the process went on: %w", s.db.Flush())
}

func TestAFailureInTheBackgroundIsTold(t *testing.T) {
	dir := t.TempDir()
	out, err := play(t, "bad-manifest", dir).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 || !strings.HasPrefix(string(out), "failed: MANIFEST") {
		t.Fatalf("the process ended with %v and said:\n%s", err, out)
	}
	s := open(t, dir, Options{})
	defer s.Close()
	if _, err := s.Get(context.Background(), "k"); err != nil {
		t.Errorf("Get = %v", err)
	}
}
