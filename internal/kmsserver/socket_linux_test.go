package kmsserver

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func listenAt(t *testing.T, path string) *socket {
	t.Helper()
	ln, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*socket)
}

// The mode is there with the file: nobody changes it after the bind.
func TestASocketIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kms.sock")
	listenAt(t, path)
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestNothingButADeadSocketIsReplaced(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	os.WriteFile(at("file"), []byte("x"), 0o600)
	os.Mkdir(at("dir"), 0o700)
	os.Symlink(at("nowhere"), at("dangling"))
	dead := listenAt(t, at("dead"))
	dead.UnixListener.Close() // as a crash leaves it
	os.Symlink(at("dead"), at("link"))
	listenAt(t, at("live"))
	unix.Mkfifo(at("fifo"), 0o600)
	for name, want := range map[string]string{"file": "not a socket", "dir": "not a socket", "dangling": "not a socket", "link": "not a socket", "fifo": "not a socket", "live": "another process"} {
		before, _ := os.Lstat(at(name))
		if _, err := listenUnix(at(name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.Lstat(at(name)); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s was changed: %v", name, err)
		}
	}
	listenAt(t, at("dead"))
	if c, err := net.Dial("unix", at("dead")); err != nil {
		t.Errorf("the replaced socket does not answer: %v", err)
	} else {
		c.Close()
	}
}

// A start waits while another one looks at what is there, and then sees what
// that one made.
func TestStartsLookOneAfterTheOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kms.sock")
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		ln, err := listenUnix(path)
		if err == nil {
			ln.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond): // time to make the mistake
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	unlock()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("the second start: %v", err)
	}
}

func TestOfManyStartsOneListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kms.sock")
	dead := listenAt(t, path)
	dead.UnixListener.Close()
	var all sync.WaitGroup
	won := make(chan net.Listener, 20)
	for range 20 {
		all.Go(func() {
			if ln, err := listenUnix(path); err == nil {
				won <- ln
			}
		})
	}
	all.Wait()
	close(won)
	if len(won) != 1 {
		t.Errorf("%d listen", len(won))
	}
	for ln := range won {
		ln.Close()
	}
}

func TestAClosedSocketTakesItsFileAndNoOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kms.sock")
	first := listenAt(t, path)
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file is left: %v", err)
	}
	second := listenAt(t, path)
	os.Remove(path)
	listenAt(t, path) // somebody else's
	second.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other's file is gone: %v", err)
	}
}

func TestASocketsDirectoryIsNotEverybodys(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kms.sock")
	os.Chmod(dir, 0o777)
	if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), "chmod o-w") {
		t.Errorf("open to all: %v", err)
	}
	os.Chmod(dir, 0o777|os.ModeSticky) // as /tmp is
	listenAt(t, path)
}

func TestASocketsPathIsOneThatTheSystemTakes(t *testing.T) {
	if _, err := listenUnix(filepath.Join(t.TempDir(), strings.Repeat("x", 108))); err == nil || !strings.Contains(err.Error(), "107") {
		t.Errorf("long: %v", err)
	}
	if _, err := listenUnix(filepath.Join(t.TempDir(), "no", "kms.sock")); err == nil {
		t.Error("no directory: no error")
	}
}

func TestThePeersUIDIsTheKernels(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kms.sock")
	ln := listenAt(t, path)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if u, err := peerUID(far); err != nil || u != uint32(os.Getuid()) {
		t.Errorf("%d, %v", u, err)
	}
	near, _ := net.Pipe()
	if _, err := peerUID(near); err == nil {
		t.Error("a pipe has a UID")
	}
}

// passed makes a descriptor of ln, as systemd passes one.
func passed(t *testing.T, ln interface{ File() (*os.File, error) }) string {
	t.Helper()
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(fd)
}

func TestAPassedSocketIsTakenIfItIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kms.sock")
	made, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	os.Chmod(path, 0o660)
	if _, err := inherit(passed(t, made)); err == nil || !strings.Contains(err.Error(), "SocketMode=0600") {
		t.Errorf("a socket that others may use: %v", err)
	}
	os.Chmod(path, 0o600)
	r := newRig(t, func(c *Config) { c.Callers = nil })
	ln, err := r.Listen("fd:"+passed(t, made), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.serve(ln)
	if a := r.do(r.over(unixDial(path)), "GET /healthz", "", ""); a.status != 200 {
		t.Errorf("over it: %d %s", a.status, a.body)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, n := range []string{passed(t, tcp.(*net.TCPListener)), strconv.Itoa(int(file.Fd())), "9999", "0", "-3", "x", ""} {
		if _, err := inherit(n); err == nil || !strings.Contains(err.Error(), "fd:"+n) {
			t.Errorf("fd:%s: %v", n, err)
		}
	}
	if _, err := file.Stat(); err != nil {
		t.Errorf("a descriptor that is no socket was closed: %v", err)
	}
}
