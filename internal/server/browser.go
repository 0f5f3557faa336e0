package server

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/token"
)

// A session that a browser keeps: the refresh token, which outlives a page, is in a
// cookie that no script reads. The access token goes to the page, which keeps it in
// memory. Who signs in with the header api.HeaderSession asks for it, and the calls
// that renew or end a session look at the cookie with that header alone; all others
// look at no cookie.
//
// A page of another origin cannot use the cookie: it is SameSite=Strict, the header
// needs a preflight that no origin gets, and what the browser says about where the
// call comes from is checked as well (http.CrossOriginProtection).

// The cookie of a page at https, and of one at http on the browser's own machine:
// not every browser takes a Secure cookie there. Cookies know no ports, so the
// port is in the latter's name, and its path keeps it from other local servers.
const (
	secureCookie = "__Host-keyfold-session"
	localCookie  = "keyfold-session-" // and the port
	localPath    = "/v1/auth"
)

var sameOrigin http.CrossOriginProtection // has no state

// browser is where the session of a call is kept. The zero browser keeps nothing:
// then the caller does.
type browser struct {
	call   *httpx.Call
	cookie http.Cookie // without a value
}

// browserOf returns the browser that c asks to keep the session.
func browserOf(c *httpx.Call) (browser, error) {
	how, err := c.Guard(api.HeaderSession)
	switch {
	case err != nil || how == "":
		return browser{}, err
	case how != "cookie":
		return browser{}, fault.New(fault.Invalid, "%s is cookie or absent", api.HeaderSession)
	case sameOrigin.Check(c.Request()) != nil:
		return browser{}, fault.New(fault.Forbidden, "a page of another site may not use the session of this browser")
	}
	b := browser{c, http.Cookie{HttpOnly: true, SameSite: http.SameSiteStrictMode}}
	switch origin, err := url.Parse(c.Header("Origin")); {
	case err == nil && origin.Scheme == "https":
		b.cookie.Name, b.cookie.Path, b.cookie.Secure = secureCookie, "/", true
	case err == nil && origin.Scheme == "http" && isLocal(origin.Hostname()):
		b.cookie.Name, b.cookie.Path = localCookie+origin.Port(), localPath
	default:
		return browser{}, fault.New(fault.Invalid, "a browser keeps a session of an https:// page only, or of one on its own machine; open the dashboard by https://")
	}
	return b, nil
}

// isLocal reports whether a browser finds host on its own machine.
func isLocal(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && addr.IsLoopback()
}

// keep moves the refresh token of a session out of the answer, into the cookie.
func (b browser) keep(t *api.Token) {
	if b.call != nil && t.RefreshToken != "" {
		b.set(t.RefreshToken, int(token.RefreshTTL.Seconds()))
		t.RefreshToken = ""
	}
}

// kept is the refresh token that the browser keeps, "" when it keeps none.
func (b browser) kept() string {
	if b.call == nil {
		return ""
	}
	cookie, err := b.call.Request().Cookie(b.cookie.Name)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// forget has the browser delete the cookie.
func (b browser) forget() {
	if b.call != nil {
		b.set("", -1)
	}
}

func (b browser) set(value string, maxAge int) {
	b.cookie.Value, b.cookie.MaxAge = value, maxAge
	b.call.SetHeader("Set-Cookie", b.cookie.String())
}
