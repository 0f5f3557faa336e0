package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
)

// appendUntilKilled is the child of the test below: 8 callers append, and say
// what was answered, one number on a line.
func appendUntilKilled(dir string) {
	l, err := Open(dir, keyOf(1), Options{MaxFile: 20_000})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for caller := range 8 {
		go func() {
			for i := 0; ; i++ {
				target := fmt.Sprintf("%d-%d-%d", os.Getpid(), caller, i)
				if err := l.Record(context.Background(), Event{Actor: "uid:0", Action: "key.use", Target: target}); err != nil {
					os.Exit(2)
				}
				os.Stdout.WriteString(target + "\n")
			}
		}()
	}
	select {}
}

func TestAKillLosesNoAnsweredRecord(t *testing.T) {
	dir := newDir(t)
	answered := map[string]bool{}
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "KEYFOLD_AUDIT_CRASH="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for s := bufio.NewScanner(out); s.Scan(); lines++ {
			if lines == 200+61*round {
				cmd.Process.Kill()
			}
			answered[s.Text()] = true
		}
		cmd.Wait()
		closeLog(t, open(t, dir, Options{}))
		if r := verify(t, dir); !r.OK() || r.Unanswered != 0 || r.TailBytes != 0 {
			t.Fatalf("after round %d: %+v", round, r)
		}
	}
	there := map[string]bool{}
	for _, target := range targets(t, dir) {
		there[target] = true
	}
	for target := range answered {
		if strings.Count(target, "-") != 2 || !there[target] { // or it is an error of the child's
			t.Errorf("%q is not in the log", target)
		}
	}
	if len(answered) < 1000 {
		t.Errorf("only %d records", len(answered))
	}
}

// targets is the target of every record, with its action unless that is key.use.
func targets(t testing.TB, dir string) (all []string) {
	t.Helper()
	v := walker{dir: dir, pub: pubOf(1), unknown: true}
	v.line = func(r row) { all = append(all, r.Target+strings.TrimPrefix(r.Action, "key.use")) }
	v.wrong = func(p Problem) bool { t.Errorf("%s", p); return true }
	files, err := logFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.files(files); err != nil {
		t.Fatal(err)
	}
	return all
}

// A crash while the third group is written leaves any beginning of it, or of
// its length anything else, and the head of the second.
func TestWhatACrashLeftOfAGroupIsKeptWholeOrCutOff(t *testing.T) {
	dir := newDir(t)
	s := &sample{t: t, dir: dir}
	l := open(t, dir, Options{})
	record(t, l, "a")
	record(t, l, "b", "c")
	head, settled := s.read(headName), len(s.read(fileName(1)))
	record(t, l, "d", "e", "f")
	closeLog(t, l)
	whole := s.read(fileName(1))
	for n := settled; n <= len(whole); n++ {
		if n%23 != 0 && !bytes.Contains(whole[n-2:min(n+2, len(whole))], []byte("\n")) {
			continue // of those inside of a line, some
		}
		for _, fill := range []string{"", strings.Repeat("\x00", len(whole)-n), strings.Repeat("\n", len(whole)-n)} {
			s.write(headName, head)
			left := append(bytes.Clone(whole[:n]), fill...)
			s.write(fileName(1), left)
			want := []string{"a", "b", "c"}
			if bytes.Equal(left, whole) {
				want = append(want, "d", "e", "f")
			}
			unsettled := verify(t, dir)
			if !unsettled.OK() || unsettled.Unanswered != uint64(len(want)-3) {
				t.Fatalf("%d bytes, before it is opened: %+v", n, unsettled)
			}
			l := open(t, dir, Options{})
			closeLog(t, l)
			if n+len(fill) > settled {
				want = append(want, "audit.recover")
			}
			if got := targets(t, dir); !slices.Equal(got, want) {
				t.Fatalf("%d bytes and %d: %q, want %q", n, len(fill), got, want)
			}
			mustVerify(t, dir, uint64(len(want)))
		}
	}
}

func TestARecoveryIsRecordedWithWhatItCut(t *testing.T) {
	dir := newDir(t)
	s := &sample{t: t, dir: dir}
	l := open(t, dir, Options{})
	record(t, l, "a")
	closeLog(t, l)
	s.write(fileName(1), append(s.read(fileName(1)), "torn"...))
	b := s.read(headName)
	copy(b, make([]byte, slotSize)) // the older slot, torn
	s.write(headName, b)
	closeLog(t, open(t, dir, Options{}))
	const want = `"actor":"process","action":"audit.recover","detail":{"bytes_cut":4,"head_slots_mended":1,"records_kept":0}`
	if text := string(s.read(fileName(1))); !strings.Contains(text, want) {
		t.Errorf("the log is\n%s", text)
	}
	mustVerify(t, dir, 2)
}

// A crash right after a file was begun leaves it empty.
func TestAnEmptyLastFileIsGoneOnWith(t *testing.T) {
	s := newSample(t)
	s.write(fileName(13), nil)
	mustVerify(t, s.dir, 12)
	l := open(t, s.dir, Options{})
	record(t, l, "a")
	closeLog(t, l)
	mustVerify(t, s.dir, 13)
	if len(s.read(fileName(13))) == 0 {
		t.Error("the record is not in the empty file")
	}
}

func TestALogIsTakenByOneAtATime(t *testing.T) {
	dir := newDir(t)
	l := open(t, dir, Options{})
	if _, err := Open(dir, keyOf(1), Options{}); !errors.Is(err, fault.Conflict) {
		t.Errorf("a second time: %v", err)
	}
	closeLog(t, l)
	closeLog(t, open(t, dir, Options{}))
}

func TestADirectoryIsPrivate(t *testing.T) {
	dir := newDir(t)
	l := open(t, dir, Options{})
	record(t, l, "a")
	closeLog(t, l)
	for name, mode := range map[string]os.FileMode{"": os.ModeDir | 0o700, headName: 0o600, fileName(1): 0o600} {
		if info, err := os.Stat(dir + "/" + name); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, keyOf(1), Options{}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a directory that others can read: %v", err)
	}
}

var errDisk = errors.New("the disk fails")

// faulty fails the n-th operation on the files of a log, which took effect, did
// not, or did in part.
type faulty struct {
	mu     sync.Mutex
	n      int
	effect int // 0: none, 1: half, 2: whole
}

type faultyFile struct {
	file
	f *faulty
}

func (f *faulty) fails() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
	return f.n == 0
}

func (f faultyFile) Write(b []byte) (int, error) {
	if !f.f.fails() {
		return f.file.Write(b)
	}
	f.file.Write(b[:len(b)*f.f.effect/2])
	return 0, errDisk
}

func (f faultyFile) WriteAt(b []byte, offset int64) (int, error) {
	if !f.f.fails() {
		return f.file.WriteAt(b, offset)
	}
	f.file.WriteAt(b[:slotSize*f.f.effect/2], offset)
	return 0, errDisk
}

func (f faultyFile) Sync() error {
	if f.f.fails() {
		return errDisk
	}
	return f.file.Sync()
}

// Whatever operation fails, and whether it took effect or not: the call fails
// and every later one, and the log that is opened again is whole and has all
// that was answered.
func TestAFailureStopsTheLogUntilItIsOpenedAgain(t *testing.T) {
	for n := 1; ; n++ {
		reached := false
		for effect := range 3 {
			dir := newDir(t)
			f := &faulty{n: n, effect: effect}
			l, err := Open(dir, keyOf(1), Options{MaxFile: 600, wrap: func(w file) file { return faultyFile{w, f} }})
			if err != nil {
				t.Fatal(err)
			}
			var answered []string
			failures := 0
			for i := range 7 {
				target := strconv.Itoa(i)
				err := l.Record(t.Context(), Event{Actor: "uid:0", Action: "key.use", Target: target})
				if err == nil {
					answered = append(answered, target)
					if failures > 0 {
						t.Fatalf("operation %d, effect %d: a record is taken after a failure", n, effect)
					}
				} else if failures++; !errors.Is(err, fault.Unavailable) || strings.Contains(err.Error(), dir) {
					t.Fatalf("operation %d: %v", n, err)
				}
			}
			if said := l.Err() != nil; said != (failures > 0) {
				t.Errorf("operation %d, effect %d: Err is %v after %d failures", n, effect, l.Err(), failures)
			}
			l.Close()
			reached = reached || failures > 0
			if r := verify(t, dir); failures > 0 && effect != 1 && !r.OK() {
				t.Errorf("operation %d, effect %d: %+v", n, effect, r)
			}
			closeLog(t, open(t, dir, Options{}))
			if r := verify(t, dir); !r.OK() || r.TailBytes+int64(r.Unanswered) != 0 {
				t.Fatalf("operation %d, effect %d, opened again: %+v", n, effect, r)
			}
			if got := targets(t, dir); !slices.Equal(got[:len(answered)], answered) {
				t.Errorf("operation %d, effect %d: %q of %q", n, effect, got, answered)
			}
		}
		if !reached {
			if n < 7*4 {
				t.Errorf("only %d operations", n)
			}
			return
		}
	}
}
