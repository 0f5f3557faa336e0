package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestATokenSaysOnEveryServerWhatItWasIssuedFor(t *testing.T) {
	w := newWorld(t)
	other := w.another()
	for _, c := range []Claims{
		agent,
		{Kind: access.Agent, ID: "a", OrgID: "o"},
		{Kind: access.User, ID: "u", OrgID: "o"},
		{Kind: access.User, ID: "u", OrgID: "o", Session: "5e55"},
		{Kind: access.User, ID: "u", OrgID: "o", Scopes: []string{"*", "ü/**"}, Vaults: []string{"v"}, IssuedAt: w.now().Add(-time.Second)},
	} {
		c.Expires = w.now().Add(MaxTTL)
		text, _, err := w.Issue(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		want := c
		want.Expires = c.Expires.Truncate(time.Second)
		if c.IssuedAt.IsZero() {
			want.IssuedAt = w.now()
		}
		for _, s := range []*Service{w.Service, other, other} {
			got, err := s.Verify(t.Context(), text)
			if err != nil || !got.IssuedAt.Equal(want.IssuedAt) || !got.Expires.Equal(want.Expires) || len(got.JTI) != 32 {
				t.Fatal(got, err)
			}
			got.JTI, got.IssuedAt, got.Expires = "", want.IssuedAt, want.Expires
			if got.Kind == access.Agent {
				got.Scopes, got.Vaults = append(c.Scopes[:0:0], got.Scopes...), append(c.Vaults[:0:0], got.Vaults...)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestATokenHasExactlyTheClaimsOfTheContract(t *testing.T) {
	w := newWorld(t)
	parts := strings.Split(w.issue(w.Service, time.Hour), ".")
	if len(parts) != 3 {
		t.Fatal(parts)
	}
	var header, claims map[string]any
	if err := errors.Join(json.Unmarshal(decoded(parts[0]), &header), json.Unmarshal(decoded(parts[1]), &claims)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"alg": "EdDSA", "typ": "JWT", "kid": w.keys.Load().list[0].ID}, header); diff != "" {
		t.Error(diff)
	}
	want := map[string]any{
		"sub": "agent:" + agent.ID, "org": agent.OrgID, "scopes": []any{"prod/**", "a/*"}, "vault_ids": []any{agent.Vaults[0]},
		"exp": 1_790_003_600.0, "iat": 1_790_000_000.0, "jti": claims["jti"], "intents_api_enabled": false,
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Error(diff)
	}
	for c, want := range map[string]string{
		`{"Kind":"agent","ID":"a","OrgID":"o"}`: `"scopes":[],"vault_ids":[],"intents_api_enabled":false,`,
		`{"Kind":"user","ID":"a","OrgID":"o"}`:  `"org":"o","exp":`,
	} {
		var in Claims
		if err := json.Unmarshal([]byte(c), &in); err != nil {
			t.Fatal(err)
		}
		in.Expires = w.now().Add(time.Hour)
		text, _, err := w.Issue(t.Context(), in)
		if got := string(decoded(strings.Split(text, ".")[1])); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s, want %s, %v", got, want, err)
		}
	}
}

func TestEveryTokenHasANameOfItsOwn(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for range 50 {
		c := w.lives(w.Service, w.issue(w.Service, time.Hour))
		if seen[c.JTI] {
			t.Fatal("a jti came twice")
		}
		seen[c.JTI] = true
	}
}

func TestNothingSenselessIsIssued(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*Claims){
		"nobody":              func(c *Claims) { c.ID = "" },
		"of no org":           func(c *Claims) { c.OrgID = "" },
		"an operator":         func(c *Claims) { c.Kind = access.Operator },
		"an org's end user":   func(c *Claims) { c.Kind = access.EndUser },
		"no end":              func(c *Claims) { c.Expires = time.Time{} },
		"dead already":        func(c *Claims) { c.Expires = w.now().Add(-Leeway - time.Second) },
		"too long":            func(c *Claims) { c.Expires = w.now().Add(MaxTTL + 2*time.Second) },
		"issued in an hour":   func(c *Claims) { c.IssuedAt = w.now().Add(time.Hour) },
		"a backdated century": func(c *Claims) { c.Expires = w.now().Add(100 * 365 * MaxTTL) },
	} {
		c := agent
		c.Expires = w.now().Add(time.Hour)
		change(&c)
		if text, _, err := w.Issue(t.Context(), c); text != "" || !errors.Is(err, fault.Internal) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	c := agent
	c.Expires = w.now().Add(time.Hour)
	c.Scopes = []string{strings.Repeat("x", MaxText)}
	if text, _, err := w.Issue(t.Context(), c); text != "" || !errors.Is(err, fault.TooLarge) || strings.Contains(err.Error(), "xxx") {
		t.Errorf("more than a token holds: %q, %v", text, err)
	}
	c.Scopes = []string{strings.Repeat("x", MaxText*3/4-500)}
	text, _, err := w.Issue(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	w.lives(w.another(), text)
}

func TestATokenLivesFromItsIssueToItsEndWithTheLeeway(t *testing.T) {
	const almost = Leeway - time.Nanosecond
	for _, cached := range []bool{false, true} {
		w := newWorld(t)
		text := w.issue(w.Service, time.Hour)
		c := w.lives(w.Service, text)
		at := func(to time.Time) *Service {
			w.clock.Store(to.UnixNano())
			if cached {
				return w.Service
			}
			return w.another()
		}
		w.lives(at(c.IssuedAt), text)
		w.lives(at(c.Expires.Add(-time.Second)), text)
		w.lives(at(c.Expires.Add(almost)), text)
		w.dead(at(c.Expires.Add(Leeway)), text, "after its end")
		w.dead(at(c.Expires.Add(100*MaxTTL)), text, "long after its end")
		w.lives(at(c.IssuedAt.Add(-almost)), text)
		w.dead(at(c.IssuedAt.Add(-Leeway-time.Second)), text, "before its issue")
	}
}

func TestARevokedTokenIsDeadOnEveryServerAtOnce(t *testing.T) {
	w := newWorld(t)
	first, warm, cold := w.Service, w.another(), w.another()
	text, other := w.issue(first, time.Hour), w.issue(first, time.Hour)
	c := w.lives(first, text)
	w.lives(warm, text)
	w.lives(warm, text)
	if err := cold.Revoke(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Service{first, warm, cold, w.another()} {
		w.dead(s, text, "revoked")
		w.lives(s, other)
	}
	if err := first.Revoke(t.Context(), c); err != nil {
		t.Error("revoked again:", err)
	}
	w.dead(first, text, "revoked twice")
}

func TestARevocationIsKeptUntilTheTokenIsDeadAnyway(t *testing.T) {
	w := newWorld(t)
	text := w.issue(w.Service, time.Hour)
	c := w.lives(w.Service, text)
	if err := w.Revoke(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for w.now().Before(c.Expires.Add(Leeway + keep)) {
		w.dead(w.Service, text, "revoked")
		w.dead(w.another(), text, "revoked")
		if w.begins(layout.Revoked("")) != 1 {
			t.Fatal("the row is gone too early")
		}
		w.pass(7 * time.Minute)
		w.challenge("sweeps") // commits sweep
	}
	w.challenge("sweeps")
	if n := w.begins(layout.Revoked("")); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	w.dead(w.Service, text, "revoked, and after its end")
}

func (w *world) challenge(subject string) string {
	w.t.Helper()
	text, err := w.PutChallenge(context.Background(), Challenge{Kind: "mfa", Subject: subject})
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func TestEveryVerifyAsksForTheRevocationOnce(t *testing.T) {
	w := newWorld(t)
	text := w.issue(w.Service, time.Hour)
	row := layout.Revoked(w.lives(w.Service, text).JTI)
	for range 3 {
		w.store.gets = nil
		w.lives(w.Service, text)
		if diff := cmp.Diff([]string{row}, w.store.gets); diff != "" {
			t.Error(diff)
		}
	}
	for cause, want := range map[error]fault.Code{store.ErrClosed: fault.Unavailable, store.ErrDamaged: fault.Damaged, context.Canceled: fault.Unavailable} {
		w.store.fail = func(string) error { return cause }
		if c, err := w.Verify(t.Context(), text); !errors.Is(err, want) || c.ID != "" {
			t.Errorf("%v: %+v, %v", cause, c, err)
		}
	}
}

func TestARevocationWithoutANameIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, c := range []Claims{{}, {JTI: "x"}, {Expires: w.now()}} {
		if err := w.Revoke(t.Context(), c); !errors.Is(err, fault.Internal) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestARevocationThatIsNotStoredIsAnError(t *testing.T) {
	w := newWorld(t)
	text := w.issue(w.Service, time.Hour)
	c := w.lives(w.Service, text)
	w.store.fail = func(call string) error {
		if call == "commit" {
			return errors.New("disk")
		}
		return nil
	}
	if err := w.Revoke(t.Context(), c); !errors.Is(err, fault.Internal) {
		t.Error(err)
	}
	w.lives(w.Service, text)
}

func TestTheCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	var c cache
	used := &verified{size: entryBytes}
	c.put(digest{1}, used)
	for i := range 4 * generationBytes / MaxText {
		c.put(digest{0, byte(i), byte(i >> 8), byte(i >> 16)}, &verified{size: MaxText})
		if c.get(digest{1}) != used {
			t.Fatal("what is used was dropped")
		}
		total := 0
		for _, generation := range []map[digest]*verified{c.young, c.old} {
			for _, v := range generation {
				total += v.size
			}
		}
		if total > 2*(generationBytes+MaxText) {
			t.Fatalf("%d bytes are held", total)
		}
	}
	if c.get(digest{0, 0, 0, 0}) != nil {
		t.Error("what is not used was kept")
	}
}

func TestVerifyIsForManyGoroutines(t *testing.T) {
	w := newWorld(t)
	texts := []string{w.issue(w.Service, time.Hour), w.issue(w.Service, time.Hour)}
	s := w.another()
	done := make(chan error)
	for i := range 8 {
		go func() {
			var err error
			for range 50 {
				_, e := s.Verify(context.Background(), texts[i%2])
				_, no := s.Verify(context.Background(), texts[i%2]+"x")
				if e != nil || no != errToken {
					err = fmt.Errorf("%v, %v", e, no)
				}
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
