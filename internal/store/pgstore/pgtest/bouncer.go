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
	for name, text := range map[string]string{
		"users": `"postgres" ""` + "\n",
		"ini": fmt.Sprintf(`[databases]
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
`, s.Port, port, dir, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
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
	return func(url string) string { return strings.Replace(url, direct, addr, 1) }
}
