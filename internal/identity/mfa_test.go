package identity

import (
	"encoding/base32"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

// The vectors of RFC 6238, appendix B, of which we show the last six digits.
func TestCodesAreThoseOfRFC6238(t *testing.T) {
	secret := []byte("12345678901234567890")
	for unix, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		if got := totpCode(secret, unix/totpStep); got != want[2:] {
			t.Errorf("at %d: %s, want %s", unix, got, want[2:])
		}
	}
}

// factor is a second factor as a user has it.
type factor struct {
	secret   []byte
	recovery []string
}

// enroll gives p, whose password is goodPassword, a second factor.
func (w *people) enroll(p access.Principal) factor {
	w.t.Helper()
	begun := must(w.BeginTOTP(w.t.Context(), p, api.BeginTOTP{Password: goodPassword}))(w.t)
	w.seen(begun.Secret)
	secret := must(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(begun.Secret))(w.t)
	f := factor{secret: secret}
	codes := must(w.ConfirmTOTP(w.t.Context(), p, w.code(f)))(w.t)
	f.recovery = codes.RecoveryCodes
	w.secrets = append(w.secrets, f.recovery...)
	w.secrets = append(w.secrets, string(secret))
	return f
}

// code is the code that the app shows now.
func (w *people) code(f factor) string {
	return w.seen(totpCode(f.secret, w.clock.Now().Unix()/totpStep))
}

// next lets a step pass.
func (w *people) next() { w.clock.add(totpStep * time.Second) }

// half signs in by password, and returns what VerifyMFA takes.
func (w *people) half(email string) string {
	w.t.Helper()
	out := must(w.signIn(email, goodPassword))(w.t)
	if !out.MFARequired || out.AccessToken != "" || out.RefreshToken != "" || out.ExpiresIn != 300 || out.TokenType != "Bearer" {
		w.t.Fatalf("a half sign-in is %v, %d", out.MFARequired, out.ExpiresIn)
	}
	return w.seen(out.MFAToken)
}

func (w *people) verify(mfaToken, code string) (api.Token, error) {
	return w.VerifyMFA(w.t.Context(), w.from, api.VerifyMFA{MFAToken: mfaToken, Code: code})
}

// enrolled is a user with a second factor.
func (w *people) enrolled() (string, access.Principal, factor) {
	w.t.Helper()
	email := w.email()
	p := w.in(w.signUp(email).AccessToken)
	return email, p, w.enroll(p)
}

func TestAUserWithASecondFactorSignsInByBoth(t *testing.T) {
	w := newPeople(t)
	email, p, f := w.enrolled()
	if prof := must(w.Profile(t.Context(), p))(t); !prof.TOTPEnabled {
		t.Error("the profile does not tell")
	}
	w.next()
	w.trail.taken()
	tok := must(w.verify(w.half(email), w.code(f)))(t)
	w.note(tok)
	if got := w.in(tok.AccessToken); got.ID != p.ID || tok.ExpiresIn != 900 || tok.RefreshToken == "" {
		t.Errorf("signed in as %+v", got)
	}
	if diff := cmp.Diff([]string{"auth.success allowed"}, w.trail.taken()); diff != "" {
		t.Error(diff)
	}
	w.nowhere()
}

func TestASecondFactorIsInForceOnceItsCodeWasSeen(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	p := w.in(w.signUp(email).AccessToken)
	_, err := w.BeginTOTP(t.Context(), p, api.BeginTOTP{Password: otherPassword})
	wantError(t, "a wrong password", err, errCurrentPassword)
	_, err = w.ConfirmTOTP(t.Context(), p, "123456")
	wantError(t, "nothing to confirm", err, fault.NotFound)
	first := must(w.BeginTOTP(t.Context(), p, api.BeginTOTP{Password: goodPassword}))(t)
	second := must(w.BeginTOTP(t.Context(), p, api.BeginTOTP{Password: goodPassword}))(t)
	u := must(url.Parse(second.OTPAuthURI))(t)
	if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Keyfold:"+email || u.Query().Get("secret") != second.Secret || u.Query().Get("issuer") != "Keyfold" {
		t.Errorf("the URI is %s", second.OTPAuthURI)
	}
	w.session(email, goodPassword)
	old := must(base32NoPad.DecodeString(first.Secret))(t)
	_, err = w.ConfirmTOTP(t.Context(), p, totpCode(old, w.clock.Now().Unix()/totpStep))
	wantError(t, "a code of the one before", err, errCode)
	secret := must(base32NoPad.DecodeString(second.Secret))(t)
	codes := must(w.ConfirmTOTP(t.Context(), p, totpCode(secret, w.clock.Now().Unix()/totpStep)))(t)
	if len(codes.RecoveryCodes) != 10 || len(codes.RecoveryCodes[0]) != 19 {
		t.Errorf("recovery codes are %d", len(codes.RecoveryCodes))
	}
	w.half(email)
	_, err = w.BeginTOTP(t.Context(), p, api.BeginTOTP{Password: goodPassword})
	wantError(t, "one more", err, fault.Conflict)
	w.next()
	_, err = w.ConfirmTOTP(t.Context(), p, totpCode(secret, w.clock.Now().Unix()/totpStep))
	wantError(t, "once more", err, fault.Conflict)
}

func TestACodeWorksOnceAndAroundItsTime(t *testing.T) {
	w := newPeople(t)
	email, _, f := w.enrolled()
	w.clock.frozen = true
	w.clock.add(time.Hour)
	step := w.clock.now.Unix() / totpStep
	for _, c := range []struct {
		off int64
		ok  bool
	}{{-2, false}, {2, false}, {-1, true}, {-1, false}, {0, true}, {0, false}, {1, true}, {1, false}, {0, false}, {-1, false}} {
		w.remake(func(cfg *Config) { cfg.Backoff = free{} })
		_, err := w.verify(w.half(email), totpCode(f.secret, step+c.off))
		if c.ok && err != nil || !c.ok && err != errCode {
			t.Errorf("the code of %d steps from now: %v", c.off, err)
		}
	}
}

// free is a Backoff that lets all try.
type free struct{}

func (free) Wait(string) time.Duration { return 0 }
func (free) Succeeded(string)          {}
func (free) Undo(string)               {}

func TestACodeThatManySendAtOnceLetsOneIn(t *testing.T) {
	w := newPeople(t)
	w.remake(func(cfg *Config) { cfg.Backoff = free{} })
	email, _, f := w.enrolled()
	for _, code := range []func() string{func() string { w.next(); return w.code(f) }, func() string { return f.recovery[0] }} {
		var halves []string
		for range 4 {
			halves = append(halves, w.half(email))
		}
		sent := code()
		var mu sync.Mutex
		in := 0
		var wg sync.WaitGroup
		for _, half := range halves {
			wg.Go(func() {
				if _, err := w.verify(half, sent); err == nil {
					mu.Lock()
					in++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if in != 1 {
			t.Errorf("%d got in by one code", in)
		}
	}
}

func TestARecoveryCodeWorksOnceHoweverItIsTyped(t *testing.T) {
	w := newPeople(t)
	email, _, f := w.enrolled()
	for _, typed := range []string{f.recovery[0], strings.ToUpper(f.recovery[1]), strings.ReplaceAll(f.recovery[2], "-", " "), " " + strings.ReplaceAll(f.recovery[3], "-", "")} {
		w.trail.taken()
		must(w.verify(w.half(email), typed))(t)
		if e := w.trail.events; len(e) != 1 || e[0].Details["method"] != MethodRecovery {
			t.Errorf("the trail has %+v", e)
		}
		_, err := w.verify(w.half(email), typed)
		wantError(t, "a second time", err, errCode)
		w.wait()
	}
	w.nowhere()
}

func TestAnMFATokenWorksOnceForAWhile(t *testing.T) {
	w := newPeople(t)
	email, p, f := w.enrolled()
	w.next()
	half := w.half(email)
	_, err := w.verify(half, "000000x")
	wantError(t, "a wrong code", err, errCode)
	must(w.verify(half, w.code(f)))(t)
	w.next()
	_, err = w.verify(half, w.code(f))
	wantError(t, "a replay", err, errChallenge)
	half = w.half(email)
	w.clock.add(5*time.Minute + time.Second)
	_, err = w.verify(half, w.code(f))
	wantError(t, "one that is too old", err, errChallenge)
	for _, other := range []string{"x", strings.Repeat("x", 60_000), w.signUp(w.email()).AccessToken} {
		_, err = w.verify(other, w.code(f))
		wantError(t, "another text", err, errChallenge)
	}
	_, err = w.verify("", w.code(f))
	wantError(t, "no token", err, fault.Invalid)
	_, err = w.verify(half, "")
	wantError(t, "no code", err, fault.Invalid)
	w.out("it is no access token", half)
	_, err = w.Refresh(t.Context(), w.from, half)
	wantError(t, "it is no refresh token", err, fault.Unauthenticated)
	// what ends sessions ends those that are half begun
	w.wait()
	half = w.half(email)
	w.must(w.SignOutEverywhere(t.Context(), p))
	_, err = w.verify(half, w.code(f))
	wantError(t, "one from before the end of all sessions", err, errChallenge)
}

func TestCodesAreNotGuessed(t *testing.T) {
	w := newPeople(t)
	email, p, f := w.enrolled()
	w.from.Addr = From{}.Addr
	var err error
	for range 6 {
		_, err = w.verify(w.half(email), "000000") // the right password each time, which clears nothing here
		wantError(t, "a guess", err, errCode)
	}
	_, err = w.verify(w.half(email), "000000")
	wantError(t, "one guess too many", err, fault.TooMany)
	_, right := w.verify(w.half(email), f.recovery[0])
	same(t, err, right)
	wantError(t, "by another way", w.RemoveTOTP(t.Context(), access.Principal{Kind: p.Kind, ID: p.ID, OrgID: p.OrgID}, "000000"), fault.TooMany)
}

func TestASecondFactorGoesByItsCode(t *testing.T) {
	w := newPeople(t)
	email, p, f := w.enrolled()
	wantError(t, "a wrong code", w.RemoveTOTP(t.Context(), p, "000000"), errCode)
	wantError(t, "a used code", w.RemoveTOTP(t.Context(), p, totpCode(f.secret, w.clock.Now().Unix()/totpStep)), errCode)
	w.half(email)
	w.next()
	half := w.half(email)
	w.must(w.RemoveTOTP(t.Context(), p, w.code(f)))
	w.session(email, goodPassword)
	_, err := w.verify(half, f.recovery[0])
	wantError(t, "a half sign-in from before", err, errChallenge)
	wantError(t, "a second time", w.RemoveTOTP(t.Context(), p, f.recovery[0]), fault.NotFound)
	for name := range w.dump() {
		if strings.HasPrefix(name, layout.TOTP("")) || strings.HasPrefix(name, layout.Sealed("totp", "", "")[:12]) {
			t.Errorf("%s is left", name)
		}
	}
	begun := must(w.BeginTOTP(t.Context(), p, api.BeginTOTP{Password: goodPassword}))(t)
	_, err = w.verify(half, totpCode(must(base32NoPad.DecodeString(begun.Secret))(t), w.clock.Now().Unix()/totpStep))
	wantError(t, "a half sign-in, by a factor that is not in force", err, errChallenge)
	again := w.enroll(p)
	w.next()
	if _, err := w.verify(w.half(email), f.recovery[0]); err != errCode {
		t.Errorf("a recovery code of the one before: %v", err)
	}
	must(w.verify(w.half(email), w.code(again)))(t)
}

func TestWithoutTheKMSNobodyGetsInByACode(t *testing.T) {
	w := newPeople(t)
	email, p, f := w.enrolled()
	w.next()
	half := w.half(email)
	w.put(layout.Sealed("totp", p.ID, "secret"), "damaged")
	_, err := w.verify(half, w.code(f))
	if errors.Is(err, fault.Unauthenticated) || err == nil {
		t.Errorf("a secret that does not open: %v", err)
	}
	must(w.verify(half, f.recovery[0]))(t)
}
