package kmsclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// long is a Config.Retry that no test waits for.
const long = time.Minute

// everyCall makes each call once. Those that are in once must never be sent
// twice when they may have arrived.
func everyCall(c *Client) map[string]func(context.Context) error {
	first := func(err error, errs ...error) error { return errors.Join(append(errs, err)...) }
	return map[string]func(context.Context) error{
		"CreateKEK": func(ctx context.Context) error { _, err := c.CreateKEK(ctx, []string{"k"}); return err },
		"CreateDEK": func(ctx context.Context) error {
			r, err := c.CreateDEK(ctx, []kmsapi.CreateDEKItem{{ThreadID: "canary"}})
			for _, r := range r {
				err = first(err, r.Err)
			}
			return err
		},
		"Encrypt": func(ctx context.Context) error { return encryptOne(ctx, c, "canary") },
		"Decrypt": func(ctx context.Context) error {
			r, err := c.Decrypt(ctx, []kmsapi.DecryptItem{{KeyID: "k", Ciphertext: wrapping([]byte("canary")), AAD: []byte("canary")}})
			for _, r := range r {
				err = first(err, r.Err)
			}
			return err
		},
		"Seal": func(ctx context.Context) error {
			r, err := c.Seal(ctx, []kmsapi.SealItem{{KEKID: "k", Plaintext: []byte("canary"), AAD: []byte("canary")}})
			for _, r := range r {
				err = first(err, r.Err)
			}
			return err
		},
		"Open": func(ctx context.Context) error {
			r, err := c.Open(ctx, []kmsapi.OpenItem{{Envelope: kmsapi.Envelope{KEKID: "k", KEKVersion: 1, WrappedDEK: make([]byte, 60), Ciphertext: wrapping([]byte("canary"))}}})
			for _, r := range r {
				err = first(err, r.Err)
			}
			return err
		},
		"Rewrap": func(ctx context.Context) error {
			r, err := c.Rewrap(ctx, []kmsapi.RewrapItem{{KEKID: "k", KEKVersion: 1, WrappedDEK: make([]byte, 60)}})
			for _, r := range r {
				err = first(err, r.Err)
			}
			return err
		},
		"GetWrapped": func(ctx context.Context) error { _, err := c.GetWrapped(ctx, "k"); return err },
		"RotateKEK": func(ctx context.Context) error {
			_, err := c.RotateKEK(ctx, kmsapi.Rotate{KEKID: "k"})
			return err
		},
		"ImportKEK": func(ctx context.Context) error {
			_, err := c.ImportKEK(ctx, []byte("canary"))
			return err
		},
		"ReleaseKEK":        func(ctx context.Context) error { return c.ReleaseKEK(ctx, "k", 2) },
		"DestroyKEKVersion": func(ctx context.Context) error { return c.DestroyKEKVersion(ctx, "k", 1) },
		"ShredDEK":          func(ctx context.Context) error { return c.ShredDEK(ctx, "k") },
		"Keys":              func(ctx context.Context) error { _, err := c.Keys(ctx, kmsapi.KeysQuery{}); return err },
		"ListKEKs":          func(ctx context.Context) error { _, err := c.ListKEKs(ctx, kmsapi.ListQuery{}); return err },
		"ListDEKs":          func(ctx context.Context) error { _, err := c.ListDEKs(ctx, []string{"k"}); return err },
		"Jobs":              func(ctx context.Context) error { _, err := c.Jobs(ctx); return err },
		"Job":               func(ctx context.Context) error { _, err := c.Job(ctx, "j"); return err },
		"CancelJob":         func(ctx context.Context) error { return c.CancelJob(ctx, "j") },
		"Status":            func(ctx context.Context) error { _, err := c.Status(ctx); return err },
		"Health":            func(ctx context.Context) error { return c.Health(ctx) },
		"Check":             func(ctx context.Context) error { return c.Check(ctx) },
		"ExportBreakGlass":  func(ctx context.Context) error { _, err := c.ExportBreakGlass(ctx); return err },
	}
}

var sentOnce = map[string]bool{"CreateDEK": true, "RotateKEK": true, "DestroyKEKVersion": true, "ShredDEK": true}

// breaking is a handler that cuts off requests at a stage of their life, the
// first bad ones, and gives the rest to next.
type breaking struct {
	bad     int64 // so many are cut off
	answer  string
	arrived atomic.Int64
	next    http.Handler
}

func (b *breaking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if b.arrived.Add(1) > b.bad {
		b.next.ServeHTTP(w, r)
		return
	}
	io.Copy(io.Discard, r.Body)
	conn, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	buf.WriteString(b.answer)
	buf.Flush()
	conn.Close()
}

// anyCall answers every path with something that fits.
func anyCall() http.Handler {
	k := newFakeKMS()
	k.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/get_wrapped":
			io.WriteString(w, `{"wrapped":"`+strings.Repeat("AAAA", 20)+`"}`)
		case "/jobs":
			io.WriteString(w, `[]`)
		case "/healthz":
			io.WriteString(w, "ok")
		default:
			io.WriteString(w, `{}`)
		}
	})
	return &k.mux
}

func TestALostAnswerIsAskedForAgainOnlyWhereThatIsSafe(t *testing.T) {
	for stage, answer := range map[string]string{
		"before the answer":  "",
		"in the head of it":  "HTTP/1.1 200 OK\r\nContent-Le",
		"in the body of it":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789",
		"between two chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		t.Run(stage, func(t *testing.T) {
			for name := range everyCall(nil) {
				b := &breaking{bad: 1, answer: answer, next: anyCall()}
				s := newSocket(t)
				s.start(t, b)
				c := s.client(t, Config{Retry: long})
				err := everyCall(c)[name](t.Context())
				switch n := b.arrived.Load(); {
				case sentOnce[name] && (n != 1 || !errors.Is(err, fault.Unavailable)):
					t.Errorf("%s was sent %d times; it ended with %v", name, n, err)
				case !sentOnce[name] && (n != 2 || err != nil):
					t.Errorf("%s was sent %d times; it ended with %v", name, n, err)
				}
			}
		})
	}
}

func TestAnAnswerThatIsLostAgainAndAgainIsGivenUp(t *testing.T) {
	b := &breaking{bad: 100}
	s := newSocket(t)
	s.start(t, b)
	c := s.client(t, Config{Retry: long})
	if err := encryptOne(t.Context(), c, "x"); !errors.Is(err, fault.Unavailable) || b.arrived.Load() != maxSends {
		t.Error(b.arrived.Load(), err)
	}
}

// breakable is a connection that can be told to break after some more bytes.
type breakable struct {
	net.Conn
	room    atomic.Int64
	closed  atomic.Bool
	writing atomic.Int64 // Writes that have not returned
}

func (c *breakable) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

func (c *breakable) Write(b []byte) (int, error) {
	c.writing.Add(1)
	defer c.writing.Add(-1)
	n, _ := c.Conn.Write(b[:min(int64(len(b)), c.room.Load())])
	if c.room.Add(-int64(n)); n < len(b) {
		c.Conn.Close()
		return n, io.ErrClosedPipe
	}
	return n, nil
}

// breakables makes every connection of c one that can break.
func breakables(c *Client) (last *atomic.Pointer[breakable]) {
	last = new(atomic.Pointer[breakable])
	wire := c.places[0].wires.current.Load()
	dial := wire.DialContext
	wire.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		b := &breakable{Conn: conn.(*countedConn).Conn}
		b.room.Store(1 << 40)
		last.Store(b)
		return &countedConn{Conn: b}, nil
	}
	return last
}

func TestWhatWasCertainlyNotSentIsSentAgain(t *testing.T) {
	ca, f := newAuthority(t, "ca"), newFiles(t)
	f.write(t, "c", ca, ca)
	for transport, start := range map[string]func(http.Handler) *Client{
		"Unix socket": func(h http.Handler) *Client {
			s := newSocket(t)
			s.start(t, h)
			return s.client(t, Config{Retry: long})
		},
		"mutual TLS": func(h http.Handler) *Client {
			return (&socket{}).client(t, Config{Endpoint: serveTLS(t, h, ca, ca, tls.VersionTLS13), TLS: f.load(t), Retry: long})
		},
	} {
		for room, wrote := range []string{"no byte was written", "one byte was written"} {
			for call := range everyCall(nil) {
				handler := &breaking{next: anyCall()}
				c := start(handler)
				conn := breakables(c)
				if err := encryptOne(t.Context(), c, "x"); err != nil {
					t.Fatal(err)
				}
				handler.arrived.Store(0)
				conn.Load().room.Store(int64(room))
				err := everyCall(c)[call](t.Context())
				again := room == 0 || !sentOnce[call]
				if again && (err != nil || handler.arrived.Load() != 1) || !again && (!errors.Is(err, fault.Unavailable) || handler.arrived.Load() != 0) {
					t.Errorf("%s over %s, %s: arrived %d times, %v", call, transport, wrote, handler.arrived.Load(), err)
				}
				c.Close()
			}
		}
	}
}

func TestAnAnswerThatComesEarlyDoesNotFreeTheRequestThatIsStillSent(t *testing.T) {
	s := newSocket(t)
	gate := make(chan struct{})
	defer close(gate)
	s.start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		buf.WriteString("HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\n{}")
		buf.Flush()
		<-gate // and reads no more
	}))
	c := s.client(t, Config{})
	conn := breakables(c)
	if err := encryptOne(t.Context(), c, strings.Repeat("x", 8<<20)); err == nil {
		t.Error("no error")
	}
	if conn.Load().writing.Load() != 0 {
		t.Error("memory that net/http still reads is wiped, and given to the next call")
	}
}

func TestAClientWaitsForAKMSThatStarts(t *testing.T) {
	for name := range everyCall(nil) {
		s := newSocket(t)
		c := s.client(t, Config{Retry: long})
		wire := c.places[0].wires.current.Load()
		dial := wire.DialContext
		start := sync.OnceFunc(func() { s.start(t, anyCall()) })
		wire.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				start()
			}
			return conn, err
		}
		if err := everyCall(c)[name](t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARestartOfTheKMSLosesNoCall(t *testing.T) {
	kms, s := newFakeKMS(), newSocket(t)
	s.start(t, &kms.mux)
	c := s.client(t, Config{Retry: long})
	stop := make(chan struct{})
	var all sync.WaitGroup
	var calls atomic.Int64
	for g := range 8 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := encryptOne(t.Context(), c, fmt.Sprint(g, " ", i)); err != nil {
					t.Error(err)
				}
				calls.Add(1)
			}
		})
	}
	for range 10 {
		from := calls.Load()
		until(t, "calls go on", func() bool { return calls.Load() > from+20 })
		s.stop()
		s.start(t, &kms.mux)
	}
	close(stop)
	all.Wait()
}

// counting counts how often c dials.
func counting(c *Client) *atomic.Int64 {
	wire, n := c.places[0].wires.current.Load(), new(atomic.Int64)
	dial := wire.DialContext
	wire.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		n.Add(1)
		return dial(ctx, network, address)
	}
	return n
}

func TestWhileTheKMSIsDownCallsTryOnceAndRecoverByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		kms, s := newFakeKMS(), newSocket(t)
		c := s.client(t, Config{Retry: 30 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
		dials := counting(c)
		if err := encryptOne(t.Context(), c, "canary"); !errors.Is(err, fault.Unavailable) || dials.Load() < 2 {
			t.Errorf("%d tries, %v", dials.Load(), err)
		}
		dials.Store(0)
		for range 5 {
			if err := encryptOne(t.Context(), c, "canary"); !errors.Is(err, fault.Unavailable) {
				t.Error(err)
			}
		}
		if dials.Load() != 5 {
			t.Errorf("5 calls of a KMS that is known to be down tried %d times", dials.Load())
		}
		s.start(t, &kms.mux)
		if err := encryptOne(t.Context(), c, "canary"); err != nil {
			t.Error(err)
		}
		if c.down.Load() {
			t.Error("an answer has come and the KMS counts as down")
		}
		if n := strings.Count(log.String(), "\n"); n != 2 || strings.Contains(log.String(), "canary") {
			t.Errorf("the log has %d lines, want one for down and one for up:\n%s", n, &log)
		}
	})
}

func TestABackupIsWholeOrAnError(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"whole": func(w http.ResponseWriter) { io.WriteString(w, "backup") },
		"cut off": func(w http.ResponseWriter) {
			io.WriteString(w, "back")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"refused": func(w http.ResponseWriter) { fail(w, fault.New(fault.Conflict, "not now")) },
	} {
		k := newFakeKMS()
		k.mux.HandleFunc("GET /backup", func(w http.ResponseWriter, _ *http.Request) { answer(w) })
		s := newSocket(t)
		s.start(t, &k.mux)
		var got bytes.Buffer
		want := map[string]error{"cut off": fault.Unavailable, "refused": fault.Conflict}[name]
		if err := s.client(t, Config{}).Backup(t.Context(), &got); !errors.Is(err, want) || want == nil && got.String() != "backup" {
			t.Errorf("%s: %q, %v", name, &got, err)
		}
		full := errors.New("no room")
		if err := s.client(t, Config{}).Backup(t.Context(), fullDisk{full}); want == nil && err != full {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := newSocket(t).client(t, Config{}).Backup(t.Context(), io.Discard); !errors.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}

type fullDisk struct{ err error }

func (d fullDisk) Write([]byte) (int, error) { return 0, d.err }

func TestALockedKMSAnswersForItself(t *testing.T) {
	kms, c, _ := rig(t, Config{})
	kms.on(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		fail(w, fault.New(fault.Unavailable, "the KMS is locked").WithType("locked"))
		return true
	})
	err := encryptOne(t.Context(), c, "x")
	if f := fault.Of(err); f.Code != fault.Unavailable || f.Type != "locked" || f.Message != "the KMS is locked" || kms.calls.Load() != 1 {
		t.Error(kms.calls.Load(), err)
	}
}

func TestAnItemsErrorComesAsTheKMSSaidIt(t *testing.T) {
	kms, c, _ := rig(t, Config{})
	for _, want := range []*fault.Error{
		fault.New(fault.Conflict, "rotate it").WithType("dek_worn_out"), fault.New(fault.Unopenable, "no"), {Code: "odd", Message: "new here"},
	} {
		kms.on(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Write(kmsapi.Encrypt.AppendAnswer(nil, []kmsapi.EncryptResult{{Err: want}}))
			return true
		})
		got := fault.Of(encryptOne(t.Context(), c, "x"))
		if want.Code == "odd" {
			want.Code = fault.Internal
		}
		if got.Code != want.Code || got.Type != want.Type || got.Message != want.Message {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

func TestWhatIsNotOfTheRightShapeIsNeverData(t *testing.T) {
	good := kmsapi.EncryptResult{Ciphertext: wrapping([]byte("plaintext")), KeyVersion: 1}
	short := kmsapi.EncryptResult{Ciphertext: good.Ciphertext[:20], KeyVersion: 1}
	answers := map[string]func(w http.ResponseWriter){
		"nothing": func(http.ResponseWriter) {},
		"text":    func(w http.ResponseWriter) { io.WriteString(w, "ok") },
		"too many": func(w http.ResponseWriter) {
			w.Write(kmsapi.Encrypt.AppendAnswer(nil, []kmsapi.EncryptResult{good, good}))
		},
		"wrong length":  func(w http.ResponseWriter) { w.Write(kmsapi.Encrypt.AppendAnswer(nil, []kmsapi.EncryptResult{short})) },
		"a redirection": func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(302) },
		"a page of 502": func(w http.ResponseWriter) { w.WriteHeader(502); io.WriteString(w, "<html>") },
		"too long":      func(w http.ResponseWriter) { w.Header().Set("Content-Length", fmt.Sprint(kmsapi.MaxBody+1)) },
		"endless": func(w http.ResponseWriter) {
			for b := make([]byte, 1<<20); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		},
	}
	for name, answer := range answers {
		kms, c, _ := rig(t, Config{Retry: long})
		kms.on(func(w http.ResponseWriter, _ *http.Request, _ int) bool { answer(w); return true })
		results, err := c.Encrypt(t.Context(), one("plaintext"))
		for _, r := range results {
			if err = r.Err; r.Ciphertext != nil {
				t.Errorf("%s: taken for data", name)
			}
		}
		if !errors.Is(err, fault.Internal) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryResultIsHeldToItsItem(t *testing.T) {
	e := func(kek string, wrapped, ciphertext int) kmsapi.Envelope {
		return kmsapi.Envelope{KEKID: kek, KEKVersion: 1, WrappedDEK: make([]byte, wrapped), Ciphertext: make([]byte, ciphertext)}
	}
	for name, bad := range map[string]bool{
		"CreateKEK":        createdKEK(&kmsapi.CreateKEKItem{KEKID: "a"}, &kmsapi.CreateKEKResult{KEKInfo: kmsapi.KEKInfo{KEKID: "b"}}),
		"CreateDEK":        createdDEK(nil, &kmsapi.CreateDEKResult{DEK: kmsapi.DEKInfo{WrappedDEK: make([]byte, 59)}}),
		"Encrypt":          encrypted(&kmsapi.EncryptItem{Plaintext: make([]byte, 5)}, &kmsapi.EncryptResult{Ciphertext: make([]byte, 5)}),
		"Decrypt":          decrypted(&kmsapi.DecryptItem{Ciphertext: make([]byte, 30)}, &kmsapi.DecryptResult{Plaintext: make([]byte, 30)}),
		"Seal, another ID": sealed(&kmsapi.SealItem{KEKID: "a"}, &kmsapi.SealResult{Envelope: e("b", 60, 28)}),
		"Seal, a DEK":      sealed(&kmsapi.SealItem{KEKID: "a"}, &kmsapi.SealResult{Envelope: e("a", 32, 28)}),
		"Seal, length":     sealed(&kmsapi.SealItem{KEKID: "a", Plaintext: make([]byte, 1)}, &kmsapi.SealResult{Envelope: e("a", 60, 28)}),
		"Open":             opened(&kmsapi.OpenItem{Envelope: e("a", 60, 40)}, &kmsapi.OpenResult{Plaintext: make([]byte, 13)}),
		"Rewrap, another":  rewrapped(&kmsapi.RewrapItem{KEKID: "a"}, &kmsapi.RewrapResult{KEKID: "b", WrappedDEK: make([]byte, 60)}),
		"Rewrap, length":   rewrapped(&kmsapi.RewrapItem{KeyID: "a"}, &kmsapi.RewrapResult{KEKID: "b", WrappedDEK: make([]byte, 61)}),
	} {
		if bad {
			t.Errorf("%s: a result of another item is taken", name)
		}
	}
}

func TestNoErrorAndNoLogShowsWhatWasSent(t *testing.T) {
	var log bytes.Buffer
	for _, answer := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary", "HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\ncanary", "canary"} {
		s := newSocket(t)
		s.start(t, &breaking{bad: 1000, answer: answer})
		c := s.client(t, Config{Retry: time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		for name, call := range everyCall(c) {
			err := call(t.Context())
			if err == nil && name != "ExportBreakGlass" || strings.Contains(fmt.Sprint(err), "canary") || strings.Contains(fmt.Sprint(err), s.path) {
				t.Errorf("%q %s: %v", answer, name, err)
			}
			if err != nil && strings.Contains(fmt.Sprint(fault.Of(err).Unwrap()), "canary") {
				t.Errorf("%q %s: the cause is %v", answer, name, fault.Of(err).Unwrap())
			}
		}
	}
	if strings.Contains(log.String(), "canary") {
		t.Error(&log)
	}
}

func TestEndpointsAreCheckedAtTheStart(t *testing.T) {
	for _, endpoint := range []string{"", "kms.sock", "/run/kms.sock", "unix://kms.sock", "unix://", "http://127.0.0.1:1", "https://kms", "https://:1", "https://u:p@kms:1", "https://kms:1/path", "https://kms:1?x=1", "embedded"} {
		if _, err := New(Config{Endpoint: endpoint, TLS: &TLS{}}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	for _, cfg := range []Config{{Endpoint: "https://kms:1"}, {Endpoint: "unix:///s", Retry: -1}, {Endpoint: "unix:///s", InFlight: -1}} {
		if _, err := New(cfg); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
