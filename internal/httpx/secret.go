package httpx

import (
	"net"
	"net/http"
	"net/netip"
)

// Secret is Guard of a header that holds a key. It takes the header from the
// request, so that nobody else finds it there. Its text is a string, which Go
// cannot wipe: until the memory is used again, the text is in it, and in what
// net/http read.
func (c *Call) Secret(name string) (string, error) {
	value, err := c.Guard(name)
	c.r.Header.Del(name)
	return value, err
}

// Private reports whether nobody but the two ends, or a proxy that we trust,
// reads what goes over the call's connection: it is TLS, a Unix socket, or plain
// HTTP from this machine or from a trusted proxy. How the client speaks to a
// trusted proxy is the proxy's business.
func (c *Call) Private() bool {
	if local, ok := c.r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
		return true
	}
	peer, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if c.r.TLS != nil || err != nil {
		return c.r.TLS != nil
	}
	addr := plainAddr(peer.Addr())
	return addr.IsLoopback() || c.mux.proxies.trusts(addr)
}
