package kmsserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is in plaintexts and causes, and must be in no log and no error.
const canary = "canary-77e1"

// The callers of a rig.
const (
	cryptoUID   = 1001
	adminUID    = 1002
	bothUID     = 1003
	noRoleUID   = 1004
	strangerUID = 1005
	shredUID    = 1008
	serverUID   = 1009
	listUID     = 1010
)

// fakeKMS encrypts by a prefix, knows every key but "missing", and notes what
// it was asked to do.
type fakeKMS struct {
	mu     sync.Mutex
	calls  []string
	fail   error                       // of every call
	failed func(i int, k string) error // of an item
	seen   func(b ...[]byte)           // plaintexts that went in or out
}

func (f *fakeKMS) note(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
	return f.fail
}

// took returns the calls since the last took.
func (f *fakeKMS) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

func (f *fakeKMS) item(i int, key string) error {
	if f.failed != nil {
		return f.failed(i, key)
	}
	if key == "missing" {
		return fault.New(fault.NotFound, "there is no key of this ID")
	}
	return nil
}

func (f *fakeKMS) saw(b ...[]byte) {
	if f.seen != nil {
		f.seen(b...)
	}
}

func (f *fakeKMS) CreateKEK(_ context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	var out []kmsapi.KEKInfo
	for _, id := range ids {
		out = append(out, kmsapi.KEKInfo{KEKID: id, Version: 1})
	}
	return out, f.note("CreateKEK")
}

func (f *fakeKMS) CreateDEK(_ context.Context, items []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error) {
	out := make([]kmsapi.CreateDEKResult, len(items))
	for i, item := range items {
		if out[i].Err = f.item(i, item.ThreadID); out[i].Err == nil {
			out[i].DEK = kmsapi.DEKInfo{KeyID: "dek-of-" + item.ThreadID, WrappedDEK: []byte("wrapped"), KEKID: "threads", KEKVersion: 3}
		}
	}
	return out, f.note("CreateDEK")
}

func (f *fakeKMS) Encrypt(_ context.Context, items []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error) {
	out := make([]kmsapi.EncryptResult, len(items))
	for i, item := range items {
		f.saw(item.Plaintext, item.AAD)
		if out[i].Err = f.item(i, item.KeyID); out[i].Err == nil {
			out[i] = kmsapi.EncryptResult{Ciphertext: append([]byte("c:"), item.Plaintext...), KeyVersion: 2}
		}
	}
	return out, f.note("Encrypt")
}

func (f *fakeKMS) Decrypt(_ context.Context, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	out := make([]kmsapi.DecryptResult, len(items))
	for i, item := range items {
		if out[i].Err = f.item(i, item.KeyID); out[i].Err == nil {
			out[i].Plaintext = bytes.Clone(bytes.TrimPrefix(item.Ciphertext, []byte("c:")))
			f.saw(out[i].Plaintext)
		}
	}
	return out, f.note("Decrypt")
}

func (f *fakeKMS) Seal(_ context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	out := make([]kmsapi.SealResult, len(items))
	for i, item := range items {
		f.saw(item.Plaintext, item.AAD)
		if out[i].Err = f.item(i, item.KEKID); out[i].Err == nil {
			out[i].Envelope = kmsapi.Envelope{KEKID: item.KEKID, KEKVersion: 4, WrappedDEK: []byte("wrapped"), Ciphertext: append([]byte("c:"), item.Plaintext...)}
		}
	}
	return out, f.note("Seal")
}

func (f *fakeKMS) Open(_ context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	out := make([]kmsapi.OpenResult, len(items))
	for i, item := range items {
		if out[i].Err = f.item(i, item.Envelope.KEKID); out[i].Err == nil {
			out[i].Plaintext = bytes.Clone(bytes.TrimPrefix(item.Envelope.Ciphertext, []byte("c:")))
			f.saw(out[i].Plaintext)
		}
	}
	return out, f.note("Open")
}

func (f *fakeKMS) Rewrap(_ context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error) {
	out := make([]kmsapi.RewrapResult, len(items))
	for i, item := range items {
		if out[i].Err = f.item(i, item.KEKID); out[i].Err == nil {
			out[i] = kmsapi.RewrapResult{WrappedDEK: []byte("rewrapped"), KEKID: "v", KEKVersion: 5}
		}
	}
	return out, f.note("Rewrap")
}

func (f *fakeKMS) GetWrapped(_ context.Context, keyID string) ([]byte, error) {
	if err := f.item(0, keyID); err != nil {
		return nil, err
	}
	return []byte("wrapped"), f.note("GetWrapped")
}

func (f *fakeKMS) RotateKEK(_ context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error) {
	return kmsapi.Rotated{KEKID: r.KEKID, KEKVersion: 6, Job: kmsapi.Job{ID: "j1"}}, f.note("RotateKEK")
}
func (f *fakeKMS) ImportKEK(_ context.Context, raw []byte) (kmsapi.Rotated, error) {
	f.saw(raw)
	return kmsapi.Rotated{KEKID: "threads", KEKVersion: 7, Job: kmsapi.Job{ID: "j1"}}, f.note("ImportKEK")
}
func (f *fakeKMS) ReleaseKEK(context.Context, string, uint32) error { return f.note("ReleaseKEK") }
func (f *fakeKMS) DestroyKEKVersion(context.Context, string, uint32) error {
	return f.note("DestroyKEKVersion")
}
func (f *fakeKMS) ShredDEK(context.Context, string) error { return f.note("ShredDEK") }
func (f *fakeKMS) Keys(_ context.Context, q kmsapi.KeysQuery) (kmsapi.Keys, error) {
	return kmsapi.Keys{Next: q.After + "+"}, f.note("Keys")
}
func (f *fakeKMS) ListKEKs(_ context.Context, q kmsapi.ListQuery) (kmsapi.KEKList, error) {
	return kmsapi.KEKList{Root: "file", KEKs: []kmsapi.ListedKEK{}, Next: q.After}, f.note("ListKEKs")
}
func (f *fakeKMS) ListDEKs(_ context.Context, ids []string) (kmsapi.DEKList, error) {
	return kmsapi.DEKList{SealLimit: int64(len(ids)), DEKs: []kmsapi.ListedDEK{}}, f.note("ListDEKs")
}
func (f *fakeKMS) Jobs(context.Context) ([]kmsapi.Job, error) {
	return []kmsapi.Job{{ID: "j1"}}, f.note("Jobs")
}
func (f *fakeKMS) Job(_ context.Context, id string) (kmsapi.Job, error) {
	return kmsapi.Job{ID: id}, f.note("Job")
}
func (f *fakeKMS) CancelJob(context.Context, string) error { return f.note("CancelJob") }
func (f *fakeKMS) ExportBreakGlass(context.Context) ([]byte, error) {
	return []byte("row"), f.note("ExportBreakGlass")
}
func (f *fakeKMS) Check(context.Context) error { return f.note("Check") }

// testLog is a log that a test can read while a server writes it.
type testLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a running server over a fake KMS, and callers whose UIDs the test sets.
type rig struct {
	testing.TB
	*Server
	kms *fakeKMS
	log *testLog
	mem *memListener
}

func uid(u uint32) *uint32 { return &u }

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{TB: t, kms: new(fakeKMS), log: new(testLog)}
	cfg := Config{
		KMS: r.kms,
		Callers: []Caller{
			{UID: uid(cryptoUID), Roles: Crypto}, {UID: uid(adminUID), Roles: Admin}, {UID: uid(bothUID), Roles: Crypto | Admin}, {UID: uid(noRoleUID)}, {UID: uid(shredUID), Roles: Shred}, {UID: uid(serverUID), Roles: Crypto | Shred | List}, {UID: uid(listUID), Roles: List}, {UID: uid(agentUID), Roles: CMEK}, {UID: uid(otherUID), Roles: CMEK},
			{Name: "crypto", Roles: Crypto}, {Name: "agent", Roles: CMEK}, {Name: "admin", Roles: Admin}, {Name: "spiffe://keyfold/both", Roles: Crypto | Admin}, {Name: "no-role"}, {Name: "shred", Roles: Shred}, {Name: "server", Roles: Crypto | Shred | List}, {Name: "list", Roles: List},
		},
		Status: func() kmsapi.Status { _ = r.kms.note("Status"); return kmsapi.Status{Root: "file"} },
		Backup: func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, "backup")
			return errors.Join(err, r.kms.note("Backup"))
		},
		Log: slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if r.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	r.mem = newMemListener()
	r.serve(&listener{Listener: r.mem, conns: r.conns, uid: memUID})
	return r
}

// serve answers ln until the test ends.
func (r *rig) serve(ln net.Listener) { serve(r, r.Server, ln) }

func serve(t testing.TB, s *Server, ln net.Listener) {
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // a test's own connections are cut off
		_ = s.Close(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// memListener is a listener in this process. Its connections have the UID that
// their caller chose.
type memListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

type memConn struct {
	net.Conn
	uid uint32
}

func newMemListener() *memListener {
	return &memListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func memUID(c net.Conn) (uint32, error) { return c.(memConn).uid, nil }

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *memListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (l *memListener) dial(uid uint32) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- memConn{far, uid}:
		return near, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// conn opens a connection of a UID. Its deadline is the test's stop.
func (r *rig) conn(uid uint32) net.Conn {
	r.Helper()
	c, err := r.mem.dial(uid)
	if err != nil {
		r.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	r.Cleanup(func() { c.Close() })
	return c
}

// client is an HTTP client of a UID, with one connection that it keeps.
func (r *rig) client(uid uint32) *http.Client {
	return r.over(func(context.Context, string, string) (net.Conn, error) { return r.mem.dial(uid) })
}

func (r *rig) over(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	t := &http.Transport{DialContext: dial, MaxConnsPerHost: 1}
	r.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: time.Minute}
}

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends one request; call is a method and a path.
func (r *rig) do(client *http.Client, call, contentType, body string) answer {
	r.Helper()
	a, err := try(client, "http://kms", call, contentType, body)
	if err != nil {
		r.Fatalf("%s: %v", call, err)
	}
	return a
}

func try(client *http.Client, base, call, contentType, body string) (answer, error) {
	method, path, _ := strings.Cut(call, " ")
	req, err := http.NewRequest(method, base+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(text)}, err
}
