package kmsclient

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// fakeKMS answers the item calls as a KMS would, with ciphertexts that are none:
// twelve zeros, the plaintext, sixteen zeros. The test may look into every
// request and answer it in another way.
type fakeKMS struct {
	calls atomic.Int64         // requests that arrived, by any path
	hook  atomic.Pointer[hook] // true: it has answered
	mux   http.ServeMux
}

// hook sees a request, its n items and may answer it.
type hook func(w http.ResponseWriter, r *http.Request, n int) bool

func newFakeKMS() *fakeKMS {
	k := &fakeKMS{}
	route(k, kmsapi.CreateKEK, func(i kmsapi.CreateKEKItem) kmsapi.CreateKEKResult {
		return kmsapi.CreateKEKResult{KEKInfo: kmsapi.KEKInfo{KEKID: i.KEKID, Version: 1}}
	})
	route(k, kmsapi.CreateDEK, func(i kmsapi.CreateDEKItem) kmsapi.CreateDEKResult {
		return kmsapi.CreateDEKResult{DEK: kmsapi.DEKInfo{KeyID: "dek_" + i.ThreadID, WrappedDEK: make([]byte, 60), KEKID: "threads", KEKVersion: 1}}
	})
	route(k, kmsapi.Encrypt, func(i kmsapi.EncryptItem) kmsapi.EncryptResult {
		if i.KeyID != "dek_1" {
			return kmsapi.EncryptResult{Err: fault.New(fault.NotFound, "there is no DEK of this key ID")}
		}
		return kmsapi.EncryptResult{Ciphertext: wrapping(i.Plaintext), KeyVersion: 1}
	})
	route(k, kmsapi.Decrypt, func(i kmsapi.DecryptItem) kmsapi.DecryptResult {
		if len(i.Ciphertext) < 28 {
			return kmsapi.DecryptResult{Err: fault.New(fault.Unopenable, "it does not open")}
		}
		return kmsapi.DecryptResult{Plaintext: i.Ciphertext[12 : len(i.Ciphertext)-16]}
	})
	route(k, kmsapi.Seal, func(i kmsapi.SealItem) kmsapi.SealResult {
		return kmsapi.SealResult{Envelope: kmsapi.Envelope{KEKID: i.KEKID, KEKVersion: 1, WrappedDEK: make([]byte, 60), Ciphertext: wrapping(i.Plaintext)}}
	})
	route(k, kmsapi.Open, func(i kmsapi.OpenItem) kmsapi.OpenResult {
		return kmsapi.OpenResult{Plaintext: i.Envelope.Ciphertext[12 : len(i.Envelope.Ciphertext)-16]}
	})
	route(k, kmsapi.Rewrap, func(i kmsapi.RewrapItem) kmsapi.RewrapResult {
		return kmsapi.RewrapResult{KEKID: i.KEKID, KEKVersion: i.KEKVersion + 1, WrappedDEK: i.WrappedDEK}
	})
	return k
}

func wrapping(plaintext []byte) []byte {
	b := make([]byte, len(plaintext)+28)
	copy(b[12:], plaintext)
	return b
}

func route[In, Out any](k *fakeKMS, c kmsapi.Call[In, Out], do func(In) Out) {
	k.mux.HandleFunc("POST "+c.Path, func(w http.ResponseWriter, r *http.Request) {
		b := getBuffer(int(r.ContentLength))
		defer putBuffer(b)
		b.b = b.b[:r.ContentLength]
		if _, err := io.ReadFull(r.Body, b.b); err != nil {
			return
		}
		k.calls.Add(1)
		items, err := c.ParseRequest(b.b)
		if hook := k.hook.Load(); hook != nil && (*hook)(w, r, len(items)) {
			return
		}
		if err != nil {
			fail(w, err)
			return
		}
		results := make([]Out, len(items))
		for i, item := range items {
			results[i] = do(item)
		}
		w.Header().Set("Content-Type", kmsapi.ContentType)
		w.Write(c.AppendAnswer(nil, results))
	})
}

func fail(w http.ResponseWriter, err error) {
	status := map[fault.Code]int{fault.Invalid: 400, fault.TooLarge: 413, fault.Conflict: 409, fault.Unavailable: 503}[fault.Of(err).Code]
	w.WriteHeader(max(status, http.StatusBadRequest))
	w.Write(kmsapi.AppendError(nil, err))
}

func (k *fakeKMS) on(h hook) { k.hook.Store(&h) }

// socket is a place where a KMS can be started, stopped and started again.
type socket struct {
	path   string
	mu     sync.Mutex
	server *http.Server
	done   chan struct{}
}

func newSocket(t testing.TB) *socket {
	dir, err := os.MkdirTemp("", "kf") // short, as the path of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &socket{path: filepath.Join(dir, "kms.sock")}
	t.Cleanup(s.stop)
	return s
}

func (s *socket) start(t testing.TB, h http.Handler) {
	t.Helper()
	l, err := net.Listen("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	s.serve(l, h)
}

func (s *socket) serve(l net.Listener, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	server, done := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}, make(chan struct{})
	s.server, s.done = server, done
	go func() {
		defer close(done)
		server.Serve(l)
	}()
}

// stop ends the server and every connection at once.
func (s *socket) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		s.server.Close()
		<-s.done
		s.server = nil
	}
}

func (s *socket) client(t testing.TB, cfg Config) *Client {
	t.Helper()
	if cfg.Endpoint == "" {
		cfg.Endpoint = "unix://" + s.path
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// rig is a running fake KMS and a client of it.
func rig(t testing.TB, cfg Config) (*fakeKMS, *Client, *socket) {
	k, s := newFakeKMS(), newSocket(t)
	s.start(t, &k.mux)
	return k, s.client(t, cfg), s
}

func one(plaintext string) []kmsapi.EncryptItem {
	return []kmsapi.EncryptItem{{KeyID: "dek_1", Plaintext: []byte(plaintext), AAD: []byte("aad")}}
}

// encryptOne makes one call and checks its answer.
func encryptOne(ctx context.Context, c *Client, plaintext string) error {
	results, err := c.Encrypt(ctx, one(plaintext))
	if err != nil {
		return err
	}
	if len(results) != 1 {
		return fault.New(fault.Internal, "not one result")
	}
	if results[0].Err == nil && string(results[0].Ciphertext) != string(wrapping([]byte(plaintext))) {
		return fault.New(fault.Internal, "somebody else's result")
	}
	return results[0].Err
}
