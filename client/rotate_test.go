package client_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
)

const fakeVault = "01900000-0000-7000-8000-00000000cccc"

// fakeRotator answers the calls of a rotation from a script.
type fakeRotator struct {
	t       *testing.T
	private hpke.PrivateKey
	public  []byte

	mu       sync.Mutex
	state    api.CMEKStatus        // owned by mu, as all below
	suite    string                // of the public key
	polls    []api.CMEKRotationJob // answers of the GETs, in order; status "lost" breaks the connection
	started  []api.RotateCMEK      // the POSTs
	headers  []http.Header         // of the POSTs
	startsAs string                // status that a POST answers
	asked    int                   // how often a public key was asked for
	gone     int                   // how many POSTs find the key gone that they are sealed to
	away     int                   // how many POSTs after the first find the key process away
}

func newFakeRotator(t *testing.T, vaultsKey *cmek.Key) (*fakeRotator, *client.Client, *recorder) {
	t.Helper()
	raw, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := hpke.NewDHKEMPrivateKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeRotator{
		t: t, private: private, public: raw.PublicKey().Bytes(), startsAs: "running",
		state: api.CMEKStatus{Enabled: true, Fingerprint: vaultsKey.Fingerprint(), BlobVersion: 1, KeyCheck: vaultsKey.Check(fakeVault)},
		suite: "DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM",
	}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	seen := &recorder{}
	c, err := client.New(s.URL, "1ck_x", client.WithTransport(seen))
	if err != nil {
		t.Fatal(err)
	}
	return f, c, seen
}

func (f *fakeRotator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	job := api.CMEKRotationJob{ID: "j1", VaultID: fakeVault, OldFingerprint: f.state.Fingerprint, Status: f.startsAs, TotalSecrets: 3}
	switch path := strings.TrimPrefix(r.URL.Path, "/v1/vaults/"+fakeVault); {
	case path == "/cmek":
		answer(200, f.state)
	case path == "/cmek-rotate-key":
		f.asked++
		answer(200, api.CMEKRotationKey{KeyID: "k" + strconv.Itoa(f.asked), Suite: f.suite, PublicKey: f.public})
	case path == "/cmek-rotate" && r.Method == "POST":
		var req api.RotateCMEK
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			f.t.Error(err)
		}
		if f.started, f.headers = append(f.started, req), append(f.headers, r.Header); len(f.started) <= f.gone {
			answer(400, api.Problem{Type: api.ProblemCMEKRotationKeyGone, Detail: "ask for another key"})
			return
		}
		if len(f.started) > 1 && f.away > 0 {
			f.away--
			answer(503, api.Problem{Detail: "the key process is away"})
			return
		}
		answer(202, job)
	case path == "/cmek-rotate/j1" && len(f.polls) > 0:
		next := f.polls[0]
		if f.polls = f.polls[1:]; next.Status == "lost" {
			panic(http.ErrAbortHandler)
		}
		next.ID = "j1"
		answer(200, next)
	default:
		f.t.Errorf("nobody expected %s %s", r.Method, r.URL.Path)
		answer(404, api.Problem{Detail: "no"})
	}
}

// opened is what the key process makes of sealed keys.
func (f *fakeRotator) opened(k *api.SealedCMEKKeys, info string) ([]byte, error) {
	r, err := hpke.NewRecipient(k.Enc, f.private, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info))
	if err != nil {
		return nil, err
	}
	return r.Open(nil, k.Ciphertext)
}

// spellings are all ways in which a key could be sent.
func spellings(k *cmek.Key) []string {
	raw := k.Bytes()
	return []string{string(raw), base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw), hexOf(raw), strings.ToUpper(hexOf(raw))}
}

func hexOf(raw []byte) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, c := range raw {
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// wantNotSent fails if any of the keys was sent in any spelling.
func wantNotSent(t *testing.T, seen *recorder, keys ...*cmek.Key) {
	t.Helper()
	for _, k := range keys {
		for _, text := range spellings(k) {
			if seen.holds(text) {
				t.Error("a key went over the wire")
			}
		}
	}
}

func TestRotationKeysAreSealedToTheKeyProcessForThisRotationAlone(t *testing.T) {
	old, fresh := cmek.Generate(), cmek.Generate()
	f, c, seen := newFakeRotator(t, old)
	f.polls = []api.CMEKRotationJob{{Status: "running", Processed: 1, TotalSecrets: 3}, {Status: "completed", Processed: 3, TotalSecrets: 3}}
	var at []int
	job, err := c.RotateCMEK(t.Context(), fakeVault, old, fresh, client.RotateOptions{OnProgress: func(j api.CMEKRotationJob) { at = append(at, j.Processed) }})
	if err != nil || job.Status != "completed" {
		t.Fatalf("%+v, %v", job, err)
	}
	if want := []int{0, 1, 3}; !equalInts(at, want) {
		t.Errorf("progress %v, want %v", at, want)
	}
	wantNotSent(t, seen, old, fresh)
	req := f.started[0]
	if req.NewFingerprint != fresh.Fingerprint() || req.NewKeyCheck != fresh.Check(fakeVault) || req.SealedKeys == nil || req.SealedKeys.KeyID != "k1" {
		t.Fatalf("sent %+v", req)
	}
	info := "keyfold/cmek-rotation/v1\n" + fakeVault + "\n" + old.Fingerprint() + "\n" + fresh.Fingerprint()
	keys, err := f.opened(req.SealedKeys, info)
	if err != nil || !bytes.Equal(keys, append(old.Bytes(), fresh.Bytes()...)) {
		t.Errorf("the key process opens %d bytes, %v", len(keys), err)
	}
	if _, err := f.opened(req.SealedKeys, strings.Replace(info, "cccc", "dddd", 1)); err == nil {
		t.Error("the sealed keys open for another vault")
	}
}

func equalInts(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestNothingIsSentThatIsNotTheVaultsKey(t *testing.T) {
	old, fresh, other := cmek.Generate(), cmek.Generate(), cmek.Generate()
	wiped := cmek.Generate()
	wiped.Wipe()
	for name, c := range map[string]struct {
		vaults, old, fresh *cmek.Key
		change             func(*fakeRotator)
	}{
		"another key":            {other, old, fresh, nil},
		"the same key twice":     {old, old, old, nil},
		"a wiped key":            {old, old, wiped, nil},
		"a vault without a key":  {old, old, fresh, func(f *fakeRotator) { f.state.Enabled = false }},
		"another key's check":    {old, old, fresh, func(f *fakeRotator) { f.state.KeyCheck = other.Check(fakeVault) }},
		"another vault's check":  {old, old, fresh, func(f *fakeRotator) { f.state.KeyCheck = old.Check("v") }},
		"a suite of its own":     {old, old, fresh, func(f *fakeRotator) { f.suite = "none" }},
		"a public key off curve": {old, old, fresh, func(f *fakeRotator) { f.public = bytes.Repeat([]byte{4}, 65) }},
	} {
		t.Run(name, func(t *testing.T) {
			f, cl, seen := newFakeRotator(t, c.vaults)
			if c.change != nil {
				c.change(f)
			}
			_, err := cl.RotateCMEK(t.Context(), fakeVault, c.old, c.fresh, client.RotateOptions{})
			if err == nil || len(f.started) > 0 {
				t.Errorf("it began: %v", err)
			}
			wantNotSent(t, seen, old, fresh, other)
			if strings.Contains(name, "suite") || strings.Contains(name, "public") {
				return // of sealed keys alone
			}
			_, err = cl.RotateCMEK(t.Context(), fakeVault, c.old, c.fresh, client.RotateOptions{InHeaders: true})
			if err == nil || len(f.started) > 0 {
				t.Errorf("it began with headers: %v", err)
			}
			wantNotSent(t, seen, old, fresh, other)
		})
	}
}

func TestKeysGoIntoHeadersOnlyWhenToldAndOverAPrivateConnection(t *testing.T) {
	old, fresh := cmek.Generate(), cmek.Generate()
	f, c, _ := newFakeRotator(t, old)
	f.startsAs = "completed"
	if _, err := c.RotateCMEK(t.Context(), fakeVault, old, fresh, client.RotateOptions{InHeaders: true}); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*cmek.Key{api.HeaderCMEKOldKey: old, api.HeaderCMEKNewKey: fresh} {
		if got := f.headers[0].Get(name); got != base64.StdEncoding.EncodeToString(k.Bytes()) {
			t.Errorf("%s is another", name)
		}
	}
	if f.started[0].SealedKeys != nil {
		t.Error("the keys were sealed too")
	}
	far, err := client.New("http://keyfold.example:7420", "1ck_x", client.WithTransport(answering{f}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := far.RotateCMEK(t.Context(), fakeVault, old, fresh, client.RotateOptions{InHeaders: true}); err == nil || len(f.started) != 1 {
		t.Errorf("plain HTTP to another machine: %v", err)
	}
}

// answering is a transport to a handler, whatever the address.
type answering struct {
	http.Handler
}

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w.Result(), nil
}

func TestAnInterruptedRotationGetsItsKeysAgain(t *testing.T) {
	old, fresh := cmek.Generate(), cmek.Generate()
	f, c, _ := newFakeRotator(t, old)
	f.polls = []api.CMEKRotationJob{{Status: "running", Processed: 1}, {Status: "lost"}, {Status: "interrupted", Processed: 1}, {Status: "running", Processed: 2}, {Status: "completed", Processed: 3}}
	job, err := c.RotateCMEK(t.Context(), fakeVault, old, fresh, client.RotateOptions{})
	if err != nil || job.Status != "completed" || len(f.started) != 2 {
		t.Errorf("%+v after %d starts, %v", job, len(f.started), err)
	}
	if bytes.Equal(f.started[0].SealedKeys.Enc, f.started[1].SealedKeys.Enc) {
		t.Error("the same sealed keys were sent twice")
	}
}

// A key process that is away for longer than a rotation may be without progress
// costs none of the times that it may be taken up again.
func TestAnInterruptedRotationWaitsForAKeyProcessThatIsAway(t *testing.T) {
	old, fresh := cmek.Generate(), cmek.Generate()
	f, _, _ := newFakeRotator(t, old)
	synctest.Test(t, func(t *testing.T) {
		c, err := client.New("http://127.0.0.1", "1ck_x", client.WithTransport(answering{f}))
		if err != nil {
			t.Fatal(err)
		}
		f.away = 20
		f.polls = []api.CMEKRotationJob{{Status: "interrupted"}, {Status: "running", Processed: 2}, {Status: "completed", Processed: 3}}
		job, err := c.RotateCMEK(t.Context(), fakeVault, old, fresh, client.RotateOptions{})
		if err != nil || job.Status != "completed" || f.away != 0 {
			t.Errorf("%+v, %v; %d answers are left", job, err, f.away)
		}
	})
}

func TestAOneTimeKeyThatIsGoneIsAskedForOnceMore(t *testing.T) {
	old, fresh := cmek.Generate(), cmek.Generate()
	for gone, works := range map[int]bool{1: true, 2: false} {
		f, c, _ := newFakeRotator(t, old)
		f.gone = gone
		_, err := c.StartCMEKRotation(t.Context(), fakeVault, old, fresh, client.RotateOptions{})
		if (err == nil) != works || len(f.started) != 2 || f.asked != 2 {
			t.Errorf("gone %d times: %d starts with %d keys, %v", gone, len(f.started), f.asked, err)
		} else if k := f.started[1].SealedKeys; k.KeyID != "k2" || bytes.Equal(k.Enc, f.started[0].SealedKeys.Enc) {
			t.Errorf("gone %d times: the second start is sealed to %s", gone, k.KeyID)
		}
	}
}

func TestARotationThatIsNotCompletedSaysSo(t *testing.T) {
	old, fresh := cmek.Generate(), cmek.Generate()
	for _, status := range []string{"failed", "cancelled"} {
		f, c, _ := newFakeRotator(t, old)
		f.polls = []api.CMEKRotationJob{{Status: status, Error: "db/a, version 1"}}
		job, err := c.RotateCMEK(t.Context(), fakeVault, old, fresh, client.RotateOptions{})
		e, ok := errors.AsType[*client.RotationError](err)
		if !ok || e.Job.Status != status || job.Status != status || !strings.Contains(err.Error(), "db/a") {
			t.Errorf("%+v, %v", job, err)
		}
	}
	f, c, _ := newFakeRotator(t, old)
	ctx, cancel := context.WithCancel(t.Context())
	f.polls = make([]api.CMEKRotationJob, 100)
	for i := range f.polls {
		f.polls[i].Status = "running"
	}
	job, err := c.RotateCMEK(ctx, fakeVault, old, fresh, client.RotateOptions{OnProgress: func(api.CMEKRotationJob) { cancel() }})
	if !errors.Is(err, context.Canceled) || job.ID != "j1" {
		t.Errorf("%+v, %v", job, err)
	}
}

// At its end a rotation refuses the old key for a moment.
func TestAWriteThatMeetsTheEndOfARotationTakesTheNewKey(t *testing.T) {
	old, fresh := cmek.Generate(), cmek.Generate()
	state := api.CMEKStatus{Enabled: true, Fingerprint: old.Fingerprint(), BlobVersion: 1, KeyCheck: old.Check(fakeVault)}
	var declared []string
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			_ = json.NewEncoder(w).Encode(state)
			return
		}
		declared = append(declared, r.Header.Get(api.HeaderCMEKFingerprint))
		if declared[len(declared)-1] == old.Fingerprint() {
			state.Rotation = &api.CMEKRotationJob{ID: "j1", NewFingerprint: fresh.Fingerprint(), Status: "running"}
			w.WriteHeader(409)
			_ = json.NewEncoder(w).Encode(api.Problem{Type: api.ProblemCMEKRotationClosing, Detail: "come again"})
			return
		}
		w.WriteHeader(201)
		_ = json.NewEncoder(w).Encode(api.SecretMetadata{Version: 1})
	})
	c, err := client.New("http://localhost", "1ck_x", client.WithTransport(answering{h}), client.WithCMEKKey(old, fresh))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.Put(t.Context(), fakeVault, "a", []byte("v"), client.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{old.Fingerprint(), fresh.Fingerprint(), fresh.Fingerprint()}; strings.Join(declared, " ") != strings.Join(want, " ") {
		t.Errorf("declared %v, want %v", declared, want)
	}
	declared, state.Rotation = nil, nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, err = client.New("http://localhost", "1ck_x", client.WithTransport(answering{h}), client.WithCMEKKey(old))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, fakeVault, "a", []byte("v"), client.PutOptions{}); !client.IsConflict(err) || len(declared) != 2 {
		t.Errorf("with the old key alone: %v after %d tries", err, len(declared))
	}
}
