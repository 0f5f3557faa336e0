package server_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
)

// Passwords that keep the rules; canaries, too.
const (
	annsPassword = "Kelp-forest-29!"
	newPassword  = "Moss-garden-58?"
)

// stale is what a client sends along that signs in again.
var stale = []string{"Authorization", "Bearer stale.old.token"}

func signIn(email, password string) scenario {
	return scenario{key: "-", call: "POST /v1/auth/token", header: stale, body: fmt.Sprintf(`{"email":%q,"password":%q,"x":1}`, email, password), status: 200}
}

// totpNow is the code of an app. It is RFC 6238 once more, of another hand.
func (w *world) totpNow(secret string) string {
	w.t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		w.t.Fatal(err)
	}
	var step [8]byte
	binary.BigEndian.PutUint64(step[:], uint64(w.Now().Unix()/30))
	m := hmac.New(sha1.New, key)
	m.Write(step[:])
	sum := m.Sum(nil)
	at := sum[19] & 0xf
	n := int(sum[at]&0x7f)<<24 | int(sum[at+1])<<16 | int(sum[at+2])<<8 | int(sum[at+3])
	return fmt.Sprintf("%06d", n%1000000)
}

func TestAUsersLife(t *testing.T) {
	w := newWorld(t)
	a := w.do(scenario{key: "-", call: "POST /v1/auth/signup", header: stale, status: 200,
		body: `{"email":"Ann@example.com","password":"` + annsPassword + `","display_name":"Ann"}`,
		want: []string{`"token_type":"Bearer"`, `"expires_in":900`, `"email":"ann@example.com"`, `"message":`}})
	up := decode[api.SignedUp](t, a)
	w.do(scenario{key: up.AccessToken, call: "GET /v1/auth/me", status: 200, want: []string{
		`"id":"` + up.UserID, `"email":"ann@example.com"`, `"display_name":"Ann"`, `"auth_method":"password"`, `"role":"owner"`, `"email_verified":true`,
		`"marketing_emails":false`, `"totp_enabled":false`, `"created_at":`, `"org_id":"` + up.OrgID}})
	w.do(scenario{key: up.AccessToken, call: "PATCH /v1/auth/me", body: `{"display_name":"Ann B","marketing_emails":true}`, status: 200, want: []string{`"Ann B"`, `"marketing_emails":true`}})
	w.do(scenario{key: up.AccessToken, call: "GET /v1/org", status: 200, want: []string{`"name":"Ann"`, `"plan":"enterprise"`}})

	tok := decode[api.Token](t, w.do(signIn("ann@example.com", annsPassword)))
	next := decode[api.Token](t, w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: stale, body: `{"refresh_token":"` + tok.RefreshToken + `"}`, status: 200}))
	w.do(scenario{key: next.AccessToken, call: "POST /v1/auth/change-password", body: `{"current_password":"` + annsPassword + `","new_password":"weak"}`, status: 400, want: []string{"12 characters"}})
	w.do(scenario{key: next.AccessToken, call: "POST /v1/auth/change-password", body: `{"current_password":"x","new_password":"` + newPassword + `"}`, status: 401})
	w.do(scenario{key: next.AccessToken, call: "POST /v1/auth/change-password", body: `{"current_password":"` + annsPassword + `","new_password":"` + newPassword + `"}`, status: 204})
	for _, dead := range []string{up.AccessToken, tok.AccessToken} {
		w.do(scenario{key: dead, call: "GET /v1/auth/me", status: 401})
	}
	w.do(scenario{key: next.AccessToken, call: "DELETE /v1/auth/token", header: []string{"Content-Type", "application/json"}, status: 204})
	w.do(scenario{key: next.AccessToken, call: "GET /v1/auth/me", status: 401})

	last := decode[api.Token](t, w.do(signIn("ann@example.com", newPassword)))
	w.do(scenario{key: last.AccessToken, call: "DELETE /v1/auth/token", body: `{"refresh_token":"` + last.RefreshToken + `"}`, status: 204})
	w.do(scenario{key: "-", call: "POST /v1/auth/refresh", body: `{"refresh_token":"` + last.RefreshToken + `"}`, status: 401})
	w.do(scenario{call: "DELETE /v1/auth/token", status: 400, want: []string{"API key"}})

	last = decode[api.Token](t, w.do(signIn("ann@example.com", newPassword)))
	w.do(scenario{key: last.AccessToken, call: "DELETE /v1/auth/tokens", status: 204})
	w.do(scenario{key: last.AccessToken, call: "GET /v1/auth/me", status: 401})
	w.MustNotHold(t, annsPassword, newPassword, up.AccessToken, up.RefreshToken, tok.RefreshToken, next.RefreshToken, next.AccessToken)
}

// The bodies that a published client holds to their members.
func TestASignInAnswersATokenAndNoMore(t *testing.T) {
	w := newWorld(t)
	w.do(scenario{key: "-", call: "POST /v1/auth/signup", body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`, status: 200})
	a := w.do(signIn("ann@example.com", annsPassword))
	tok := decode[api.Token](t, a)
	b := w.do(scenario{key: "-", call: "POST /v1/auth/refresh", body: `{"refresh_token":"` + tok.RefreshToken + `"}`, status: 200})
	for _, body := range []answer{a, b} {
		got := object(t, body)
		for _, name := range []string{"access_token", "token_type", "expires_in", "refresh_token"} {
			if got[name] == nil {
				t.Errorf("%s is missing", name)
			}
			delete(got, name)
		}
		if len(got) != 0 || strings.Count(tok.AccessToken, ".") != 2 {
			t.Errorf("the answer also has %d members", len(got))
		}
	}
}

func TestAFailedSignInIsOneAnswerWhoeverItIs(t *testing.T) {
	w := newWorld(t)
	w.do(scenario{key: "-", call: "POST /v1/auth/signup", body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`, status: 200})
	try := func(email string, status int) answer {
		sc := signIn(email, newPassword)
		sc.header, sc.status = []string{"X-Request-Id", "same"}, status
		return w.do(sc)
	}
	known, nobody := try("ann@example.com", 401), try("nobody@example.com", 401)
	if known.body != nobody.body {
		t.Errorf("told apart:\n%s\n%s", known.body, nobody.body)
	}
	for _, body := range []string{``, `{}`, `{"email":"ann@example.com"}`, `{"password":"x"}`, `{"email":5,"password":"x"}`} {
		w.do(scenario{key: "-", call: "POST /v1/auth/token", body: body, status: 400})
	}
}

func TestTooManyFailedSignInsAreToldWhenToComeAgain(t *testing.T) {
	w := newWorld(t)
	for range 6 {
		sc := signIn("nobody@example.com", newPassword)
		sc.status = 401
		w.do(sc)
	}
	sc := signIn("nobody@example.com", newPassword)
	sc.status = 429
	a := w.do(sc)
	if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 || n > 300 {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	w.Advance(24 * time.Hour)
	sc.status = 401
	w.do(sc)
}

func TestASecondFactorOnTheWire(t *testing.T) {
	w := newWorld(t)
	up := decode[api.SignedUp](t, w.do(scenario{key: "-", call: "POST /v1/auth/signup", body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`, status: 200}))
	begun := decode[api.TOTP](t, w.do(scenario{key: up.AccessToken, call: "POST /v1/auth/mfa/totp", body: `{"password":"` + annsPassword + `"}`, status: 200, want: []string{`"otpauth_uri":"otpauth://totp/`}}))
	codes := decode[api.RecoveryCodes](t, w.do(scenario{key: up.AccessToken, call: "POST /v1/auth/mfa/totp/confirm", body: `{"code":"` + w.totpNow(begun.Secret) + `"}`, status: 200}))
	w.do(scenario{key: up.AccessToken, call: "GET /v1/auth/me", status: 200, want: []string{`"totp_enabled":true`}})

	half := w.do(signIn("ann@example.com", annsPassword))
	for name, want := range map[string]any{"access_token": "", "token_type": "Bearer", "expires_in": 300.0, "mfa_required": true} {
		if got := object(t, half)[name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	mfaToken := decode[api.SignedIn](t, half).MFAToken
	verify := scenario{key: "-", call: "POST /v1/auth/mfa/verify", header: stale, body: `{"mfa_token":"` + mfaToken + `","code":"` + codes.RecoveryCodes[0] + `"}`, status: 200}
	tok := decode[api.Token](t, w.do(verify))
	verify.status = 401
	w.do(verify)
	w.do(scenario{key: mfaToken, call: "GET /v1/auth/me", status: 401})
	remove := scenario{key: tok.AccessToken, call: "DELETE /v1/auth/mfa/totp", status: 401, body: `{"code":"` + codes.RecoveryCodes[0] + `"}`}
	w.do(remove)
	remove.status, remove.body = 204, `{"code":"`+codes.RecoveryCodes[1]+`"}`
	w.do(remove)
	w.do(signIn("ann@example.com", annsPassword))
	w.MustNotHold(t, append(codes.RecoveryCodes, begun.Secret, mfaToken, annsPassword, strings.ReplaceAll(codes.RecoveryCodes[2], "-", ""))...)
}

func TestAnInvitationOnTheWire(t *testing.T) {
	w := newWorld(t)
	inv := decode[api.InvitationCreated](t, w.do(scenario{call: "POST /v1/org/invitations", body: `{"email":"bob@example.com","role":"admin"}`, status: 201, want: []string{`"text":"1inv_`}}))
	w.do(scenario{call: "GET /v1/org/invitations", status: 200, want: []string{inv.Invitation.ID}, forbid: []string{inv.Text}})
	w.do(scenario{key: w.mate, call: "GET /v1/org/invitations", status: 403})
	w.do(scenario{key: w.stranger, call: "DELETE /v1/org/invitations/" + inv.Invitation.ID, status: 404})
	join := func(email string, status int) answer {
		return w.do(scenario{key: "-", call: "POST /v1/auth/signup", status: status,
			body: fmt.Sprintf(`{"email":%q,"password":%q,"invitation":%q}`, email, annsPassword, inv.Text)})
	}
	join("eve@example.com", 400)
	bob := decode[api.SignedUp](t, join("bob@example.com", 200))
	join("bob@example.com", 400)
	if bob.OrgID != w.Owner.OrgID {
		t.Errorf("Bob is in %s", bob.OrgID)
	}
	w.do(scenario{key: bob.AccessToken, call: "GET /v1/org/members", status: 200, want: []string{`"email":"bob@example.com"`, `"role":"admin"`, `"role":"owner"`, `"role":"member"`}})
	w.do(scenario{key: bob.AccessToken, call: "PATCH /v1/org/members/" + w.Owner.ID, body: `{"role":"member"}`, status: 403})
	w.do(scenario{key: w.stranger, call: "PATCH /v1/org/members/" + bob.UserID, body: `{"role":"member"}`, status: 404})
	w.do(scenario{call: "PATCH /v1/org/members/" + bob.UserID, body: `{"role":"boss"}`, status: 400})
	w.do(scenario{call: "PATCH /v1/org/members/" + w.Owner.ID, body: `{"role":"member"}`, status: 409})
	w.do(scenario{call: "PATCH /v1/org/members/" + bob.UserID, body: `{"role":"member"}`, status: 200, want: []string{`"role":"member"`}})
	w.do(scenario{call: "DELETE /v1/org/members/" + bob.UserID, status: 204})
	w.do(scenario{key: bob.AccessToken, call: "GET /v1/auth/me", status: 401})
	second := decode[api.InvitationCreated](t, w.do(scenario{call: "POST /v1/org/invitations", body: `{"email":"bob@example.com"}`, status: 201}))
	w.do(scenario{call: "DELETE /v1/org/invitations/" + second.Invitation.ID, status: 204})
	w.do(scenario{call: "DELETE /v1/org/invitations/" + second.Invitation.ID, status: 404})
	w.MustNotHold(t, inv.Text, second.Text, annsPassword)
}
