package kmsclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// rotating makes k answer /reencrypt and /cmek_rotation.
func rotating(k *fakeKMS) *fakeKMS {
	route(k, kmsapi.Reencrypt, func(i kmsapi.ReencryptItem) kmsapi.ReencryptResult {
		if i.Path == "neither" {
			return kmsapi.ReencryptResult{Err: fault.New(fault.Unopenable, "neither").WithType(kmsapi.TypeCMEKNeitherKey)}
		}
		e := i.Envelope
		e.KEKVersion++
		return kmsapi.ReencryptResult{Envelope: e, Opened: kmsapi.OpenedOld}
	})
	route(k, kmsapi.CMEKRotation, func(i kmsapi.OpenCMEKRotation) kmsapi.CMEKRotationOpened {
		if len(i.Old) != 32 {
			return kmsapi.CMEKRotationOpened{Err: fault.New(fault.Invalid, "no").WithType(kmsapi.TypeCMEKOldKey)}
		}
		return kmsapi.CMEKRotationOpened{Session: "session-1"}
	})
	return k
}

func rotatingRig(t testing.TB, cfg Config) (*fakeKMS, *Client) {
	k, c, _ := rig(t, cfg)
	return rotating(k), c
}

func values(n, size int) []kmsapi.ReencryptItem {
	items := make([]kmsapi.ReencryptItem, n)
	for i := range items {
		items[i] = kmsapi.ReencryptItem{
			Envelope: kmsapi.Envelope{KEKID: "v", KEKVersion: uint32(i + 1), WrappedDEK: make([]byte, 60), Ciphertext: bytes.Repeat([]byte{byte(i)}, size)},
			AAD:      []byte("a"), NewAAD: []byte("b"), Path: "p",
		}
	}
	return items
}

const customerKey = "the key of a customer, 32 bytes "

func askFor() kmsapi.OpenCMEKRotation {
	return kmsapi.OpenCMEKRotation{Vault: "v", OldFingerprint: "f", NewFingerprint: "g", Old: []byte(customerKey), New: []byte(customerKey)}
}

func TestReencryptIsOneCallOfItsOwnWithItsSession(t *testing.T) {
	k, c := rotatingRig(t, Config{})
	var mu sync.Mutex
	seen, busy := map[string]int{}, make(chan struct{})
	k.on(func(w http.ResponseWriter, r *http.Request, n int) bool {
		mu.Lock()
		seen[r.URL.RequestURI()] += n
		if len(seen) == 8 {
			close(busy) // all are on their way at once
		}
		mu.Unlock()
		<-busy
		return false
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			session := string(rune('a' + i))
			results, err := c.Reencrypt(t.Context(), session, values(10+i, 5))
			if err != nil || len(results) != 10+i || results[9].Envelope.KEKVersion != 11 || results[9].Opened != kmsapi.OpenedOld {
				t.Errorf("%s: %d results, %v", session, len(results), err)
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		if uri := "/reencrypt?session=" + string(rune('a'+i)); seen[uri] != 10+i || k.calls.Load() != 8 {
			t.Errorf("%s: %d items in %d calls", uri, seen[uri], k.calls.Load())
		}
	}
}

func TestReencryptOfMoreThanOneRequestHoldsFailsAsAWholeOrNotAtAll(t *testing.T) {
	k, c := rotatingRig(t, Config{})
	items := values(5, 1<<20)
	items[1].Path = "neither"
	results, err := c.Reencrypt(t.Context(), "s", items)
	if err != nil || len(results) != 5 || k.calls.Load() != 2 {
		t.Fatalf("%d results in %d calls, %v", len(results), k.calls.Load(), err)
	}
	for i, r := range results {
		if fails := i == 1; fails != (r.Err != nil) || !fails && (r.Envelope.KEKVersion != uint32(i+2) || !bytes.Equal(r.Envelope.Ciphertext, items[i].Envelope.Ciphertext)) {
			t.Errorf("item %d: %v", i, r.Err)
		}
	}
	if fault.Of(results[1].Err).Type != kmsapi.TypeCMEKNeitherKey {
		t.Errorf("item 1: %v", results[1].Err)
	}
	k.on(func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 5 {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		w.Write(kmsapi.AppendError(nil, fault.New(fault.NotFound, "gone").WithType(kmsapi.TypeCMEKSessionGone)))
		return true
	})
	results, err = c.Reencrypt(t.Context(), "s", items)
	if results != nil || !errors.Is(err, fault.NotFound) || fault.Of(err).Type != kmsapi.TypeCMEKSessionGone {
		t.Errorf("%d results, %v", len(results), err)
	}
	if results, err = c.Reencrypt(t.Context(), "s", values(1, kmsapi.MaxBody)); err != nil || !errors.Is(results[0].Err, fault.TooLarge) {
		t.Errorf("an item that no request holds: %v, %v", results, err)
	}
}

func TestAReencryptedValueThatDoesNotFitItsItemIsAnError(t *testing.T) {
	for what, change := range map[string]func(*kmsapi.ReencryptResult){
		"another KEK":     func(r *kmsapi.ReencryptResult) { r.Envelope.KEKID = "w" },
		"another length":  func(r *kmsapi.ReencryptResult) { r.Envelope.Ciphertext = append(r.Envelope.Ciphertext, 0) },
		"a short DEK":     func(r *kmsapi.ReencryptResult) { r.Envelope.WrappedDEK = r.Envelope.WrappedDEK[1:] },
		"an unknown word": func(r *kmsapi.ReencryptResult) { r.Opened = "both" },
	} {
		k, c := rotatingRig(t, Config{})
		k.on(func(w http.ResponseWriter, _ *http.Request, n int) bool {
			results := make([]kmsapi.ReencryptResult, n)
			for i, item := range values(n, 5) {
				results[i] = kmsapi.ReencryptResult{Envelope: item.Envelope, Opened: kmsapi.OpenedNew}
			}
			change(&results[1])
			w.Write(kmsapi.Reencrypt.AppendAnswer(nil, results))
			return true
		})
		results, err := c.Reencrypt(t.Context(), "s", values(3, 5))
		if err != nil || results[0].Err != nil || results[2].Err != nil || !errors.Is(results[1].Err, fault.Internal) || results[1].Envelope.Ciphertext != nil {
			t.Errorf("%s: %+v, %v", what, results, err)
		}
	}
}

func TestASessionIsNotOpenedTwiceWhenItsAnswerWasLost(t *testing.T) {
	k, c := rotatingRig(t, Config{Retry: long})
	k.on(func(http.ResponseWriter, *http.Request, int) bool { panic(http.ErrAbortHandler) })
	if _, err := c.OpenCMEKRotation(t.Context(), askFor()); !errors.Is(err, fault.Unavailable) || k.calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, k.calls.Load())
	}
	n := k.calls.Load()
	if _, err := c.Reencrypt(t.Context(), "s", values(1, 1)); !errors.Is(err, fault.Unavailable) || k.calls.Load() != n+maxSends {
		t.Errorf("what may be repeated: %v after %d calls", err, k.calls.Load()-n)
	}
}

func TestASessionIsOpenedOnceTheKMSIsThere(t *testing.T) {
	k, s := rotating(newFakeKMS()), newSocket(t)
	c := s.client(t, Config{Retry: time.Minute})
	done := make(chan error, 1)
	go func() {
		session, err := c.OpenCMEKRotation(context.Background(), askFor())
		if err == nil && session != "session-1" {
			err = errors.New(session)
		}
		done <- err
	}()
	s.start(t, &k.mux)
	if err := <-done; err != nil || k.calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, k.calls.Load())
	}
}

func TestAnItemOfASessionFailsWithItsType(t *testing.T) {
	_, c := rotatingRig(t, Config{})
	o := askFor()
	o.Old = nil
	if session, err := c.OpenCMEKRotation(t.Context(), o); session != "" || !errors.Is(err, fault.Invalid) || fault.Of(err).Type != kmsapi.TypeCMEKOldKey {
		t.Errorf("%q, %v", session, err)
	}
}

func TestACustomersKeysStayInNoBufferOfTheClient(t *testing.T) {
	_, c := rotatingRig(t, Config{})
	for _, o := range []kmsapi.OpenCMEKRotation{askFor(), {Vault: "v", OldFingerprint: "f", NewFingerprint: "g", Old: []byte("short" + customerKey), New: []byte(customerKey)}} {
		c.OpenCMEKRotation(t.Context(), o)
		s := c.places[0].wires.get(c)
		s.mu.Lock()
		if len(s.idle) != 1 {
			t.Fatalf("%d idle connections", len(s.idle))
		}
		written := s.idle[0].w.AvailableBuffer()
		s.mu.Unlock()
		pooled := getBuffer(0)
		for name, b := range map[string][]byte{"a connection's": written[:cap(written)], "a pooled one": pooled.b[:cap(pooled.b)]} {
			if bytes.Contains(b, []byte(customerKey[:16])) {
				t.Errorf("a key stays in %s buffer", name)
			}
		}
		if string(o.New) != customerKey {
			t.Error("the caller's own copy was wiped")
		}
	}
}

func TestAHangingKMSEndsReencryptInTime(t *testing.T) {
	k, c := rotatingRig(t, Config{})
	c.maxWait = 20 * time.Millisecond
	k.on(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		<-r.Context().Done()
		return true
	})
	if _, err := c.Reencrypt(t.Context(), "s", values(1, 1)); !errors.Is(err, fault.Unavailable) || !c.down.Load() {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Reencrypt(ctx, "s", values(1, 1)); !errors.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
}

func TestCloseEndsReencrypt(t *testing.T) {
	k, c := rotatingRig(t, Config{})
	c.maxWait = time.Hour // so that nothing else ends it
	arrived := make(chan struct{})
	k.on(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		close(arrived)
		<-r.Context().Done()
		return true
	})
	done := make(chan error, 1)
	go func() {
		_, err := c.Reencrypt(context.Background(), "s", values(1, 1))
		done <- err
	}()
	<-arrived
	c.Close()
	if err := <-done; !errors.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}

func TestASessionThatIsNoPathIsNoCall(t *testing.T) {
	s := newSocket(t)
	s.start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Error("it called", r.RequestURI) }))
	c := s.client(t, Config{})
	for _, session := range []string{"", "../status", "a/b", "a?b", "a b", "\n"} {
		if alive, err := c.CMEKRotationAlive(t.Context(), session); alive || err != nil {
			t.Errorf("%q lives: %v", session, err)
		}
		if err := c.CloseCMEKRotation(t.Context(), session); err != nil {
			t.Errorf("%q: %v", session, err)
		}
	}
}

func TestARotationKeyOfAnotherSuiteIsAnError(t *testing.T) {
	s := newSocket(t)
	s.start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"key_id":"k","suite":"`+strings.Replace(kmsapi.CMEKRotationSuite, "P-256", "P-521", 1)+`","public_key":"AAAA","expires_at":"2026-11-22T08:10:00Z"}`)
	}))
	if k, err := s.client(t, Config{}).CMEKRotationKey(t.Context(), ""); !errors.Is(err, fault.Internal) || k.KeyID != "" {
		t.Errorf("%+v, %v", k, err)
	}
}
