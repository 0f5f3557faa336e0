// Package pgtest runs real PostgreSQL servers for tests: Debian's, or those in
// the directory that KEYFOLD_TEST_POSTGRES_BIN names. They run as an ordinary
// user, listen on the loopback and on a Unix socket, let everybody in, and end
// with the test binary, however it ends.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyfold/keyfold/internal/freeport"
)

// patience is how long anything may take on a machine under load.
const patience = 2 * time.Minute

// Server is one PostgreSQL server with a data directory of its own.
type Server struct {
	Dir  string // data in Dir/data, the Unix socket in Dir, what it logs in Dir/log
	Port int

	bin     string
	release func() // lets go of the port
	run     *exec.Cmd
	ended   chan struct{}
}

// Bin is the directory of the server's programs. Without one the test is skipped,
// and in CI it fails.
func Bin(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("KEYFOLD_TEST_POSTGRES_BIN"); dir != "" {
		return dir
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		Missing(t, "PostgreSQL", "postgresql")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1])
}

// Missing skips the test for want of a Debian package, or fails it in CI.
func Missing(t testing.TB, what, pkg string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not there: apt-get install %s", what, pkg)
	}
	t.Skipf("%s is not there: apt-get install %s", what, pkg)
}

var shared struct {
	sync.Mutex
	server *Server
}

// Shared is a server that all tests of this binary use, each with databases of
// its own. Nobody may stop it.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		s := create(t)
		s.Start(t)
		shared.server = s
	}
	return shared.server
}

// URL is that of a new, empty database of the shared server, which is dropped
// after the test.
func URL(t testing.TB) string {
	t.Helper()
	return Shared(t).Database(t)
}

// New is a server of the test's own, running, with lines for its configuration.
func New(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := create(t)
	s.cleanUp(t)
	s.Configure(t, settings...)
	s.Start(t)
	return s
}

func (s *Server) cleanUp(t testing.TB) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the database's log:\n%s", s.Log(t))
		}
		s.Kill(t)
		s.release()
		os.RemoveAll(s.Dir)
	})
}

// create makes a data directory.
func create(t testing.TB) *Server {
	t.Helper()
	s := prepare(t)
	s.must(t, "initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	s.Configure(t, "max_connections = 200", "max_wal_senders = 10", "log_min_messages = log", "log_min_error_statement = panic")
	s.settle(t)
	return s
}

// prepare makes a directory and takes a port.
func prepare(t testing.TB) *Server {
	t.Helper()
	bin := Bin(t)
	dir, err := os.MkdirTemp(root(t), "")
	if err == nil {
		err = give(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	addr, release, err := freeport.Hold()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return &Server{Dir: dir, Port: n, bin: bin, release: release}
}

// settle names the port and the socket of this server, after a copy of another's
// configuration too.
func (s *Server) settle(t testing.TB) {
	s.Configure(t, "listen_addresses = '127.0.0.1'", fmt.Sprint("port = ", s.Port), fmt.Sprintf("unix_socket_directories = '%s'", s.Dir))
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

// Configure adds lines to the configuration. They count from the next start or
// reload on.
func (s *Server) Configure(t testing.TB, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// SyncTo has commits wait from now on for a standby of one of these names; "": for none.
func (s *Server) SyncTo(t testing.TB, names string) {
	t.Helper()
	s.Configure(t, "synchronous_standby_names = '"+names+"'")
	s.Exec(t, "postgres", "SELECT pg_reload_conf()")
	s.Wait(t, "SELECT current_setting('synchronous_standby_names')", names)
	s.Exec(t, "postgres", "CHECKPOINT") // who commits is told by the checkpointer, once that has read it
}

// Write puts a file into the data directory, for the server's user alone.
func (s *Server) Write(t testing.TB, name string, data []byte) {
	t.Helper()
	path := filepath.Join(s.data(), name)
	if err := errors.Join(os.WriteFile(path, data, 0o600), give(path)); err != nil {
		t.Fatal(err)
	}
}

// Start starts the server and waits until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := s.command("postgres", "-D", s.data())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	s.run, s.ended = cmd, ended
	s.Wait(t, "SELECT 1", "1")
}

// Wait asks again and again until the server answers as wanted.
func (s *Server) Wait(t testing.TB, sql, want string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got, err := s.query("postgres", sql)
		if err == nil && got == want {
			return
		}
		select {
		case <-s.ended:
			t.Fatalf("the database ended by itself:\n%s", s.Log(t))
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %q, %v; want %q. The database's log:\n%s", sql, got, err, want, s.Log(t))
		}
	}
}

// Log is what the server said.
func (s *Server) Log(t testing.TB) string {
	b, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// Kill ends the server as a power failure would, but for the system's caches: no
// process of it runs any more when Kill returns.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if s.run == nil {
		return
	}
	s.signal(syscall.SIGSTOP) // so that it starts no others
	children := s.children()
	for _, pid := range append(children, s.run.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-s.ended
	for end := time.Now().Add(patience); slices.ContainsFunc(children, alive); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a process of the database cannot be killed")
		}
	}
	s.run = nil
}

// Stop ends the server, cutting its connections.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.run.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-s.ended
	s.run = nil
}

// Pause stops all processes of the server until Resume, as if its machine hung.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	_ = syscall.Kill(s.run.Process.Pid, sig)
	for _, pid := range s.children() {
		_ = syscall.Kill(pid, sig)
	}
}

// Standby makes a standby of s and starts it; from then on s acknowledges a
// commit when the standby has it on its disk too.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	if _, err := os.Stat(filepath.Join(s.bin, "pg_basebackup")); err != nil {
		t.Skip("these programs of PostgreSQL have no pg_basebackup")
	}
	next := prepare(t)
	next.cleanUp(t)
	next.must(t, "pg_basebackup", "-D", next.data(), "-h", s.Dir, "-p", fmt.Sprint(s.Port), "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync")
	next.settle(t)
	next.Configure(t, "cluster_name = 'standby'", "synchronous_standby_names = ''")
	next.Start(t)
	s.SyncTo(t, "standby")
	s.Wait(t, "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'standby'", "sync")
	return next
}

// Promote makes a standby the primary.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.Exec(t, "postgres", "SELECT pg_promote(true, 120)")
	s.Wait(t, "SELECT pg_is_in_recovery()", "f")
}

// Address is that of a database over TCP.
func (s *Server) Address(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.Port, database)
}

// SocketAddress is that of a database over the Unix socket.
func (s *Server) SocketAddress(database string) string {
	return fmt.Sprintf("postgres:///%s?host=%s&port=%d&user=postgres", database, s.Dir, s.Port)
}

var databases atomic.Int64

// Database makes an empty database, dropped after the test, and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	return s.Address(s.NewDatabase(t))
}

// NewDatabase makes an empty database, dropped after the test, and returns its name.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	name := fmt.Sprint("test", databases.Add(1))
	s.Exec(t, "postgres", "CREATE DATABASE "+name)
	t.Cleanup(func() {
		if s.run != nil {
			_, _ = s.query("postgres", "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		}
	})
	return name
}

// Exec runs statements in a database and returns the first value of the last.
func (s *Server) Exec(t testing.TB, database, sql string) string {
	t.Helper()
	got, err := s.query(database, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func (s *Server) query(database, sql string) (string, error) {
	return query(s.SocketAddress(database), sql)
}

func query(url, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 || len(results[len(results)-1].Rows) == 0 {
		return "", err
	}
	return string(results[len(results)-1].Rows[0][0]), nil
}

// must runs a program of the server's to its end.
func (s *Server) must(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = s.Dir, ordinary()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	return cmd
}

// ordinary starts a process in a session of its own and, when we are root, as a
// user who is not, since PostgreSQL refuses root.
func ordinary() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if uid, gid, ok := servant(); ok {
		attr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	}
	return attr
}

// servant is the user for servers when we are root.
func servant() (uid, gid uint32, ok bool) {
	if os.Getuid() != 0 {
		return 0, 0, false
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			return uint32(uid), uint32(gid), true
		}
	}
	return 65534, 65534, true
}

// give makes the servers' user the owner of a file.
func give(path string) error {
	if uid, gid, ok := servant(); ok {
		return os.Chown(path, int(uid), int(gid))
	}
	return nil
}

// root is the directory of all servers of this test binary. A shell waits for the
// end of the binary, by its end of a pipe, and then ends the servers and removes
// the directory.
func root(t testing.TB) string {
	t.Helper()
	dir, err := makeRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var makeRoot = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kfpg")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	var ends [2]int // the second is never closed: the system does so when this process is gone
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return "", err
	}
	shell := exec.Command("/bin/sh", "-c", reaper, "reaper", dir)
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	shell.Stdin = os.NewFile(uintptr(ends[0]), "leash")
	return dir, shell.Start()
})

const reaper = `cat >/dev/null
for f in "$1"/*/data/postmaster.pid "$1"/*/bouncer.pid; do
	[ -f "$f" ] && kill -9 "$(head -n 1 "$f")"
done
sleep 1
rm -rf "$1" || { sleep 5; rm -rf "$1"; }`

// children lists the processes that the server started.
func (s *Server) children() (out []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if stat := processStat(pid); len(stat) > 1 && stat[1] == strconv.Itoa(s.run.Process.Pid) {
			out = append(out, pid)
		}
	}
	return out
}

func alive(pid int) bool {
	stat := processStat(pid)
	return len(stat) > 0 && stat[0] != "Z"
}

// processStat is what /proc says of a process from its state on: state, parent
// and so on; nothing when it is gone.
func processStat(pid int) []string {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}

// CPU is the time that the server's processes have used, those that have ended
// included.
func (s *Server) CPU() time.Duration {
	ticks := 0
	add := func(pid int, fields ...int) {
		stat := processStat(pid)
		for _, f := range fields {
			if f < len(stat) {
				n, _ := strconv.Atoi(stat[f])
				ticks += n
			}
		}
	}
	const user, system, endedUser, endedSystem = 11, 12, 13, 14
	add(s.run.Process.Pid, user, system, endedUser, endedSystem)
	for _, pid := range s.children() {
		add(pid, user, system)
	}
	return time.Duration(ticks) * time.Second / 100
}
