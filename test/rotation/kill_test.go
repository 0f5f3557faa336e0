package rotation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/store"
)

// childEnv makes the test binary rotate and kill itself: directory, store,
// "before" or "after", number of the commit.
const childEnv = "KEYFOLD_ROTATION_CHILD"

func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		child(strings.Split(job, "|"))
	}
	os.Exit(m.Run())
}

func child(args []string) {
	at, err := strconv.Atoi(args[3])
	var armed atomic.Bool
	var s *site
	if err == nil {
		s, err = open(args[0], parts{jobs: true, wrap: func(name string, s store.Store) store.Store {
			if name != args[1] {
				return s
			}
			return &killer{Store: s, armed: &armed, before: args[2] == "before", at: int64(at)}
		}})
	}
	if err == nil {
		armed.Store(true)
		err = s.rotate(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// killer kills its own process at a commit.
type killer struct {
	store.Store
	armed  *atomic.Bool
	before bool
	at     int64
	count  atomic.Int64
}

func (k *killer) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	hit := k.armed.Load() && k.count.Add(1) == k.at
	if hit && k.before {
		die()
	}
	rev, err := k.Store.Commit(ctx, b)
	if hit {
		die()
	}
	return rev, err
}

// die is SIGKILL: no deferred call, no flush, no farewell.
func die() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}

// size is how much a store holds before the rotation.
type size struct{ vaults, versions, threads, messages int }

// fill makes it: each vault has three paths, of which one is deleted and one
// has a disabled version; the first thread is deleted.
func (s *site) fill(t testing.TB, n size) {
	t.Helper()
	ctx := t.Context()
	for range n.vaults {
		v, err := s.vaults.Create(ctx, owner, api.CreateVault{Name: "a vault"})
		for i := range 3 * n.versions {
			err = errors.Join(err, s.put(v.ID, []string{"a", "b/c", "gone"}[i%3], fmt.Sprint("value ", 1+i/3)))
		}
		err = errors.Join(err, s.vaults.DeleteSecret(ctx, owner, v.ID, "gone"), s.vaults.DisableVersion(ctx, owner, v.ID, "a", 1))
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range n.threads {
		th, err := s.threads.Create(ctx, owner, api.CreateThread{Title: "a thread"})
		for m := range n.messages {
			err = errors.Join(err, s.post(th.ID, fmt.Sprint("message ", m)))
		}
		if i == 0 {
			err = errors.Join(err, s.threads.Delete(ctx, owner, th.ID))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// readable fails unless all that fill made is there and opens.
func (s *site) readable(t testing.TB, n size) {
	t.Helper()
	versions := s.versions(t)
	if len(versions) != n.vaults*3*n.versions {
		t.Errorf("%d versions are there, want %d", len(versions), n.vaults*3*n.versions)
	}
	for _, v := range versions {
		if got, want := s.open(t, v), fmt.Sprint("value ", v.n); got != want {
			t.Errorf("version %d of %s holds %q", v.n, v.path, got)
		}
		if v.path != "b/c" {
			continue
		}
		if r, err := s.vaults.ReadVersion(t.Context(), owner, v.vault, v.path, v.n); err != nil || r.Secret.Value != fmt.Sprint("value ", v.n) {
			t.Errorf("version %d of %s is read as %q, %v", v.n, v.path, r.Secret.Value, err)
		}
	}
	records := s.records(t)
	if len(records) != n.threads {
		t.Errorf("%d threads are there, want %d", len(records), n.threads)
	}
	for _, f := range records {
		if f.Deleted {
			continue
		}
		messages := s.page(t, f.ID, "")
		for i, m := range messages {
			if m.Body != fmt.Sprint("message ", i) {
				t.Errorf("message %d of thread %s is %q", i, f.ID, m.Body)
			}
		}
		if len(messages) != n.messages {
			t.Errorf("thread %s has %d messages, want %d", f.ID, len(messages), n.messages)
		}
	}
}

// TestAKillAtAnyCommitOfARotationLosesNothing kills the process right before
// and right after every single commit of the server's store and of the KMS's
// while all KEKs are rotated, one position a process. What is left must be
// readable as it is, and the rotation must come to its end.
func TestAKillAtAnyCommitOfARotationLosesNothing(t *testing.T) {
	n := size{vaults: 2, versions: 2, threads: 3, messages: 2}
	if long() {
		n = size{vaults: 3, versions: 40, threads: 130, messages: 3}
	}
	template := t.TempDir()
	s := mustOpen(t, template, parts{})
	s.fill(t, n)
	s.readable(t, n)
	s.close(t)
	for _, name := range []string{"server", "kms"} {
		for _, when := range []string{"before", "after"} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				at := 1
				for killAt(t, template, n, name, when, at) {
					at++
				}
				t.Logf("%d commits", at-1)
				if at < 8 {
					t.Errorf("a rotation had %d commits of the %s store", at-1, name)
				}
			})
		}
	}
}

// killAt does one position, and reports false when the rotation ended before it.
func killAt(t *testing.T, template string, n size, name, when string, at int) bool {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "site")
	if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(filepath.Join(dir, "root.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	killed := runChild(t, dir, name, when, at)

	s := mustOpen(t, dir, parts{})
	s.readable(t, n)
	s.close(t)

	s = mustOpen(t, dir, parts{jobs: true})
	defer s.close(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.rotate(ctx); err != nil {
		t.Errorf("the rotation does not end: %v", err)
	}
	s.readable(t, n)
	s.under(t, 2)
	s.destroy(t, 1)
	s.readable(t, n)
	if t.Failed() {
		t.Fatalf("killed %s commit %d of the %s store", when, at, name)
	}
	return killed
}

// runChild reports whether the child was killed; it fails when the child did
// anything else but end.
func runChild(t *testing.T, dir, name, when string, at int) (killed bool) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{dir, name, when, strconv.Itoa(at)}, "|"))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if cmd.ProcessState.Exited() { // on its own
		t.Fatalf("%s commit %d of the %s store, the child failed: %v: %s", when, at, name, err, out)
	}
	return true
}
