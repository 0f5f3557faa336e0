package pebblestore

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// roleEnv makes the test binary play a role instead of running the tests: its
// value is the role and a directory, with a blank between.
const roleEnv = "KEYFOLD_STORE_TEST_ROLE"

var roles = map[string]func(dir string) error{
	"writer":       writerRole,
	"second":       secondRole,
	"bad-manifest": badManifestRole,
}

func TestMain(m *testing.M) {
	role, dir, _ := strings.Cut(os.Getenv(roleEnv), " ")
	if role == "" {
		os.Exit(m.Run())
	}
	if err := roles[role](dir); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// play returns a command that plays a role.
func play(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleEnv+"="+role+" "+dir)
	return cmd
}

// writerRole runs the workload and prints each commit after its
// acknowledgement. It ends only by being killed, or with an error.
func writerRole(dir string) error {
	s, err := Open(dir, crashOptions())
	if err != nil {
		return err
	}
	fmt.Println("open 0")
	return runWriters(s, func(name string, number int) bool {
		_, err := fmt.Println(name, number) // one write, shorter than a pipe's atomic size
		return err == nil
	})
}

// runWriters runs all writers and returns the first error, or nil when acked
// has said no to each.
func runWriters(s store.Store, acked func(name string, number int) bool) error {
	errs := make(chan error, writers)
	for w := range writers {
		go func() { errs <- write(s, w, acked) }()
	}
	for range writers {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// TestAKillLosesNoAcknowledgedCommit kills a writing process again and again
// and looks at what it left. The check works on a copy, so that each process
// begins with the files that the kill of the one before it left.
//
// A kill takes away what the process held in memory, and cuts its work anywhere:
// in a commit, a flush, a compaction, a recovery. It cannot show a missing sync,
// since the system keeps what was written: that is what the power failure of
// TestAPowerFailureLosesNoAcknowledgedCommit is for.
func TestAKillLosesNoAcknowledgedCommit(t *testing.T) {
	t.Parallel()
	kills := 10
	if os.Getenv("KEYFOLD_LONG") != "" {
		kills = 120
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	dir, acked := t.TempDir(), map[string]int{}
	for kill := range kills {
		lines := 1 + r.IntN(300)
		if kill%4 == 1 {
			lines = r.IntN(2) // within or right after the recovery
		}
		runAndKill(t, dir, lines, acked)
		after := filepath.Join(t.TempDir(), "copy")
		storetest.CopyDir(t, after, dir)
		s := open(t, after, crashOptions())
		verify(t, s, acked)
		mustClose(t, s)
		if t.Failed() {
			t.Fatalf("after kill %d, %d lines into its process", kill+1, lines)
		}
		os.RemoveAll(after)
	}
	t.Logf("%d kills, last commits %v", kills, acked)
}

// runAndKill runs a writer, kills it after that many lines, and notes in acked
// what it acknowledged.
func runAndKill(t *testing.T, dir string, lines int, acked map[string]int) {
	t.Helper()
	cmd := play(t, "writer", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
	if lines == 0 {
		kill()
	}
	in := bufio.NewReader(out)
	for n := 1; ; n++ {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			break // what is left of a line was not acknowledged
		}
		name, number := "", 0
		if _, err := fmt.Sscan(line, &name, &number); err != nil {
			t.Errorf("the writer said %q", line)
			kill()
		} else if name != "open" {
			acked[name] = max(acked[name], number)
		}
		if n == lines {
			kill()
		}
	}
	_ = cmd.Wait() // it was killed
}

// TestAPowerFailureLosesNoAcknowledgedCommit runs the workload on a file system
// in memory that knows what was synced, and takes copies that hold all of that
// and of the rest nothing, something, or all.
func TestAPowerFailureLosesNoAcknowledgedCommit(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	fs, acked := vfs.NewCrashableMem(), map[string]int{}
	for round := range 6 {
		opts := crashOptions()
		opts.fs = fs
		s := open(t, "/data/store", opts)
		verify(t, s, acked)
		fs = runAndCrash(t, s, fs, 50+r.IntN(200), vfs.CrashCloneCfg{UnsyncedDataPercent: round % 3 * 50, RNG: r}, acked)
		mustClose(t, s)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	opts := crashOptions()
	opts.fs = fs
	s := open(t, "/data/store", opts)
	verify(t, s, acked)
	mustClose(t, s)
	t.Logf("last commits %v", acked)
}

// runAndCrash runs the workload until so many commits were acknowledged, notes
// them in acked, and returns a copy of fs that is taken in the middle of it.
func runAndCrash(t *testing.T, s store.Store, fs *vfs.MemFS, commits int, cfg vfs.CrashCloneCfg, acked map[string]int) *vfs.MemFS {
	t.Helper()
	var mu sync.Mutex // guards acked, commits and crashed
	var crashed *vfs.MemFS
	err := runWriters(s, func(name string, number int) bool {
		mu.Lock()
		defer mu.Unlock()
		if crashed != nil {
			return false
		}
		acked[name] = max(acked[name], number)
		if commits--; commits == 0 {
			crashed = fs.CrashClone(cfg)
		}
		return crashed == nil
	})
	if err != nil {
		t.Error(err)
	}
	return crashed
}
