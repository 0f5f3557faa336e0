package allinone

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

const canary = "plaintext-canary-a11"

// running is a node that listens, and a user of it.
type running struct {
	*Node
	t      *testing.T
	url    string
	served chan error
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Node: n, t: t, url: "http://" + ln.Addr().String(), served: make(chan error, 1)}
	go func() { r.served <- n.Serve(ln) }()
	t.Cleanup(func() { n.Close(context.Background()) })
	return r
}

// stop closes the node and waits until nothing of it runs.
func (r *running) stop() {
	r.t.Helper()
	if err := r.Close(context.Background()); err != nil {
		r.t.Errorf("Close: %v", err)
	}
	if err := <-r.served; err != nil {
		r.t.Errorf("Serve: %v", err)
	}
}

// user makes a user with a key.
func (r *running) user() (key string) {
	r.t.Helper()
	ctx := r.t.Context()
	org, err := r.Identity.CreateOrg(ctx, "org", access.Enterprise)
	if err != nil {
		r.t.Fatal(err)
	}
	u, err := r.Identity.CreateUser(ctx, org.ID, "u@example.com")
	if err != nil {
		r.t.Fatal(err)
	}
	if key, err = r.Identity.CreateAPIKey(ctx, u.ID); err != nil {
		r.t.Fatal(err)
	}
	return key
}

func (r *running) call(key, method, path, body string) (int, string) {
	r.t.Helper()
	req, _ := http.NewRequest(method, r.url+path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+key)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// fill writes a secret and a message with the canary and returns how to read them.
func (r *running) fill(key string) (paths []string) {
	r.t.Helper()
	id := func(body string) string {
		_, rest, _ := strings.Cut(body, `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		return id
	}
	_, v := r.call(key, "POST", "/v1/vaults", `{"name":"v"}`)
	_, th := r.call(key, "POST", "/v1/threads", `{}`)
	paths = []string{"/v1/vaults/" + id(v) + "/secrets/a", "/v1/threads/" + id(th) + "/messages"}
	r.call(key, "PUT", paths[0], `{"value":"`+canary+`"}`)
	r.call(key, "POST", paths[1], `{"body":"`+canary+`"}`)
	r.readable(key, paths)
	return paths
}

func (r *running) readable(key string, paths []string) {
	r.t.Helper()
	for _, p := range paths {
		if status, body := r.call(key, "GET", p, ""); status != 200 || !strings.Contains(body, canary) {
			r.t.Errorf("GET %s = %d %s", p, status, body)
		}
	}
}

func TestASecondStartKeepsTheData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	r := start(t, Config{DataDir: dir})
	key := r.user()
	paths := r.fill(key)
	r.stop()
	r = start(t, Config{DataDir: dir})
	r.readable(key, paths)
	r.stop()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			if info.Mode().Perm() != 0o700 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return nil
		}
		files++
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(canary)) || bytes.Contains(text, []byte(key)) {
			t.Errorf("%s holds a plaintext", path)
		}
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("looked at %d files: %v", files, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "root.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("root.key: %v, %v", info, err)
	}
}

func TestAMissingRootKeyIsNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	r := start(t, Config{DataDir: dir})
	key := r.user()
	paths := r.fill(key)
	r.stop()
	root := filepath.Join(dir, "root.key")
	away := filepath.Join(t.TempDir(), "away")
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(why string) {
		t.Helper()
		n, err := Open(t.Context(), Config{DataDir: dir})
		if err == nil {
			n.Close(context.Background())
			t.Fatalf("opened; want an error with %q", why)
		}
		if !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "restore") {
			t.Errorf("error is %v, want %q and what to do", err, why)
		}
	}

	move(root, away)
	refused("root.key is missing")
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a new root key was made over old keys")
	}

	wrong := t.TempDir() // has a root key, but not the one
	start(t, Config{DataDir: wrong}).stop()
	move(filepath.Join(wrong, "root.key"), root)
	if _, err := Open(t.Context(), Config{DataDir: dir}); err == nil {
		t.Error("opened under another root key")
	}

	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	kms := filepath.Join(dir, "kms")
	move(kms, kms+".away")
	refused("has lost the keys")

	if err := os.RemoveAll(kms); err != nil {
		t.Fatal(err)
	}
	move(kms+".away", kms)
	move(away, root)
	r = start(t, Config{DataDir: dir})
	r.readable(key, paths)
}

func TestARootKeyThatOthersCanReadIsRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, Config{DataDir: dir}).stop()
	if err := os.Chmod(filepath.Join(dir, "root.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Open = %v, want the command that mends it", err)
	}
}

func TestADirectoryInUseIsRefusedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	r := start(t, Config{DataDir: dir})
	key := r.user()
	paths := r.fill(key)
	if _, err := Open(t.Context(), Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "another keyfold is using") {
		t.Errorf("a second Open = %v", err)
	}
	r.readable(key, paths)
}

func TestADataDirectoryThatCannotBeIsAClearError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{DataDir: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Open = %v, want an error that names the path", err)
	}
}

// gateKMS holds every Seal of a secret until it is let go.
type gateKMS struct {
	KMS
	entered, leave chan struct{}
}

func (g gateKMS) Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	if items[0].KEKID != sealed.KEK {
		g.entered <- struct{}{}
		<-g.leave
	}
	return g.KMS.Seal(ctx, items)
}

func TestCloseLetsTheRequestsUnderWayFinish(t *testing.T) {
	dir := t.TempDir()
	gate := gateKMS{entered: make(chan struct{}), leave: make(chan struct{})}
	r := start(t, Config{DataDir: dir, WrapKMS: func(k KMS) KMS { gate.KMS = k; return gate }})
	key := r.user()
	_, v := r.call(key, "POST", "/v1/vaults", `{"name":"v"}`)
	_, id, _ := strings.Cut(v, `"id":"`)
	path := "/v1/vaults/" + id[:36] + "/secrets/a"

	answered := make(chan int, 1)
	go func() {
		status, _ := r.call(key, "PUT", path, `{"value":"`+canary+`"}`)
		answered <- status
	}()
	<-gate.entered
	closed := make(chan error, 1)
	go func() { closed <- r.Close(context.Background()) }()
	if err := <-r.served; err != nil { // the listener is closed by now
		t.Errorf("Serve = %v", err)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://")); err == nil {
		t.Error("a new connection was accepted while closing")
	}
	select {
	case err := <-closed:
		t.Fatalf("Close did not wait for the request: %v", err)
	default:
	}
	close(gate.leave)
	if status := <-answered; status != 201 {
		t.Errorf("the request under way = %d", status)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close = %v", err)
	}
	if err := r.Close(context.Background()); err != nil {
		t.Errorf("a second Close = %v", err)
	}
	r = start(t, Config{DataDir: dir})
	r.readable(key, []string{path})
}

func TestCloseGivesUpOnARequestWhenItsTimeIsOver(t *testing.T) {
	gate := gateKMS{entered: make(chan struct{}), leave: make(chan struct{})}
	r := start(t, Config{WrapKMS: func(k KMS) KMS { gate.KMS = k; return gate }})
	key := r.user()
	_, v := r.call(key, "POST", "/v1/vaults", `{"name":"v"}`)
	_, id, _ := strings.Cut(v, `"id":"`)
	cut := make(chan error, 1)
	go func() {
		req, _ := http.NewRequest("PUT", r.url+"/v1/vaults/"+id[:36]+"/secrets/a", strings.NewReader(`{"value":"x"}`))
		req.Header.Set("Authorization", "Bearer "+key)
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
		}
		cut <- err
	}()
	<-gate.entered
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Close(over); !errors.Is(err, context.Canceled) {
		t.Errorf("Close = %v, want context.Canceled", err)
	}
	if err := <-cut; err == nil {
		t.Error("the request was answered")
	}
	close(gate.leave) // its handler now meets a closed store
	if err := <-r.served; err != nil {
		t.Errorf("Serve = %v", err)
	}
	if _, err := r.Store.Get(t.Context(), "x"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("the store is open: %v", err)
	}
}

func TestANodeThatNeverServedCloses(t *testing.T) {
	n, err := Open(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(t.Context()); err != nil {
		t.Errorf("Close = %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Serve(ln); err != nil {
		t.Errorf("Serve after Close = %v", err)
	}
}

func TestReadyNoticesAClosedStore(t *testing.T) {
	for name, broken := range map[string]func(*Node) store.Store{
		"store":       func(n *Node) store.Store { return n.Store },
		"key process": func(n *Node) store.Store { return n.KeyStore },
	} {
		n, err := Open(t.Context(), Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := broken(n).Close(); err != nil {
			t.Fatal(err)
		}
		ln, _ := net.Listen("tcp", "127.0.0.1:0")
		served := make(chan error, 1)
		go func() { served <- n.Serve(ln) }()
		r := &running{Node: n, t: t, url: "http://" + ln.Addr().String()}
		if status, body := r.call("", "GET", "/readyz", ""); status != 503 || !strings.Contains(body, "the "+name+" does not answer") {
			t.Errorf("%s closed: readyz = %d %s", name, status, body)
		}
		n.Close(t.Context()) // says that one store was closed before
		<-served
	}
}
