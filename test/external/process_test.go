package external

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"github.com/keyfold/keyfold/test/programs"
	"io"
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

// patience is how long a process may take to do what it must; a test that runs
// into it fails.
const patience = 2 * time.Minute

// server is a running `keyfold dev`.
type server struct {
	t        testing.TB
	dir, url string
	key      string // the owner's API key
	cmd      *exec.Cmd
	output   output
	ended    chan struct{} // closed when the process has ended
	client   http.Client
}

// dev starts `keyfold dev` on dir and waits until it answers. Env is added to a
// clean environment.
func dev(t testing.TB, dir string, env []string, args ...string) *server {
	t.Helper()
	s := launch(t, dir, env, args...)
	file := filepath.Join(dir, "dev.json")
	s.await("dev.json", func() bool {
		if s.gone() {
			t.Fatalf("keyfold dev ended: %s", s.output.String())
		}
		_, err := os.Stat(file)
		return err == nil
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		URL string `json:"url"`
		Key string `json:"api_key"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		t.Fatal(err)
	}
	s.url, s.key = said.URL, said.Key
	return s
}

// launch starts `keyfold dev` and does not wait.
func launch(t testing.TB, dir string, env []string, args ...string) *server {
	t.Helper()
	os.Remove(filepath.Join(dir, "dev.json")) // of one that was killed
	s := &server{t: t, dir: dir, ended: make(chan struct{}), client: http.Client{Timeout: patience}}
	s.cmd = exec.Command(filepath.Join(programs.Dir(t), "keyfold"), append([]string{"dev", "--addr", "127.0.0.1:0", "--data", dir}, args...)...)
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "KEYFOLD_LOG=debug"}, env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	s.cmd.WaitDelay = time.Second // for a key process that outlives its server and keeps our pipe
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		s.signal(syscall.SIGKILL)
		<-s.ended
		if t.Failed() {
			text := s.output.String()
			t.Logf("the end of what %s said: %s", dir, text[max(0, len(text)-4000):])
		}
	})
	return s
}

func (s *server) signal(sig syscall.Signal) { s.cmd.Process.Signal(sig) }

func (s *server) gone() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// stop ends the server in order.
func (s *server) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	<-s.ended
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("keyfold dev ended with %d", code)
	}
}

// await waits until ok.
func (s *server) await(what string, ok func() bool) {
	s.t.Helper()
	for until := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			s.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// kms returns the process ID of the server's keyfold-kms, 0 when it has none.
func (s *server) kms() int { return childOf(s.cmd.Process.Pid) }

// childOf returns the child of a process, 0 when there is none that runs.
func childOf(parent int) int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if state, of := status(pid); state != "" && of == parent {
			return pid
		}
	}
	return 0
}

func alive(pid int) bool {
	state, _ := status(pid)
	return state != ""
}

// status returns a running process's state and parent. The state is "" when it
// has ended.
func status(pid int) (state string, parent int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// pid (name) state ppid ...; the name may hold spaces.
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 2 || f[0] == "Z" {
		return "", 0
	}
	parent, _ = strconv.Atoi(f[1])
	return f[0], parent
}

// call makes one request and returns status and body; status 0 is an error of
// the connection.
func (s *server) call(method, path, body string) (int, string) {
	return s.callOnce(method, path, body, "")
}

// callOnce is call with an idempotency key; "": none.
func (s *server) callOnce(method, path, body, key string) (int, string) {
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(text)
}

// must is call for one that succeeds.
func (s *server) must(method, path, body string) string {
	s.t.Helper()
	status, text := s.call(method, path, body)
	if status < 200 || status > 299 {
		s.t.Fatalf("%s %s = %d %s", method, path, status, text)
	}
	return text
}

// id is the "id" of an answer.
func (s *server) id(answer string) string {
	s.t.Helper()
	var v struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(answer), &v); err != nil || v.ID == "" {
		s.t.Fatalf("no id: %s", answer)
	}
	return v.ID
}

func (s *server) vault() string {
	s.t.Helper()
	return "/v1/vaults/" + s.id(s.must("POST", "/v1/vaults", `{"name":"v"}`))
}

func (s *server) thread() string {
	s.t.Helper()
	return "/v1/threads/" + s.id(s.must("POST", "/v1/threads", `{}`)) + "/messages"
}

// ready reports whether /readyz says so.
func (s *server) ready() bool {
	status, _ := s.call("GET", "/readyz", "")
	return status == 200
}

// bodies reads a thread in full: bodies that are strings, in order.
func (s *server) bodies(thread string) (all []string, err error) {
	for last := strings.Repeat("0", 19) + "1-000000"; ; {
		status, text := s.call("GET", thread+"?limit=1000&after="+last, "")
		var page struct {
			Messages []struct{ ID, Body string } `json:"messages"`
		}
		if err := json.Unmarshal([]byte(text), &page); status != 200 || err != nil {
			return nil, fmt.Errorf("GET %s = %d %.300s", thread, status, text)
		}
		if len(page.Messages) == 0 {
			return all, nil
		}
		for _, m := range page.Messages {
			all, last = append(all, m.Body), m.ID
		}
	}
}

// value reads a secret.
func (s *server) value(path string) (string, error) {
	status, text := s.call("GET", path, "")
	var v struct{ Value string }
	if err := json.Unmarshal([]byte(text), &v); status != 200 || err != nil {
		return "", errors.Join(fmt.Errorf("GET %s = %d %.300s", path, status, text), err)
	}
	return v.Value, nil
}

// output is what a process says, read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// shortDir is a directory whose path leaves room for a socket's.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
