package client

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
)

// tripper answers requests by a function.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func sealedWith(k *cmek.Key) string {
	return `{"id":"v","cmek_enabled":true,"cmek_fingerprint":"` + k.Fingerprint() + `"}`
}

const openVault = `{"id":"v","cmek_enabled":false}`

func TestASlowAnswerThatAVaultIsOpenDoesNotUndoThatItIsSealed(t *testing.T) {
	key := cmek.Generate()
	asked, answers := make(chan struct{}), make(chan string)
	c, err := New("http://keyfold.test", "", WithCMEKKey(key), WithTransport(tripper(func(r *http.Request) (*http.Response, error) {
		switch r.Method {
		case "GET":
			asked <- struct{}{}
			return answer(200, <-answers), nil
		case "POST":
			return answer(200, sealedWith(key)), nil
		}
		t.Errorf("the value was sent: %s", r.Method)
		return answer(500, "{}"), nil
	})))
	if err != nil {
		t.Fatal(err)
	}
	slow := make(chan error, 1)
	go func() {
		_, err := c.Put(t.Context(), "v", "a", []byte("value"), PutOptions{})
		slow <- err
	}()
	<-asked // and before it is answered:
	if _, err := c.EnableCMEK(t.Context(), "v", key.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	answers <- openVault
	if err := <-slow; !errors.Is(err, ErrUnsealed) {
		t.Errorf("the write answered %v", err)
	}
	if s, err := c.state(t.Context(), "v"); err != nil || s.fingerprint != key.Fingerprint() {
		t.Errorf("remembered %+v, %v", s, err)
	}
}

func TestAnAnswerCountsForTheVaultThatWasAskedFor(t *testing.T) {
	key := cmek.Generate()
	f := &fake{answers: []any{answer(200, sealedWith(key)), answer(200, openVault)}}
	c, _ := newFake(t, f)
	if _, err := c.EnableCMEK(t.Context(), "v", key.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	if s, err := c.state(t.Context(), "other"); err != nil || s.fingerprint != "" {
		t.Fatalf("other: %+v, %v", s, err)
	}
	if s, err := c.state(t.Context(), "v"); err != nil || s.fingerprint != key.Fingerprint() {
		t.Errorf("an answer about another vault unsealed this one: %+v, %v", s, err)
	}
	if _, err := c.state(t.Context(), "other"); err != nil || len(f.calls) != 2 {
		t.Errorf("the answer was not kept for the vault that was asked for: %d calls, %v", len(f.calls), err)
	}
}

func TestABoundVaultIsNotBelievedToTakeUnboundBlobs(t *testing.T) {
	c := &Client{sealed: map[string]vaultState{}}
	bound := api.CMEKStatus{Enabled: true, Fingerprint: strings.Repeat("a", 64), BlobVersion: 2}
	if _, err := c.remember("v", bound, false); err != nil {
		t.Fatal(err)
	}
	c.doubt("v")
	unbound := bound
	unbound.BlobVersion = 1
	if _, err := c.remember("v", unbound, false); !errors.Is(err, ErrUnbound) {
		t.Errorf("%v, want ErrUnbound", err)
	}
	for what, s := range map[string]api.CMEKStatus{
		"the same":    bound,
		"another key": {Enabled: true, Fingerprint: strings.Repeat("b", 64), BlobVersion: 1},
	} {
		c.sealed["v"] = vaultState{fingerprint: bound.Fingerprint, blobVersion: 2}
		if _, err := c.remember("v", s, false); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
