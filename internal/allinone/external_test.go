package allinone

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsserver"
)

// serveKMS answers at a socket until stop.
func serveKMS(t *testing.T, keys *kms.Service, socket string) (stop func()) {
	t.Helper()
	s, err := kmsserver.New(kmsserver.Config{KMS: keys})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := s.Listen(socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		if err := errors.Join(s.Close(context.Background()), <-served); err != nil {
			t.Errorf("ending the KMS: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// socket is a path that is not too long for one.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "kms.sock")
}

func TestAServerWaitsForItsKMSAndRecoversByItself(t *testing.T) {
	keys, _ := newKMS(t)
	sock := socket(t)
	r := start(t, Config{DataDir: t.TempDir(), KMSURL: "unix://" + sock})
	key := r.user()
	away := func() {
		t.Helper()
		for _, c := range []struct{ call, body, want string }{
			{"GET /readyz", "", "the key process does not answer; try again"},
			{"POST /v1/vaults", `{"name":"v"}`, "try again"},
			{"POST /v1/threads", `{}`, "try again"},
		} {
			method, path, _ := strings.Cut(c.call, " ")
			if status, body := r.call(key, method, path, c.body); status != 503 || !strings.Contains(body, c.want) {
				t.Errorf("without the KMS %s = %d %s", c.call, status, body)
			}
		}
		if _, body := r.call(key, "GET", "/v1/health", ""); !strings.Contains(body, `"degraded"`) {
			t.Errorf("without the KMS the health is %s", body)
		}
	}
	away()
	stop := serveKMS(t, keys, sock)
	paths := r.fill(key)
	if status, body := r.call(key, "GET", "/readyz", ""); status != 200 {
		t.Errorf("with the KMS readyz = %d %s", status, body)
	}
	stop()
	away()
	serveKMS(t, keys, sock)
	r.readable(key, paths)
	r.stop()
}

// Encryption that is off, or was, is a note that the key process sealed.
func TestAServerWithoutEncryptionWaitsForItsKMS(t *testing.T) {
	keys, _ := newKMS(t)
	sock, dir := socket(t), t.TempDir()
	cfg := Config{DataDir: dir, KMSURL: "unix://" + sock, Plain: true}
	r := start(t, cfg)
	key := r.user()
	if status, body := r.call(key, "POST", "/v1/threads", `{}`); status != 503 || !strings.Contains(body, "try again") {
		t.Errorf("a thread without the note: %d %s", status, body)
	}
	stop := serveKMS(t, keys, sock)
	paths := r.fill(key)
	r.stop()
	for _, cfg.Plain = range []bool{true, false} {
		stop()
		r = start(t, cfg)
		if status, body := r.call(key, "GET", "/readyz", ""); status != 503 {
			t.Errorf("plain %v, without the KMS readyz = %d %s", cfg.Plain, status, body)
		}
		if status, _ := r.call(key, "GET", paths[1], ""); status != 200 && cfg.Plain || status != 503 && !cfg.Plain {
			t.Errorf("plain %v, without the KMS the messages are answered with %d", cfg.Plain, status)
		}
		stop = serveKMS(t, keys, sock)
		r.readable(key, paths)
		r.stop()
	}
}

func TestAnotherKMSIsAnErrorAtTheStart(t *testing.T) {
	ours, _ := newKMS(t)
	other, _ := newKMS(t)
	oursAt, otherAt, dir := socket(t), socket(t), t.TempDir()
	serveKMS(t, ours, oursAt)
	serveKMS(t, other, otherAt)
	r := start(t, Config{DataDir: dir, KMSURL: "unix://" + oursAt})
	key := r.user()
	paths := r.fill(key)
	r.stop()
	if _, err := os.Stat(filepath.Join(dir, "kms")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a server with an external KMS made a key store")
	}
	for url, why := range map[string]string{
		"unix://" + otherAt: "this key process has not the keys to this server's data",
		Embedded:            "has lost the keys to it",
	} {
		n, err := Open(t.Context(), Config{DataDir: dir, KMSURL: url})
		if err == nil {
			n.Close(context.Background())
			t.Fatalf("opened with %s", url)
		}
		if !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "KEYFOLD_KMS") {
			t.Errorf("with %s: %v", url, err)
		}
	}
	r = start(t, Config{DataDir: dir, KMSURL: "unix://" + oursAt})
	r.readable(key, paths)
}

func TestADirectoryUsedEmbeddedIsRefusedToAnotherKMS(t *testing.T) {
	other, _ := newKMS(t)
	at, dir := socket(t), t.TempDir()
	serveKMS(t, other, at)
	r := start(t, Config{DataDir: dir})
	key := r.user()
	paths := r.fill(key)
	r.stop()
	if _, err := Open(t.Context(), Config{DataDir: dir, KMSURL: "unix://" + at}); !errors.Is(err, errOtherKMS) {
		t.Errorf("Open = %v", err)
	}
	r = start(t, Config{DataDir: dir})
	r.readable(key, paths)
}

// A mistake in the configuration is no KMS that is away.
func TestAKMSThatCannotBeIsAnErrorAtTheStart(t *testing.T) {
	keys, _ := newKMS(t)
	at := socket(t)
	nobody := uint32(1 << 31)
	s, err := kmsserver.New(kmsserver.Config{KMS: keys, Callers: []kmsserver.Caller{{UID: &nobody, Roles: kmsserver.Crypto}}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := s.Listen(at, nil)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(ln)
	defer s.Close(context.Background())
	for _, cfg := range []Config{
		{KMSURL: "http://127.0.0.1:1"},
		{KMSURL: "unix://kms.sock"},
		{KMSURL: "https://127.0.0.1:1"},
		{KMSURL: "https://127.0.0.1:1", KMSTLS: TLSFiles{Cert: "none.crt", Key: "none.key", CA: "none.crt"}},
		{KMSURL: "unix://" + at}, // where we are not in the list of callers
	} {
		n, err := Open(t.Context(), cfg)
		if err == nil {
			n.Close(context.Background())
			t.Errorf("opened with %+v", cfg)
		} else if errors.Is(err, fault.Unavailable) {
			t.Errorf("with %+v: %v", cfg, err)
		}
	}
}
