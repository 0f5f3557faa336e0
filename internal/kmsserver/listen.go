package kmsserver

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Listen listens at endpoint: the path of a Unix socket ("/run/kms.sock",
// "unix:///run/kms.sock"), "fd:N" for one that the process was started with, as
// systemd passes it from 3 up, or a TCP address ("127.0.0.1:7421",
// "https://127.0.0.1:7421"). On TCP it needs files, for TLS 1.3 with client
// certificates. It refuses an endpoint at which no caller is listed. Its errors
// are for the operator and name paths.
func (s *Server) Listen(endpoint string, files *TLSFiles) (net.Listener, error) {
	network, address, err := parseEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	hasFiles := files != nil && *files != TLSFiles{}
	switch {
	case network != "tcp" && hasFiles:
		return nil, fmt.Errorf("the endpoint %s is a Unix socket, which takes no TLS; name host:port, or take the certificates away", endpoint)
	case network != "tcp" && !s.callers.any(byUID):
		return nil, fmt.Errorf("no UID is in the list of callers, so nobody could call at %s; list one", endpoint)
	case network != "tcp":
		open := map[string]func(string) (net.Listener, error){"unix": listenUnix, "fd": inherit}
		ln, err := open[network](address)
		if err != nil {
			return nil, err
		}
		return &listener{Listener: ln, conns: s.conns, uid: peerUID}, nil
	case !hasFiles:
		return nil, fmt.Errorf("the endpoint %s is on TCP: that needs a certificate, its key and the CA of the callers", endpoint)
	case !s.callers.any(byCert):
		return nil, fmt.Errorf("the endpoint %s is on TCP and no certificate name is in the list of callers; list one", endpoint)
	}
	config, err := files.config(s.log)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(&listener{Listener: ln, conns: s.conns}, config), nil
}

// parseEndpoint tells a socket's path from a TCP address.
func parseEndpoint(endpoint string) (network, address string, err error) {
	scheme, rest, isURL := strings.Cut(endpoint, "://")
	switch {
	case !isURL && strings.HasPrefix(endpoint, "fd:"):
		return "fd", endpoint[len("fd:"):], nil
	case !isURL && endpoint != "" && (strings.Contains(endpoint, "/") || !strings.Contains(endpoint, ":")):
		return "unix", endpoint, nil
	case isURL && scheme == "unix" && strings.HasPrefix(rest, "/"):
		return "unix", rest, nil
	case !isURL:
		rest = endpoint
	case scheme != "https":
		rest = ""
	}
	if _, port, err := net.SplitHostPort(rest); err != nil || port == "" || strings.Contains(port, "/") {
		return "", "", fmt.Errorf("the endpoint %q is neither the path of a socket nor host:port; write /run/kms.sock or 127.0.0.1:7421", endpoint)
	}
	return "tcp", rest, nil
}

// listener counts connections and learns who is at their other end.
type listener struct {
	net.Listener
	conns *conns
	uid   func(net.Conn) (uint32, error) // nil: a certificate tells
}

// Accept never fails for one connection's sake.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw}
		peer := address(raw)
		if l.uid != nil {
			uid, err := l.uid(raw)
			if err != nil { // it is gone already
				raw.Close()
				continue
			}
			c.uid, peer = &uid, uidPrincipal(uid).Ref()
		}
		l.conns.add(c, peer)
		return c, nil
	}
}

// address is where a TCP connection comes from, without its port.
func address(c net.Conn) string {
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		return a.Addr().String()
	}
	return ""
}
