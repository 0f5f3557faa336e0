package pgtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/freeport"
)

// Bouncer is a PgBouncer in transaction mode before a server, until the test ends.
// It returns what turns the URL of one of the server's databases into one that
// goes through it.
func (s *Server) Bouncer(t testing.TB) func(url string) string {
	t.Helper()
	through, _ := s.MovableBouncer(t)
	return through
}

// MovableBouncer is Bouncer, and what leads it to another server, as when a name or an
// address moves. Connections to it live on.
func (s *Server) MovableBouncer(t testing.TB) (through func(url string) string, lead func(to *Server)) {
	t.Helper()
	path := "/usr/sbin/pgbouncer"
	if _, err := os.Stat(path); err != nil {
		Missing(t, "PgBouncer", "pgbouncer")
	}
	dir, err := os.MkdirTemp(root(t), "")
	if err != nil {
		t.Fatal(err)
	}
	addr, release, err := freeport.Hold()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	configure := func(to *Server) { write("ini", fmt.Sprintf(bouncerConfig, to.Port, port, dir, dir)) }
	write("users", `"postgres" ""`+"\n")
	configure(s)
	if err := give(dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, filepath.Join(dir, "ini"))
	cmd.Dir, cmd.SysProcAttr = dir, ordinary()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		release()
		os.RemoveAll(dir)
	})
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	direct := fmt.Sprintf("127.0.0.1:%d", s.Port)
	through = func(url string) string { return strings.Replace(url, direct, addr, 1) }
	return through, func(to *Server) {
		t.Helper()
		configure(to)
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			got, err := query(through(s.Address("postgres")), "SELECT inet_server_port()")
			if err == nil && got == fmt.Sprint(to.Port) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("PgBouncer leads to %q, %v; want %d", got, err, to.Port)
			}
		}
	}
}

const bouncerConfig = `[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = trust
auth_file = %s/users
pool_mode = transaction
default_pool_size = 10
max_client_conn = 500
server_idle_timeout = 5
pidfile = %s/bouncer.pid
`
