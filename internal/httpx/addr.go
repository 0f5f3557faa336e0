package httpx

import (
	"net/http"
	"net/netip"
	"strings"
)

// Proxies says which reverse proxies are believed about the addresses of their
// clients. The zero Proxies are none.
type Proxies struct {
	Trusted []netip.Prefix // where they call from
	// Header is the one that they write, each at its end: "X-Forwarded-For" ("") or
	// "Forwarded" (RFC 7239). The other is not looked at: a proxy that does not
	// know it passes on what a client wrote there.
	Header string
}

func (p Proxies) trusts(a netip.Addr) bool {
	for _, prefix := range p.Trusted {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// client is the address that r came from: the other end of its socket, or, when
// that is a trusted proxy, the last hop in the header that is not one. What
// stands before that hop is the client's to invent. A header that cannot be
// read tells nothing: the address is then the socket's, as it is without one.
// The zero Addr is a socket without an address.
func (p Proxies) client(r *http.Request) netip.Addr {
	end, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	peer := plainAddr(end.Addr())
	if len(p.Trusted) == 0 || !p.trusts(peer) {
		return peer
	}
	name, hop := "X-Forwarded-For", xForwardedFor
	if http.CanonicalHeaderKey(p.Header) == "Forwarded" {
		name, hop = "Forwarded", forwarded
	}
	found := peer
	lines := r.Header[name]
	for i := len(lines) - 1; i >= 0; i-- {
		for line, more := lines[i], true; more; {
			var last string
			line, last, more = cutLast(line, ',')
			a, ok := hop(last)
			if !ok {
				return peer
			}
			if found = a; !p.trusts(a) {
				return a
			}
		}
	}
	return found
}

// plainAddr is a as rules and records have it: an IPv4 address that came over
// an IPv6 socket is IPv4, and no zone, which means something on one machine.
func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// cutLast cuts s at its last sep that is not within quotes. It looks from the
// end, where our proxies write: a quote that a client left open further ahead
// hides nothing.
func cutLast(s string, sep byte) (before, after string, found bool) {
	quoted := false
	for i := len(s) - 1; i >= 0; i-- {
		switch {
		case s[i] == '"' && !escaped(s[:i]):
			quoted = !quoted
		case s[i] == sep && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return "", s, false
}

// escaped reports whether what follows s in a quoted string is escaped.
func escaped(s string) bool {
	return (len(s)-len(strings.TrimRight(s, `\`)))%2 == 1
}

// xForwardedFor reads one hop: an address, perhaps with a port.
func xForwardedFor(hop string) (netip.Addr, bool) {
	hop = strings.Trim(hop, " \t")
	if a, err := netip.ParseAddr(hop); err == nil {
		return plainAddr(a), true
	}
	if a, err := netip.ParseAddrPort(hop); err == nil {
		return plainAddr(a.Addr()), true
	}
	if inner, ok := strings.CutPrefix(hop, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return plainAddr(a), err == nil && strings.HasSuffix(inner, "]") && a.Is6()
	}
	return netip.Addr{}, false
}

// forwarded reads one hop: parameters with a ';' between them, of which "for"
// names the address, once, in quotes where it holds a ':'.
func forwarded(hop string) (a netip.Addr, found bool) {
	for more := true; more; {
		var param string
		hop, param, more = cutLast(hop, ';')
		name, value, _ := strings.Cut(strings.Trim(param, " \t"), "=")
		if !strings.EqualFold(name, "for") {
			continue
		}
		if inner, ok := strings.CutPrefix(value, `"`); ok {
			value = strings.TrimSuffix(inner, `"`)
		}
		again := found
		if a, found = xForwardedFor(value); again || !found {
			return netip.Addr{}, false
		}
	}
	return a, found
}
