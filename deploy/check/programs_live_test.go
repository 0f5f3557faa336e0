package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// certs returns the directory of development certificates, as the directions say
// to make them.
func certs(t *testing.T) string {
	t.Helper()
	dir, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "tls")
}

var made = sync.OnceValues(func() (string, error) {
	dir, err := bin()
	if err != nil {
		return "", err
	}
	keys := filepath.Join(dir, "made")
	out, err := exec.Command(filepath.Join(dir, "keyfold-kms"), "init", "--data-dir", filepath.Join(keys, "kms"), "--tls", "--name", "kms-1,kms-2", "--agent", "keyfold-probe").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return keys, err
})

// TestBothProgramsStartAsTheyAreDeployed runs a key process and a server with the
// arguments and variables of each deployment, on a machine of one: files and ports
// are others, and the stores are on the disk, so that no database is needed.
func TestBothProgramsStartAsTheyAreDeployed(t *testing.T) {
	p, err := projectOf(t, read(t, composeDir, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	composeServer, _ := ours(p.Services["server-1"])
	composeKMS, _ := ours(p.Services["kms-1"])
	pods := podsOf(t, objects(t, manifests(t)))
	for name, pair := range map[string][2]run{
		"compose":    {composeKMS, composeServer},
		"kubernetes": {runsOf(pods["keyfold-kms"])[0], runsOf(pods["keyfold"])[0]},
	} {
		t.Run(name, func(t *testing.T) { startAsDeployed(t, pair[0], pair[1]) })
	}
}

// startAsDeployed runs one pair of both programs.
func startAsDeployed(t *testing.T, kms, server run) {
	dir := t.TempDir()
	kmsPort := holdPort(t)
	local := func(r run, files map[string]string) {
		for name, value := range r.env {
			if file, ok := files[name]; ok {
				r.env[name] = file
			} else if strings.HasPrefix(value, "/run/") {
				t.Errorf("%s: %s names %s, which this test does not know", r.where, name, value)
			}
		}
		delete(r.env, "KEYFOLD_STORE_FILE")
		delete(r.env, "KEYFOLD_KMS_STORE_FILE")
	}
	tls := func(name string) string { return filepath.Join(certs(t), name) }
	root := filepath.Join(dir, "root.key")
	keys := filepath.Join(filepath.Dir(certs(t)), "root.key")
	write(t, root, read(t, keys), 0o400)
	local(kms, map[string]string{
		"KEYFOLD_KMS_DATA_DIR": filepath.Join(dir, "kms"), "KEYFOLD_KMS_ROOT_FILE": root, "KEYFOLD_KMS_STORE_FILE": "",
		"KEYFOLD_KMS_TLS_CERT": tls("server.crt"), "KEYFOLD_KMS_TLS_KEY": tls("server.key"), "KEYFOLD_KMS_TLS_CA": tls("ca.crt"),
		"KEYFOLD_KMS_CERT": tls("keyfold-probe.crt"), "KEYFOLD_KMS_KEY": tls("keyfold-probe.key"), "KEYFOLD_KMS_CA": tls("ca.crt"),
		"KEYFOLD_KMS_ENDPOINT": "127.0.0.1:" + kmsPort,
	})
	const token = "0123456789abcdef0123456789abcdef"
	metrics := filepath.Join(dir, "metrics.token")
	write(t, metrics, token+"\n", 0o400)
	local(server, map[string]string{
		"KEYFOLD_METRICS_TOKEN_FILE": metrics,
		"KEYFOLD_DATA":               filepath.Join(dir, "data"), "KEYFOLD_STORE_FILE": "", "KEYFOLD_ADDR": "127.0.0.1:0",
		"KEYFOLD_KMS":      "https://localhost:" + kmsPort + ",https://localhost:" + holdPort(t), // the other is away
		"KEYFOLD_KMS_CERT": tls("keyfold-server.crt"), "KEYFOLD_KMS_KEY": tls("keyfold-server.key"), "KEYFOLD_KMS_CA": tls("ca.crt"),
	})

	if out, err := command(t, kms, "init").CombinedOutput(); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	start(t, command(t, kms, kms.args...))
	if out, err := command(t, server, "server", "check").CombinedOutput(); err != nil || strings.Contains(string(out), "kms") {
		t.Errorf("keyfold server check: %v\n%s", err, out)
	}
	url := start(t, command(t, server, server.args...))
	for path, says := range map[string]string{"/readyz": "ok", "/admin/debug/prometheus": "keyfold_store_operations_total"} {
		if status, body := get(t, http.DefaultClient, url+path, "Authorization", "Bearer "+token); status != http.StatusOK || !strings.Contains(body, says) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// command runs a program with the variables of r, and no others of ours.
func command(t *testing.T, r run, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, r.program), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	for name, value := range r.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// start runs cmd until the test ends, waits until it listens, and returns where.
func start(t *testing.T, cmd *exec.Cmd) (where string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listens, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, at, ok := strings.Cut(lines.Text(), " listens on "); ok {
				listens <- at
			}
		}
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	select {
	case where = <-listens:
	case <-ended:
		t.Fatalf("%s ended: %s", cmd, stderr.String())
	case <-ctx.Done():
		t.Fatalf("%s does not listen", cmd)
	}
	return where
}

// holdPort returns a port of the loopback that the system gives to nobody else until
// the test ends: a socket is bound to it and does not listen, as in internal/freeport.
func holdPort(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	err = errors.Join(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1),
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, nameErr := syscall.Getsockname(fd)
	if err = errors.Join(err, nameErr); err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(at.(*syscall.SockaddrInet4).Port)
}
