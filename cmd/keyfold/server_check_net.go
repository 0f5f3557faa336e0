package main

import (
	"crypto/tls"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/identity"
)

func (s serverSettings) checkAddr(f *findings) {
	host, port, err := net.SplitHostPort(s.Addr)
	if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil {
		f.errorf("addr: write HOST:PORT, such as 127.0.0.1:7420 or :443")
		return
	}
	if s.TLS.Cert == "" && len(s.Proxies.Trusted) == 0 && !isLoopback(host) {
		f.warnf("addr: plain HTTP beyond this machine can be read on its way; set tls.cert and tls.key, or put a proxy with TLS before it and name that in proxies.trusted")
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s serverSettings) checkPublicURL(f *findings) {
	if s.PublicURL == "" {
		f.warnf("public_url: not set, so there are no passkeys, and links of shares are paths; set it to where people find the server, such as https://keys.example.com")
		return
	}
	u, ok := origin(s.PublicURL)
	switch {
	case !ok:
		f.errorf("public_url: write it in lower case, without a path and without the usual port, such as https://keys.example.com")
	case u.Scheme != "https" && !isLoopback(u.Hostname()):
		f.errorf("public_url: passwords and keys travel there; write https://")
	case net.ParseIP(u.Hostname()) != nil:
		f.warnf("public_url: passkeys are for names, not for addresses; write the server's name if anybody is to use them")
	}
}

// origin reads what a browser sends as the origin of a page.
func origin(text string) (*url.URL, bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, false
	}
	usual := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return u, text == u.Scheme+"://"+strings.ToLower(u.Host) && u.Port() != usual && !strings.HasSuffix(u.Host, ":")
}

func (s serverSettings) checkTLS(f *findings) {
	if (s.TLS.Cert == "") != (s.TLS.Key == "") {
		f.errorf("tls: tls.cert and tls.key go together; set both, or neither and put a proxy with TLS before the server")
		return
	}
	if s.TLS.Cert == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key)
	if err != nil {
		f.errorf("tls: %v; name PEM files of a certificate, with its chain, and of its key", err)
		return
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		f.warnf("tls.cert: it is good from %s to %s alone; renew it", cli.When(pair.Leaf.NotBefore), cli.When(pair.Leaf.NotAfter))
	}
	if u, ok := origin(s.PublicURL); ok && pair.Leaf.VerifyHostname(u.Hostname()) != nil {
		f.warnf("tls.cert: it is not for %s, the name in public_url; have one made for it", u.Hostname())
	}
	f.keepsOut("tls.key", s.TLS.Key)
}

// keepsOut warns of a key file that everybody can read.
func (f *findings) keepsOut(name, path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		f.warnf("%s: anybody on this machine can use %s; run: chmod o-rwx %q", name, path, path)
	}
}

func (s serverSettings) checkPeople(f *findings) {
	ways := []string{string(identity.SignUpOpen), string(identity.SignUpInvited), string(identity.SignUpClosed)}
	plans := []string{string(access.Free), string(access.Pro), string(access.Business), string(access.Enterprise)}
	f.oneOf("sign_up", s.SignUp, ways)
	f.oneOf("default_plan", s.DefaultPlan, plans)
	if !s.Encryption {
		f.warnf("encryption: messages of new threads are stored in clear, and whoever reads the data directory or a backup of it reads them; write on unless that is what you want")
	}
	if s.SignUp == string(identity.SignUpOpen) {
		f.warnf("sign_up: anybody who reaches the server can make an org of the %s plan; write invited or closed unless that is what you want", s.DefaultPlan)
	}
}

func (f *findings) oneOf(name, value string, known []string) {
	if !slices.Contains(known, value) {
		f.errorf("%s: write %s or %s", name, strings.Join(known[:len(known)-1], ", "), known[len(known)-1])
	}
}

// checkCallers is about who calls from where, and how often.
func (s serverSettings) checkCallers(f *findings) {
	c := s.config()
	f.oneOf("proxies.header", c.Proxies.Header, []string{xForwardedFor, "Forwarded"})
	if c.Proxies.Header != xForwardedFor && len(c.Proxies.Trusted) == 0 {
		f.errorf("proxies: proxies.header counts only from proxies.trusted; name the proxies' addresses there, or unset it")
	}
	for _, n := range c.Proxies.Trusted {
		if n.Bits() == 0 {
			f.errorf("proxies.trusted: with %s anybody can say where he calls from; name the proxies alone", n)
		}
	}
	if c.Limits.Principal.PerSecond == 0 {
		f.warnf("limits.principal: none: one caller can take all of the server; write such as 200/s")
	}
	if c.Limits.Address.PerSecond == 0 {
		f.warnf("limits.address: none: one address can take all of the server; write such as 50/s")
	}
	for _, o := range c.CORSOrigins {
		if _, ok := origin(o); !ok && o != "*" {
			f.errorf("cors_origins: write each as a browser sends it, in lower case and without a path, such as https://app.example.com, or \"*\" for any")
		}
	}
}

// minToken is how long a token of metrics is at least.
const minToken = 32

// checkMetrics looks at the token that opens the metrics. Nothing of it is said.
func (s serverSettings) checkMetrics(f *findings) {
	token := string(s.Metrics.Token)
	const advice = "make one: openssl rand -hex 32 (env KEYFOLD_METRICS_TOKEN_FILE)"
	switch {
	case token == "":
	case len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		f.errorf("metrics.token: it must be %d characters or more of ASCII, none of them a space; %s", minToken, advice)
	case strings.HasPrefix(token, "1ck_") || strings.HasPrefix(token, "ocv_"):
		f.errorf("metrics.token: it is a key that opens more than the metrics; %s", advice)
	}
}
