package kmskey

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ client.CMEK = (*Key)(nil)

const canary = "canary-4b1d"

var at = cmek.Context{VaultID: "v", Path: "a/b"}

// rig is a key process on TCP, with the agents agent-7 and agent-8.
type rig struct {
	testing.TB
	keys     *kms.Service
	endpoint string
	tls      string // directory of certificates
	callers  []kmsserver.Caller
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{TB: t, tls: filepath.Join(t.TempDir(), "tls")}
	root, err := keyring.MemoryRoot()
	r.must(err)
	r.keys, err = kms.New(t.Context(), kms.Config{Store: memstore.New(), Root: root})
	r.must(err)
	t.Cleanup(r.keys.Close)
	r.must(kmsserver.MakeTLS(r.tls))
	var callers []kmsserver.Caller
	for _, name := range []string{"agent-7", "agent-8"} {
		r.must(kmsserver.AddTLS(r.tls, name))
		callers = append(callers, kmsserver.Caller{Name: name, Roles: kmsserver.CMEK})
	}
	r.must(kmsserver.AddTLS(r.tls, "stranger"))
	r.callers = callers
	r.endpoint, _ = r.serve()
	return r
}

// serve has one more process answer, until stop.
func (r *rig) serve() (endpoint string, stop func()) {
	r.Helper()
	s, err := kmsserver.New(kmsserver.Config{KMS: r.keys, Callers: r.callers})
	r.must(err)
	ln, err := s.Listen("127.0.0.1:0", &kmsserver.TLSFiles{Cert: r.file("server.crt"), Key: r.file("server.key"), CA: r.file("ca.crt")})
	r.must(err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Close(ctx)
		if err := <-done; err != nil {
			r.Error(err)
		}
	})
	r.Cleanup(stop)
	return "https://" + ln.Addr().String(), stop
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) file(name string) string { return filepath.Join(r.tls, name) }

func (r *rig) as(name string) *KMS {
	r.Helper()
	k, err := New(Config{Endpoint: r.endpoint, Cert: r.file(name + ".crt"), Key: r.file(name + ".key"), CA: r.file("ca.crt")})
	r.must(err)
	r.Cleanup(k.Close)
	return k
}

func (r *rig) granted(names ...string) (fingerprint string) {
	r.Helper()
	k, err := r.keys.CreateCMEKKey(r.Context(), "")
	r.must(err)
	for _, name := range names {
		r.must(r.keys.GrantCMEKKey(r.Context(), k.Fingerprint, "cert:"+name))
	}
	return k.Fingerprint
}

func TestValuesAreSealedAndOpenedAtADistance(t *testing.T) {
	r := newRig(t)
	own := cmek.Generate()
	_, err := r.keys.ImportCMEKKey(t.Context(), "", own.Bytes())
	r.must(err)
	r.must(r.keys.GrantCMEKKey(t.Context(), own.Fingerprint(), "cert:agent-7"))
	k := r.as("agent-7").Key(own.Fingerprint())
	for _, text := range []string{"", canary, strings.Repeat("x", 1<<20)} {
		for version := 1; version <= 2; version++ {
			value, err := k.Seal(t.Context(), at, version, []byte(text))
			r.must(err)
			here, err := cmek.DecryptValueAt(own, at, value)
			if err != nil || string(here) != text {
				t.Errorf("version %d: the key itself opens %d bytes, %v", version, len(here), err)
			}
			got, err := k.Open(t.Context(), at, value)
			if err != nil || string(got) != text {
				t.Errorf("version %d: opened %d bytes, %v; want %d", version, len(got), err, len(text))
			}
		}
	}
	if value, err := k.Seal(t.Context(), at, 2, nil); err != nil || value == "" {
		t.Errorf("nil: %v", err)
	}
	bound, err := k.Seal(t.Context(), at, 2, []byte(canary))
	r.must(err)
	for name, c := range map[string]struct {
		at    cmek.Context
		value string
		want  error
	}{
		"another path":   {cmek.Context{VaultID: "v", Path: "c"}, bound, cmek.ErrDecrypt},
		"another vault":  {cmek.Context{VaultID: "w", Path: "a/b"}, bound, cmek.ErrDecrypt},
		"no path":        {cmek.Context{VaultID: "v"}, bound, cmek.ErrNeedsContext},
		"no blob":        {at, canary, cmek.ErrNotBlob},
		"of another key": {at, "AQECAwQFBgcICQoLDC3gPa5mMHGDGFnvi52pNfY=", cmek.ErrDecrypt},
	} {
		if got, err := k.Open(t.Context(), c.at, c.value); got != nil || !errors.Is(err, c.want) || errors.Is(err, ErrDenied) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := k.Seal(t.Context(), at, 3, nil); err == nil {
		t.Error("a version 3 was sealed")
	}
}

func TestWhoHasNoGrantIsDenied(t *testing.T) {
	r := newRig(t)
	f := r.granted("agent-7")
	seven, eight := r.as("agent-7").Key(f), r.as("agent-8").Key(f)
	value, err := seven.Seal(t.Context(), at, 1, []byte(canary))
	r.must(err)
	denied := func(k *Key) {
		t.Helper()
		_, err := k.Seal(t.Context(), at, 1, []byte(canary))
		if !errors.Is(err, ErrDenied) || errors.Is(err, cmek.ErrDecrypt) || strings.Contains(err.Error(), canary) {
			t.Errorf("seals: %v", err)
		}
		if got, err := k.Open(t.Context(), at, value); got != nil || !errors.Is(err, ErrDenied) {
			t.Errorf("opens: %q, %v", got, err)
		}
	}
	denied(eight)
	denied(r.as("stranger").Key(f))
	denied(r.as("agent-7").Key(strings.Repeat("0", 64)))
	r.must(r.keys.RevokeCMEKKey(t.Context(), f, "cert:agent-7"))
	denied(seven)
	if _, err := r.as("agent-7").Key("").Open(t.Context(), at, value); err == nil || errors.Is(err, ErrDenied) {
		t.Errorf("no fingerprint: %v", err)
	}
}

// A certificate that lives for an hour is replaced under a running agent.
func TestANewCertificateIsUsedForTheNextConnection(t *testing.T) {
	r := newRig(t)
	f := r.granted("agent-8")
	kms := r.as("agent-7")
	if _, err := kms.Key(f).Seal(t.Context(), at, 1, nil); !errors.Is(err, ErrDenied) {
		t.Fatal(err)
	}
	for _, suffix := range []string{".crt", ".key"} {
		text, err := os.ReadFile(r.file("agent-8" + suffix))
		r.must(err)
		r.must(os.WriteFile(r.file("agent-7"+suffix), text, 0o600))
	}
	kms.Close()
	if _, err := kms.Key(f).Seal(t.Context(), at, 1, nil); err != nil {
		t.Error(err)
	}
}

func TestAKeyProcessOfAnotherCAGetsNothing(t *testing.T) {
	r, other := newRig(t), newRig(t)
	k, err := New(Config{Endpoint: r.endpoint, Cert: r.file("agent-7.crt"), Key: r.file("agent-7.key"), CA: other.file("ca.crt")})
	r.must(err)
	defer k.Close()
	if _, err := k.Key(r.granted("agent-7")).Seal(t.Context(), at, 1, nil); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Error(err)
	}
}

func TestManyCallAtOnce(t *testing.T) {
	r := newRig(t)
	k := r.as("agent-7").Key(r.granted("agent-7"))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			value, err := k.Seal(t.Context(), at, 2, []byte(canary))
			if err == nil {
				_, err = k.Open(t.Context(), at, value)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestAnotherProcessDoesWhatOneDoesNotAnswer(t *testing.T) {
	r := newRig(t)
	var stop func()
	r.endpoint, stop = r.serve()
	second, _ := r.serve()
	r.endpoint += ", " + second
	f := r.granted("agent-7")
	k, eight := r.as("agent-7").Key(f), r.as("agent-8").Key(f)
	value, err := k.Seal(t.Context(), at, 2, []byte(canary))
	r.must(err)
	stop()
	for range 3 {
		if got, err := k.Open(t.Context(), at, value); err != nil || string(got) != canary {
			t.Errorf("opened %q, %v", got, err)
		}
	}
	if _, err := eight.Open(t.Context(), at, value); !errors.Is(err, ErrDenied) {
		t.Errorf("who has no grant: %v", err)
	}
}

// The first takes calls and says nothing, or that it cannot work; it is not asked again
// while the second answers. A refusal is an answer.
func TestWhoAnsweredLastIsAskedFirst(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"silent": func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() },
		"locked": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(503)
			io.WriteString(w, `{"code":"unavailable","error":"it is locked"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var asked [2]atomic.Int32
			count := func(i int, answer http.HandlerFunc) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) { asked[i].Add(1); answer(w, r) }
			}
			k := hostile(t, count(0, answer))
			k.kms.timeout = 2e9
			second := hostile(t, count(1, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(403)
				io.WriteString(w, `{"code":"forbidden","error":"no grant"}`)
			}))
			k.kms.places = append(k.kms.places, second.kms.places...)
			for range 3 {
				if _, err := k.Seal(t.Context(), at, 1, []byte("x")); !errors.Is(err, ErrDenied) {
					t.Error(err)
				}
			}
			if asked[0].Load() != 1 || asked[1].Load() != 3 {
				t.Errorf("asked %d and %d times", asked[0].Load(), asked[1].Load())
			}
		})
	}
}

// hostile is a key process that answers as it likes.
func hostile(t *testing.T, answer http.HandlerFunc) *Key {
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	k := &KMS{places: []place{{s.URL, s.Client()}}, timeout: 1e10}
	t.Cleanup(k.Close)
	return k.Key(strings.Repeat("a", 64))
}

func TestAnAnswerThatDoesNotFitIsAnError(t *testing.T) {
	blob, _ := cmek.EncryptValue(cmek.Generate(), []byte("other size"))
	for _, answer := range []string{"", "{}", "[]", "null", `{"value":""}`, `{"value":"` + canary + `"}`, `{"value":"` + blob + `"}`, `{"plaintext":"` + base64.StdEncoding.EncodeToString([]byte("longer than it was")) + `"}`} {
		k := hostile(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) })
		if value, err := k.Seal(t.Context(), at, 1, []byte("x")); err == nil {
			t.Errorf("%s: sealed as %q", answer, value)
		}
		if got, err := k.Open(t.Context(), at, blob); err == nil {
			t.Errorf("%s: opened as %q", answer, got)
		}
	}
	for _, status := range []int{301, 400, 500, 503} {
		k := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		})
		if _, err := k.Seal(t.Context(), at, 1, []byte("x")); err == nil {
			t.Errorf("%d is no error", status)
		}
	}
}

func TestWhatIsNoBlobIsNotSent(t *testing.T) {
	var calls atomic.Int32
	k := hostile(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	if _, err := k.Open(t.Context(), at, "a plaintext by mistake"); !errors.Is(err, cmek.ErrNotBlob) || calls.Load() != 0 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
}

func TestABodyIsWipedWhenItIsClosed(t *testing.T) {
	text := []byte(canary)
	b := &wipedBody{text: text}
	got, err := io.ReadAll(b)
	if err != nil || string(got) != canary {
		t.Fatalf("%q, %v", got, err)
	}
	b.Close()
	if !bytes.Equal(text, make([]byte, len(text))) {
		t.Errorf("still %q", text)
	}
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the close: %d, %v", n, err)
	}
}

func TestAConfigurationThatLacksSomethingIsRefused(t *testing.T) {
	r := newRig(t)
	good := Config{Endpoint: r.endpoint, Cert: r.file("agent-7.crt"), Key: r.file("agent-7.key"), CA: r.file("ca.crt")}
	for name, change := range map[string]func(*Config){
		"no endpoint":   func(c *Config) { c.Endpoint = "" },
		"an empty one":  func(c *Config) { c.Endpoint += "," },
		"plain HTTP":    func(c *Config) { c.Endpoint = "http://127.0.0.1:1" },
		"a path":        func(c *Config) { c.Endpoint += "/x" },
		"credentials":   func(c *Config) { c.Endpoint = "https://u:p@127.0.0.1:1" },
		"relative path": func(c *Config) { c.Endpoint = "unix://kms.sock" },
		"no cert":       func(c *Config) { c.Cert = "" },
		"no CA":         func(c *Config) { c.CA = "" },
		"mixed pair":    func(c *Config) { c.Key = r.file("agent-8.key") },
		"a CA that is none": func(c *Config) {
			c.CA = r.file("agent-7.key")
		},
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
