package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// page is what a browser sends of itself with a call of a page of this origin.
func page(origin, site string, more ...string) []string {
	return append([]string{api.HeaderSession, "cookie", "Origin", origin, "Sec-Fetch-Site", site}, more...)
}

// cookieOf is the one cookie that an answer sets.
func cookieOf(t *testing.T, a answer) *http.Cookie {
	t.Helper()
	cookies := (&http.Response{Header: a.header}).Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%v are set, want one cookie", cookies)
	}
	return cookies[0]
}

func sent(c *http.Cookie) []string { return []string{"Cookie", c.Name + "=" + c.Value} }

// inBrowser signs Ann up, and in, from a page of this origin.
func inBrowser(t *testing.T, w *world, origin string) (api.Token, *http.Cookie) {
	t.Helper()
	a := w.do(scenario{key: "-", call: "POST /v1/auth/signup", header: page(origin, "same-origin"), status: 200,
		body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`, forbid: []string{"refresh_token", "1rt_"}})
	return decode[api.Token](t, a), cookieOf(t, a)
}

func TestABrowserKeepsASessionThatNoScriptReads(t *testing.T) {
	for _, c := range []struct{ origin, want string }{
		{"https://keys.example.com", "__Host-keyfold-session=V; Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=Strict"},
		{"https://keys.example.com:8443", "__Host-keyfold-session=V; Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=Strict"},
		{"http://127.0.0.1:7420", "keyfold-session-7420=V; Path=/v1/auth; Max-Age=2592000; HttpOnly; SameSite=Strict"},
		{"http://localhost:7420", "keyfold-session-7420=V; Path=/v1/auth; Max-Age=2592000; HttpOnly; SameSite=Strict"},
		{"http://[::1]", "keyfold-session-=V; Path=/v1/auth; Max-Age=2592000; HttpOnly; SameSite=Strict"},
	} {
		w := newWorld(t)
		inBrowser(t, w, c.origin)
		a := w.do(scenario{key: "-", call: "POST /v1/auth/token", header: page(c.origin, "same-origin"), status: 200,
			body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`, forbid: []string{"refresh_token"}})
		cookie := cookieOf(t, a)
		if got := strings.Replace(a.header.Get("Set-Cookie"), cookie.Value, "V", 1); got != c.want || len(cookie.Value) < 40 {
			t.Errorf("%s: the cookie is\n%s, want\n%s", c.origin, got, c.want)
		}
	}
}

func TestTheCookieRenewsAndEndsItsSessionAndDoesNothingElse(t *testing.T) {
	const origin = "http://127.0.0.1:7420"
	w := newWorld(t)
	first, cookie := inBrowser(t, w, origin)

	alone := append(sent(cookie), "Sec-Fetch-Site", "same-origin", "Origin", origin)
	for _, call := range []string{"GET /v1/auth/me", "GET /v1/vaults", "DELETE /v1/auth/token", "DELETE /v1/auth/tokens", "GET /admin/jobs"} {
		w.do(scenario{key: "-", call: call, header: alone, status: 401})
		w.do(scenario{key: "-", call: call, header: page(origin, "same-origin", sent(cookie)...), status: 401})
	}
	w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: alone, body: `{}`, status: 400, want: []string{"refresh_token is required"}})

	a := w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: page(origin, "same-origin", sent(cookie)...), body: `{}`, status: 200, forbid: []string{"refresh_token"}})
	second, next := decode[api.Token](t, a), cookieOf(t, a)
	if next.Value == cookie.Value || second.AccessToken == first.AccessToken {
		t.Error("a renewal changes nothing")
	}
	w.do(scenario{key: second.AccessToken, call: "GET /v1/auth/me", status: 200})

	a = w.do(scenario{key: second.AccessToken, call: "DELETE /v1/auth/token", header: page(origin, "same-origin", sent(next)...), status: 204})
	if gone := cookieOf(t, a); gone.MaxAge != -1 || gone.Value != "" || gone.Name != next.Name || gone.Path != next.Path {
		t.Errorf("sign-out leaves %v", gone)
	}
	a = w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: page(origin, "same-origin", sent(next)...), body: `{}`, status: 401})
	if gone := cookieOf(t, a); gone.MaxAge != -1 {
		t.Errorf("a dead cookie stays: %v", gone)
	}
	w.MustNotHold(t, cookie.Value, next.Value, first.AccessToken, second.AccessToken)
}

func TestSignOutEndsTheSessionOfTheCookieToo(t *testing.T) {
	const origin = "http://127.0.0.1:7420"
	w := newWorld(t)
	tok, cookie := inBrowser(t, w, origin)
	w.do(signIn("ann@example.com", annsPassword))
	other := decode[api.Token](t, w.do(signIn("ann@example.com", annsPassword)))
	w.do(scenario{key: other.AccessToken, call: "DELETE /v1/auth/token", header: page(origin, "same-origin", sent(cookie)...), status: 204})
	w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: page(origin, "same-origin", sent(cookie)...), body: `{}`, status: 401})

	a := w.do(scenario{key: "-", call: "POST /v1/auth/token", header: page(origin, "same-origin"), status: 200,
		body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`})
	tok, cookie = decode[api.Token](t, a), cookieOf(t, a)
	a = w.do(scenario{key: tok.AccessToken, call: "DELETE /v1/auth/tokens", header: page(origin, "same-origin"), status: 204})
	if gone := cookieOf(t, a); gone.MaxAge != -1 || gone.Name != cookie.Name {
		t.Errorf("sign-out everywhere leaves %v", gone)
	}
	w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: page(origin, "same-origin", sent(cookie)...), body: `{}`, status: 401})
}

func TestABrowserThatKeepsNoSessionIsAnsweredNothing(t *testing.T) {
	const origin = "http://127.0.0.1:7420"
	w := newWorld(t)
	_, cookie := inBrowser(t, w, origin)
	refresh := func(status int, header ...string) {
		t.Helper()
		a := w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: header, body: `{}`, status: status, forbid: []string{"access_token"}})
		if status == 204 && (len(a.body) != 0 || a.header.Get("Set-Cookie") != "") {
			t.Errorf("%v: 204 says %q and sets %q", header, a.body, a.header.Get("Set-Cookie"))
		}
	}
	refresh(204, page(origin, "same-origin")...)
	refresh(204, page("https://keys.example.com", "same-origin", sent(cookie)...)...) // which is of another name there
	refresh(401, page(origin, "same-origin", "Cookie", cookie.Name+"=1rt_0000000000000000000000000000000000000000000")...)
	refresh(403, page("https://evil.example", "cross-site")...)
	refresh(400, "Origin", origin, "Sec-Fetch-Site", "same-origin")
}

func TestAPageOfAnotherOriginUsesNoSession(t *testing.T) {
	w := newWorld(t)
	_, cookie := inBrowser(t, w, "http://127.0.0.1:7420")
	refresh := func(status int, header ...string) {
		t.Helper()
		a := w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: append(header, sent(cookie)...), body: `{}`, status: status})
		if a.header.Get("Set-Cookie") != "" {
			t.Errorf("%v: a cookie is set", header)
		}
	}
	refresh(403, page("https://evil.example", "cross-site")...)
	refresh(403, page("http://127.0.0.1:3000", "same-site")...)
	refresh(403, api.HeaderSession, "cookie", "Origin", "https://evil.example") // of a browser that does not say more
	refresh(403, api.HeaderSession, "cookie", "Origin", "null")
	refresh(400, page("http://keys.example.com", "same-origin")...) // the cookie would go in the clear
	refresh(400, page("http://127.0.0.1.evil.example", "same-origin")...)
	refresh(400, page("http://localhost.evil.example", "same-origin")...)
	refresh(400, page("", "same-origin")...)
	refresh(400, api.HeaderSession, "cookie")
	refresh(400, api.HeaderSession, "yes", "Origin", "http://127.0.0.1:7420", "Sec-Fetch-Site", "same-origin")
	refresh(400, append(page("http://127.0.0.1:7420", "same-origin"), api.HeaderSession, "cookie")...)
	// No session begins that nobody keeps.
	w.do(scenario{key: "-", call: "POST /v1/auth/token", header: page("https://evil.example", "cross-site"), status: 403,
		body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`, forbid: []string{"access_token"}})
}

func TestNoOriginMaySendTheHeaderOfASession(t *testing.T) {
	w := newWorld(t, keyfoldtest.WithCORS("https://app.example.com"))
	a := w.do(scenario{key: "-", call: "OPTIONS /v1/auth/refresh", status: 204,
		header: []string{"Origin", "https://app.example.com", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", api.HeaderSession}})
	if got := a.header.Get("Access-Control-Allow-Headers"); got == "" || strings.Contains(strings.ToLower(got), strings.ToLower(api.HeaderSession)) || a.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("a preflight is answered by %v", a.header)
	}
}

func TestASecondFactorEndsInTheCookieToo(t *testing.T) {
	const origin = "https://keys.example.com"
	w := newWorld(t)
	tok, _ := inBrowser(t, w, origin)
	totp := decode[api.TOTP](t, w.do(scenario{key: tok.AccessToken, call: "POST /v1/auth/mfa/totp", body: `{"password":"` + annsPassword + `"}`, status: 200}))
	w.do(scenario{key: tok.AccessToken, call: "POST /v1/auth/mfa/totp/confirm", body: `{"code":"` + w.totpNow(totp.Secret) + `"}`, status: 200})
	a := w.do(scenario{key: "-", call: "POST /v1/auth/token", header: page(origin, "same-origin"), status: 200,
		body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`, want: []string{"mfa_token"}})
	if a.header.Get("Set-Cookie") != "" {
		t.Error("half a sign-in sets a cookie")
	}
	challenge := decode[api.SignedIn](t, a)
	w.Advance(30e9)
	a = w.do(scenario{key: "-", call: "POST /v1/auth/mfa/verify", header: page(origin, "same-origin"), status: 200,
		body: `{"mfa_token":"` + challenge.MFAToken + `","code":"` + w.totpNow(totp.Secret) + `"}`, forbid: []string{"refresh_token"}})
	cookieOf(t, a)
}

func TestTabsThatRenewAtOnceGoOnAndAThiefEndsTheSession(t *testing.T) {
	const origin = "http://127.0.0.1:7420"
	w := newWorld(t)
	_, cookie := inBrowser(t, w, origin)
	refresh := func(c *http.Cookie, status int) answer {
		t.Helper()
		return w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: page(origin, "same-origin", sent(c)...), body: `{}`, status: status})
	}
	var next []*http.Cookie
	for range 3 { // tabs that had read the cookie before the first was answered
		next = append(next, cookieOf(t, refresh(cookie, 200)))
	}
	for _, c := range next { // whichever answer the browser took last
		refresh(c, 200)
	}
	last := cookieOf(t, refresh(next[1], 200))
	w.Advance(11 * time.Second)
	last = cookieOf(t, refresh(last, 200))

	for _, old := range []*http.Cookie{cookie, last} { // a copy of an old cookie: one of the two is a thief
		if gone := cookieOf(t, refresh(old, 401)); gone.MaxAge != -1 || gone.Name != cookie.Name {
			t.Errorf("the browser keeps %v", gone)
		}
	}
}

func TestACookieThatWasPlantedBecomesNobodysSession(t *testing.T) {
	const origin = "https://keys.example.com"
	w := newWorld(t)
	a := w.do(scenario{key: "-", call: "POST /v1/auth/signup", header: page(origin, "same-origin"), status: 200,
		body: `{"email":"mallory@example.com","password":"` + annsPassword + `"}`})
	mallorys := cookieOf(t, a)
	w.do(scenario{key: "-", call: "POST /v1/auth/signup", status: 200, body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`})
	whose := func(c *http.Cookie) string {
		t.Helper()
		a := w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: page(origin, "same-origin", sent(c)...), body: `{}`, status: 200})
		me := w.do(scenario{key: decode[api.Token](t, a).AccessToken, call: "GET /v1/auth/me", status: 200})
		return decode[api.Profile](t, me).Email
	}
	for _, planted := range []*http.Cookie{mallorys, {Name: mallorys.Name, Value: "1rt_chosen-by-mallory"}} {
		a := w.do(scenario{key: "-", call: "POST /v1/auth/token", header: page(origin, "same-origin", sent(planted)...), status: 200,
			body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`})
		anns := cookieOf(t, a)
		if anns.Value == planted.Value || anns.Name != planted.Name {
			t.Fatalf("the sign-in keeps %v", anns)
		}
		if email := whose(anns); email != "ann@example.com" {
			t.Errorf("Ann's cookie is %s's", email)
		}
	}
	if email := whose(mallorys); email != "mallory@example.com" {
		t.Errorf("the planted cookie is %s's", email)
	}
	// A cookie from before https, or of another path or subdomain, has another name, and is not looked at.
	for _, name := range []string{"keyfold-session-", "keyfold-session-443", "__Secure-keyfold-session", "keyfold-session"} {
		w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: page(origin, "same-origin", "Cookie", name+"="+mallorys.Value), body: `{}`, status: 204})
	}
}

func TestANewPasswordLeavesTheSessionOfItsBrowserAlone(t *testing.T) {
	const origin, change = "http://127.0.0.1:7420", "POST /v1/auth/change-password"
	passwords := []string{annsPassword, newPassword, annsPassword, newPassword, annsPassword}
	w := newWorld(t)
	tok, cookie := inBrowser(t, w, origin)
	next := func(status int, header ...string) answer {
		t.Helper()
		a := w.do(scenario{key: tok.AccessToken, call: change, header: header, status: status, body: `{"current_password":"` + passwords[0] + `","new_password":"` + passwords[1] + `"}`})
		if status == 204 {
			passwords = passwords[1:]
		}
		return a
	}
	// With the second factor that the session began with, no password alone begins one.
	totp := decode[api.TOTP](t, w.do(scenario{key: tok.AccessToken, call: "POST /v1/auth/mfa/totp", body: `{"password":"` + annsPassword + `"}`, status: 200}))
	w.do(scenario{key: tok.AccessToken, call: "POST /v1/auth/mfa/totp/confirm", body: `{"code":"` + w.totpNow(totp.Secret) + `"}`, status: 200})

	fresh := cookieOf(t, next(204, page(origin, "same-origin", sent(cookie)...)...))
	w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: page(origin, "same-origin", sent(cookie)...), body: `{}`, status: 401})
	a := w.do(scenario{key: "-", call: "POST /v1/auth/refresh", header: page(origin, "same-origin", sent(fresh)...), body: `{}`, status: 200})
	w.do(scenario{key: decode[api.Token](t, a).AccessToken, call: "GET /v1/auth/me", status: 200})
	fresh = cookieOf(t, a)

	next(403, page("https://evil.example", "cross-site", sent(fresh)...)...)
	for _, header := range [][]string{page(origin, "same-origin", sent(cookie)...), page(origin, "same-origin"), sent(fresh)} {
		if a := next(204, header...); a.header.Get("Set-Cookie") != "" {
			t.Errorf("%v: a session begins", header)
		}
	}
}
