package httpx

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAConnectionIsPrivateWhereNobodyElseReadsIt(t *testing.T) {
	proxies := Proxies{Trusted: prefixes("10.0.0.0/8")}
	for what, c := range map[string]struct {
		peer   string
		tls    bool
		local  net.Addr
		header string
		want   bool
	}{
		"another machine":                     {peer: "192.0.2.9:1"},
		"another machine that says it is not": {peer: "192.0.2.9:1", header: "127.0.0.1"},
		"TLS":                                 {peer: "192.0.2.9:1", tls: true, want: true},
		"this machine":                        {peer: "127.0.0.1:1", want: true},
		"this machine, IPv6":                  {peer: "[::1]:1", want: true},
		"this machine, IPv4 over IPv6":        {peer: "[::ffff:127.0.0.1]:1", want: true},
		"a trusted proxy":                     {peer: "10.1.2.3:1", header: "192.0.2.9", want: true},
		"a proxy beside it":                   {peer: "11.1.2.3:1", header: "10.1.2.3"},
		"a Unix socket":                       {peer: "@", local: &net.UnixAddr{Name: "/run/x.sock", Net: "unix"}, want: true},
		"a peer without an address":           {peer: "@"},
		"a peer without an address, over TCP": {peer: "", local: &net.TCPAddr{}},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.RemoteAddr = c.peer
		if c.tls {
			r.TLS = new(tls.ConnectionState)
		}
		if c.header != "" {
			r.Header.Set("X-Forwarded-For", c.header)
			r.Header.Set("X-Forwarded-Proto", "https")
		}
		if c.local != nil {
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, c.local))
		}
		call := &Call{r: r, mux: &Mux{proxies: proxies}}
		if got := call.Private(); got != c.want {
			t.Errorf("%s: private is %v", what, got)
		}
	}
}

func TestASecretHeaderIsTakenFromTheRequest(t *testing.T) {
	for what, values := range map[string][]string{"once": {"key"}, "twice": {"key", "key"}, "empty": {" "}, "not": nil} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header["X-Key"] = values
		call := &Call{r: r}
		got, err := call.Secret("x-key")
		if (err == nil) != (what == "once" || what == "not") || err == nil && len(values) == 1 && got != "key" {
			t.Errorf("sent %s: %q, %v", what, got, err)
		}
		if _, there := r.Header["X-Key"]; there {
			t.Errorf("sent %s: it is still there", what)
		}
	}
}
