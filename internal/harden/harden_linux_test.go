package harden

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary plays the roles of other processes.
const roleEnv = "KEYFOLD_HARDEN_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role, arg, _ := strings.Cut(os.Getenv(roleEnv), " "); role {
	case "":
		os.Exit(m.Run())
	case "holder":
		hold(arg)
	case "thief":
		steal(arg)
	}
}

const nobody = 65534

// becomeOrdinary gives up root for good, and makes the process as open to
// others of its user as one that never had it.
func becomeOrdinary() {
	if os.Geteuid() == 0 {
		must(errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)))
	}
	must(unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0))
	_ = unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0) // so that Yama, where there is one, forbids nothing
}

// heldState is what a holder tells of itself.
type heldState struct {
	Missing  []string
	Core     unix.Rlimit
	Dumpable int
	LockedKB int64 // after Apply
	FreshKB  int64 // taken since, and locked
}

// hold is a process that has something in its memory. how is words: ordinary
// (not root), small (64 KiB of memory may be locked), open (without Apply).
func hold(how string) {
	ways := strings.Fields(how)
	if slices.Contains(ways, "small") {
		must(unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 64 << 10, Max: 64 << 10}))
	}
	if slices.Contains(ways, "ordinary") {
		becomeOrdinary()
	}
	var s heldState
	if !slices.Contains(ways, "open") {
		s.Missing = Apply()
	}
	s.LockedKB = status("VmLck", 10)
	work()
	s.FreshKB = status("VmLck", 10) - s.LockedKB
	must(unix.Getrlimit(unix.RLIMIT_CORE, &s.Core))
	s.Dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	must(json.NewEncoder(os.Stdout).Encode(s))
	_, err := io.Copy(io.Discard, os.Stdin) // until the test lets go
	must(err)
}

// work takes much more memory than the small limit, and starts threads.
func work() {
	done := make(chan []byte)
	for range 8 {
		go func() {
			runtime.LockOSThread()
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			done <- b
		}()
	}
	for range 8 {
		<-done
	}
}

// status is a line of /proc/self/status, as a number.
func status(name string, base int) int64 {
	text, err := os.ReadFile("/proc/self/status")
	must(err)
	_, rest, _ := strings.Cut(string(text), "\n"+name+":")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], base, 64)
	must(err)
	return n
}

// steal is an ordinary process that tries to read the memory of process pid.
func steal(pid string) {
	becomeOrdinary()
	runtime.LockOSThread() // the tracer is a thread
	var got []string
	if f, err := os.Open("/proc/" + pid + "/mem"); err == nil {
		f.Close()
		got = append(got, "mem")
	}
	n, err := strconv.Atoi(pid)
	must(err)
	if unix.PtraceSeize(n) == nil {
		got = append(got, "ptrace")
	}
	fmt.Print(strings.Join(got, " "))
}

func must(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// play returns the test binary in a role.
func play(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// start starts a holder, which runs until the end of the test.
func start(t *testing.T, how string) (pid int, s heldState) {
	t.Helper()
	cmd := play(t, "holder "+how)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the holder (%s) ended with %v", how, err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err := errors.Join(err, json.Unmarshal(line, &s)); err != nil {
		t.Fatalf("the holder (%s) said %q: %v", how, line, err)
	}
	return cmd.Process.Pid, s
}

// says reports whether one of the sentences holds all of words.
func says(sentences []string, words ...string) bool {
	return slices.ContainsFunc(sentences, func(s string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(s, w) })
	})
}

func TestAHardenedProcessLeavesNoCoreAndIsNotDumpable(t *testing.T) {
	for _, how := range []string{"", "ordinary", "ordinary small"} {
		if _, s := start(t, how); s.Core != (unix.Rlimit{}) || s.Dumpable != 0 {
			t.Errorf("%q: core limit %v, dumpable %d; want 0, 0 and 0", how, s.Core, s.Dumpable)
		}
	}
	if _, s := start(t, "ordinary open"); s.Dumpable != 1 {
		t.Errorf("without Apply: dumpable %d; the test cannot tell", s.Dumpable)
	}
}

func TestMemoryIsLockedWhereNoLimitAppliesAndElseItSaysSo(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		t.Fatal(err)
	}
	unlimited := limit.Max == unix.RLIM_INFINITY
	privileged := status("CapEff", 16)&(1<<unix.CAP_IPC_LOCK) != 0
	for how, want := range map[string]bool{"": unlimited || privileged, "ordinary": unlimited, "ordinary small": false} {
		_, s := start(t, how)
		told := says(s.Missing, "memory is not locked", "LimitMEMLOCK=infinity")
		if locked := s.LockedKB > 0; locked != want || told == want {
			t.Errorf("%q: %d KiB locked, said so: %t %q; want locked: %t", how, s.LockedKB, told, s.Missing, want)
		}
		if want && s.FreshKB <= 0 {
			t.Errorf("%q: what was taken after Apply is not locked", how)
		}
	}
}

func TestAnotherProcessOfTheUserReadsNoMemoryOfAHardenedOne(t *testing.T) {
	for how, want := range map[string]string{"ordinary open": "mem ptrace", "ordinary": ""} {
		pid, _ := start(t, how)
		got, err := play(t, "thief "+strconv.Itoa(pid)).Output()
		if err != nil || string(got) != want {
			t.Errorf("a thief of a process (%s) got %q, %v; want %q", how, got, err, want)
		}
	}
}
