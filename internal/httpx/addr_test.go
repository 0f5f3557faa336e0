package httpx

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/internal/access"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// from asks p for the client of a request from peer with these header lines,
// "Name: value" each.
func from(p Proxies, peer string, lines ...string) string {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = peer
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return p.client(r).String()
}

func TestAClientsAddressIsItsSocketsUnlessATrustedProxySaysMore(t *testing.T) {
	const peer, proxy = "192.0.2.9:1", "10.0.0.1:5555"
	trusted := Proxies{Trusted: prefixes("10.0.0.0/8", "fd00::/8")}
	rfc := Proxies{Trusted: trusted.Trusted, Header: "forwarded"}
	for _, c := range []struct {
		name  string
		p     Proxies
		peer  string
		lines []string
		want  string
	}{
		{"no proxies", Proxies{}, proxy, []string{"X-Forwarded-For: 203.0.113.7"}, "10.0.0.1"},
		{"a peer that is none", trusted, peer, []string{"X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7"}, "192.0.2.9"},
		{"no header", trusted, proxy, nil, "10.0.0.1"},
		{"an empty header", trusted, proxy, []string{"X-Forwarded-For: "}, "10.0.0.1"},
		{"one hop", trusted, proxy, []string{"X-Forwarded-For: 203.0.113.7"}, "203.0.113.7"},
		{"what the client invented", trusted, proxy, []string{"X-Forwarded-For: 198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		{"what the client invented, in a line of its own", trusted, proxy, []string{"X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 203.0.113.7"}, "203.0.113.7"},
		{"garbage of the client's", trusted, proxy, []string{"X-Forwarded-For: \"(, 203.0.113.7"}, "203.0.113.7"},
		{"two proxies", trusted, proxy, []string{"X-Forwarded-For: 198.51.100.1, 203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		{"two proxies, two lines", trusted, proxy, []string{"X-Forwarded-For: 198.51.100.1, 203.0.113.7", "X-Forwarded-For: 10.0.0.2"}, "203.0.113.7"},
		{"a client among the proxies", trusted, proxy, []string{"X-Forwarded-For: 10.2.2.2, 10.0.0.2"}, "10.2.2.2"},
		{"a hop that cannot be read", trusted, proxy, []string{"X-Forwarded-For: 203.0.113.7, unknown"}, "10.0.0.1"},
		{"a hop that cannot be read behind a proxy", trusted, proxy, []string{"X-Forwarded-For: 203.0.113.7, x, 10.0.0.2"}, "10.0.0.1"},
		{"an empty hop", trusted, proxy, []string{"X-Forwarded-For: 203.0.113.7,"}, "10.0.0.1"},
		{"a name", trusted, proxy, []string{"X-Forwarded-For: example.com"}, "10.0.0.1"},
		{"ports", trusted, proxy, []string{"X-Forwarded-For: 203.0.113.7:443 , 10.0.0.2:80"}, "203.0.113.7"},
		{"IPv6", trusted, "[fd00::1]:1", []string{"X-Forwarded-For: 2001:db8::7"}, "2001:db8::7"},
		{"IPv6 with a port", trusted, proxy, []string{"X-Forwarded-For: [2001:db8::7]:443"}, "2001:db8::7"},
		{"IPv6 in brackets", trusted, proxy, []string{"X-Forwarded-For: [2001:db8::7]"}, "2001:db8::7"},
		{"a bracket too few", trusted, proxy, []string{"X-Forwarded-For: [2001:db8::7"}, "10.0.0.1"},
		{"IPv4 in brackets", trusted, proxy, []string{"X-Forwarded-For: [203.0.113.7]"}, "10.0.0.1"},
		{"IPv4 in IPv6", trusted, "[::ffff:10.0.0.1]:1", []string{"X-Forwarded-For: ::ffff:203.0.113.7"}, "203.0.113.7"},
		{"IPv4 in IPv6, no proxies", Proxies{}, "[::ffff:10.0.0.1]:1", nil, "10.0.0.1"},
		{"a zone", Proxies{}, "[fe80::1%eth0]:1", nil, "fe80::1"},
		{"the header that this proxy does not write", trusted, proxy, []string{"Forwarded: for=203.0.113.7"}, "10.0.0.1"},
		{"the header that that proxy does not write", rfc, proxy, []string{"X-Forwarded-For: 203.0.113.7"}, "10.0.0.1"},
		{"both", rfc, proxy, []string{"X-Forwarded-For: 198.51.100.1", "Forwarded: for=203.0.113.7"}, "203.0.113.7"},
		{"RFC 7239", rfc, proxy, []string{`Forwarded: for=198.51.100.1, For=203.0.113.7;proto=https;by=10.0.0.1`}, "203.0.113.7"},
		{"RFC 7239, IPv6", rfc, proxy, []string{`Forwarded: proto=https; for="[2001:db8::7]:4711", for="10.0.0.2"`}, "2001:db8::7"},
		{"RFC 7239, a quote left open by the client", rfc, proxy, []string{`Forwarded: for="198.51.100.1`, `Forwarded: for=203.0.113.7`}, "203.0.113.7"},
		{"RFC 7239, a quote left open in the same line", rfc, proxy, []string{`Forwarded: for="198.51.100.1, for=203.0.113.7`}, "203.0.113.7"},
		{"RFC 7239, commas in quotes", rfc, proxy, []string{`Forwarded: for=203.0.113.7;host="a, for=198.51.100.1;x=\""`}, "203.0.113.7"},
		{"RFC 7239, unknown", rfc, proxy, []string{`Forwarded: for=unknown`}, "10.0.0.1"},
		{"RFC 7239, hidden", rfc, proxy, []string{`Forwarded: for=_gazonk`}, "10.0.0.1"},
		{"RFC 7239, no for", rfc, proxy, []string{`Forwarded: proto=https`}, "10.0.0.1"},
		{"RFC 7239, for twice", rfc, proxy, []string{`Forwarded: for=203.0.113.7;for=198.51.100.1`}, "10.0.0.1"},
		{"no address", trusted, "@", []string{"X-Forwarded-For: 203.0.113.7"}, "invalid IP"},
	} {
		if got := from(c.p, c.peer, c.lines...); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Whatever a client writes, what our proxy adds at the end is what counts.
func TestNoTextOfAClientsChangesItsAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune(`",;= \[]:.for10x`)), 0, 40, -1).Draw(t, "text")
		p := Proxies{Trusted: prefixes("10.0.0.0/8")}
		for header, ours := range map[string]string{"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7"} {
			p.Header = header
			for _, lines := range [][]string{{header + ": " + text, header + ": " + ours}, {header + ": " + text + ", " + ours}} {
				if got := from(p, "10.0.0.1:1", lines...); got != "203.0.113.7" {
					t.Fatalf("%q makes the address %s", lines, got)
				}
			}
		}
	})
}

func TestAPrincipalComesWithItsAddressAndRequestID(t *testing.T) {
	var seen []string
	look := NoBody(200, func(_ context.Context, c *Call) (string, error) {
		seen = append(seen, c.Addr.String(), c.Principal.Addr.String(), c.Principal.RequestID)
		return "", nil
	})
	m := New(Config{
		Rows: []Row{{Method: "GET", Pattern: "/public", Who: Public, Handler: look}, {Method: "GET", Pattern: "/private", Handler: look}},
		Authenticate: func(context.Context, string) (access.Principal, error) {
			return access.Principal{Kind: access.User, ID: "u", OrgID: "o"}, nil
		},
		Proxies: Proxies{Trusted: prefixes("192.0.2.0/24")}, // where httptest's requests come from
	})
	for _, target := range []string{"/public", "/private"} {
		if w := do(m, "GET", target, "", "X-Forwarded-For", "203.0.113.7", "X-Request-Id", "r1"); w.Code != http.StatusOK {
			t.Fatal(w.Body)
		}
	}
	if want := []string{"203.0.113.7", "invalid IP", "", "203.0.113.7", "203.0.113.7", "r1"}; !slices.Equal(seen, want) {
		t.Errorf("handlers saw %q, want %q", seen, want)
	}
}
