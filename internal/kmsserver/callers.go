package kmsserver

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
)

// Roles is a set of roles.
type Roles uint8

// The roles. A caller with none may ask for health and metrics.
const (
	Crypto Roles = 1 << iota // use keys: encrypt, decrypt, seal, open, rewrap, create
	Admin                    // rule over them: rotate, destroy, shred, list, back up
	CMEK                     // seal and open with customers' keys that are granted to the caller
	Shred                    // destroy threads' DEKs, which Admin may, too
	List                     // read which KEKs there are, and how they stand, which Admin may, too
)

// Caller is one entry of the allowlist: a UID on the Unix socket, or a name in
// a client certificate on TCP.
type Caller struct {
	UID   *uint32
	Name  string // the whole of a DNS or URI SAN; of a certificate that has neither, the common name
	Roles Roles
}

// What a row asks of its caller. A row that says nothing is the admin's.
const (
	admin  = httpx.Principal
	crypto = httpx.Public + 1
	listed = httpx.Public + 2 // any caller of the allowlist
	cmek   = httpx.Public + 3
	watch  = httpx.Public + 4 // any caller of the allowlist, but those with the role cmek alone
	shred  = httpx.Public + 5
	lists  = httpx.Public + 6
)

// needs is the roles of which a row's Who asks for one; 0: for none. A Who that is
// not here is nobody's.
var needs = map[httpx.Who]Roles{admin: Admin, crypto: Crypto, cmek: CMEK, shred: Shred | Admin, lists: List | Admin, listed: 0, watch: 0}

// Principals of this process, as logs and audit records name them:
// "uid:1000", "cert:keyfold-server".
const (
	byUID  access.Kind = "uid"
	byCert access.Kind = "cert"
)

// known is a listed caller.
type known struct {
	principal access.Principal
	roles     Roles
}

// callers is the allowlist, by principal.
type callers map[access.Principal]*known

func newCallers(list []Caller) (callers, error) {
	all := callers{}
	for _, c := range list {
		var p access.Principal
		switch {
		case (c.UID == nil) == (c.Name == ""):
			return nil, fmt.Errorf("a caller of the KMS needs a UID or a name, and not both")
		case c.UID != nil:
			p = uidPrincipal(*c.UID)
		default:
			p = access.Principal{Kind: byCert, ID: c.Name}
		}
		if all[p] != nil {
			return nil, fmt.Errorf("the caller %s of the KMS is listed twice", p.Ref())
		}
		all[p] = &known{principal: p, roles: c.Roles}
	}
	return all, nil
}

func uidPrincipal(uid uint32) access.Principal {
	return access.Principal{Kind: byUID, ID: strconv.FormatUint(uint64(uid), 10)}
}

// any reports whether a caller of that kind is listed.
func (all callers) any(kind access.Kind) bool {
	for p := range all {
		if p.Kind == kind {
			return true
		}
	}
	return false
}

// caller finds the caller of c by its connection and holds it to the row's
// role. A connection of nobody who is listed ends with the answer.
func (s *Server) caller(c *httpx.Call) (access.Principal, error) {
	cn, ok := c.Request().Context().Value(connKey{}).(*conn)
	if !ok { // no listener of ours
		return access.Principal{}, s.refuseStranger(c, "unknown")
	}
	if cn.caller == nil {
		who := presented(cn, c)
		for _, p := range who {
			if cn.caller = s.callers[p]; cn.caller != nil {
				break
			}
		}
		if cn.caller == nil {
			return access.Principal{}, s.refuseStranger(c, who[0].Ref())
		}
		s.conns.promote(cn, cn.caller.principal.Ref())
	}
	if c.Header("Origin") != "" || c.Header("Sec-Fetch-Site") != "" {
		// A page that its reader's browser lends a certificate to.
		return access.Principal{}, s.refuse(cn.caller.principal.Ref(), "a page in a browser called", "the KMS takes no calls of web pages")
	}
	if cert := certificate(c); cert != nil && s.cfg.Now().After(cert.NotAfter) { // since the handshake
		c.SetHeader("Connection", "close")
		return access.Principal{}, s.refuse(cn.caller.principal.Ref(), "a caller's certificate has expired", "your certificate has expired; connect with a new one")
	}
	need, ok := needs[c.Who()]
	if !ok || need != 0 && cn.caller.roles&need == 0 || c.Who() == watch && cn.caller.roles == CMEK {
		return cn.caller.principal, s.refuse(cn.caller.principal.Ref(), "a caller lacks the role for its call",
			"your entry in the KMS's list of callers has not the role that this call needs; ask its operator")
	}
	return cn.caller.principal, nil
}

// refuseStranger answers a caller who is not in the list, and ends its connection.
func (s *Server) refuseStranger(c *httpx.Call, who string) error {
	c.SetHeader("Connection", "close")
	return s.refuse(who, "a caller is not in the list", "you are not in the KMS's list of callers; ask its operator")
}

// refuse counts and logs a refused call.
func (s *Server) refuse(who, what, message string) error {
	s.metrics.refused.Inc()
	s.refused.warn(s.log, s.cfg.Now(), who, what)
	return fault.New(fault.Forbidden, "%s", message)
}

// presented is who the other end may be: one UID, or the names of its
// certificate. It is never empty.
func presented(cn *conn, c *httpx.Call) []access.Principal {
	if cn.uid != nil {
		return []access.Principal{uidPrincipal(*cn.uid)}
	}
	var all []access.Principal
	for _, name := range names(certificate(c)) {
		all = append(all, access.Principal{Kind: byCert, ID: name})
	}
	if all == nil {
		return []access.Principal{{Kind: byCert}}
	}
	return all
}

// certificate is the client's, which the handshake has verified; nil on a Unix
// socket.
func certificate(c *httpx.Call) *x509.Certificate {
	if t := c.Request().TLS; t != nil && len(t.VerifiedChains) > 0 {
		return t.PeerCertificates[0]
	}
	return nil
}

// names lists the names of a certificate. The common name counts only where
// there is no other: a CA checks it less.
func names(cert *x509.Certificate) []string {
	if cert == nil {
		return nil
	}
	all := append([]string(nil), cert.DNSNames...)
	for _, uri := range cert.URIs {
		all = append(all, uri.String())
	}
	if len(all) == 0 && cert.Subject.CommonName != "" {
		all = append(all, cert.Subject.CommonName)
	}
	return all
}

// refusals logs refused calls, at most one line in a second: whoever is refused
// may try often.
type refusals struct {
	mu      sync.Mutex // guards all below
	last    time.Time
	skipped int
}

func (r *refusals) warn(log *slog.Logger, now time.Time, who, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.last) < time.Second {
		r.skipped++
		return
	}
	r.last = now
	log.Warn(what, "caller", who, "skipped", r.skipped)
	r.skipped = 0
}
