package kmsserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/kmsapi"
)

// attacks are what a hostile client does with one connection. It may hold the
// connection when it returns. Errors do not matter: it may have been cut off.
var attacks = map[string]func(c net.Conn){
	"nothing":                   func(net.Conn) {},
	"half a head":               func(c net.Conn) { io.WriteString(c, "POST /encrypt HTTP/1.1\r\nHo") },
	"a head without end":        func(c net.Conn) { io.WriteString(c, "POST /encrypt HTTP/1.1\r\n"+strings.Repeat("X: y\r\n", 100_000)) },
	"one line without end":      func(c net.Conn) { io.WriteString(c, strings.Repeat("x", 1<<20)) },
	"a body that does not come": func(c net.Conn) { io.WriteString(c, head+"Content-Length: 1000\r\n\r\n") },
	"a large body that stops": func(c net.Conn) {
		io.WriteString(c, head+"Content-Length: 44739242\r\n\r\n"+strings.Repeat("[", 1<<20))
	},
	"a chunk that lies":          func(c net.Conn) { io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n[") },
	"a length that lies":         func(c net.Conn) { io.WriteString(c, head+"Content-Length: 999999999999999999999\r\n\r\n[") },
	"a length over the limit":    func(c net.Conn) { io.WriteString(c, head+"Content-Length: 1000000000000\r\n\r\n[") },
	"two lengths":                func(c net.Conn) { io.WriteString(c, head+"Content-Length: 5\r\nContent-Length: 6\r\n\r\n[1,2]x") },
	"chunks without end":         endless("Transfer-Encoding: chunked\r\n\r\n", "8000\r\n"+strings.Repeat(" ", 0x8000)+"\r\n"),
	"pipelined calls unanswered": endless("Content-Length: 2\r\n\r\n[]", head+"Content-Length: 2\r\n\r\n[]"),
	"answers that nobody takes": func(c net.Conn) {
		body := "[" + strings.Repeat(`{"key_id":"missing","plaintext":""},`, 999) + `{"key_id":"missing","plaintext":""}]`
		fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	},
	"garbage": func(c net.Conn) { c.Write([]byte("\x16\x03\x01\xff\xff\x00\x00garbage\r\n\r\n")) },
	"HTTP/2": func(c net.Conn) {
		io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	},
	"a count that lies": func(c net.Conn) {
		body := binary.AppendUvarint([]byte{0x0a}, 1<<62)
		fmt.Fprintf(c, "%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", head, kmsapi.ContentType, len(body), body)
	},
}

const head = "POST /encrypt HTTP/1.1\r\nHost: x\r\n"

// endless sends once first and then again and again until it is cut off or the
// other end takes no more.
func endless(first, again string) func(net.Conn) {
	return func(c net.Conn) {
		go func() {
			io.WriteString(c, head+first)
			for {
				if _, err := io.WriteString(c, again); err != nil {
					return
				}
			}
		}()
	}
}

// small makes the bounds of connections small, so that few attackers reach them.
func (r *rig) small() {
	r.conns.mu.Lock()
	r.conns.fresh.max, r.conns.known.max = 8, 8
	r.conns.mu.Unlock()
}

// works checks that the caller behind client is answered.
func (r *rig) works(client *http.Client, base string) {
	r.Helper()
	for range 20 {
		if a, err := try(client, base, "POST /encrypt", "", `{"key_id":"k","plaintext":"AA=="}`); err != nil || a.status != 200 {
			r.Errorf("the well-behaved caller: %d %s %v", a.status, a.body, err)
			return
		}
	}
	body := "[" + strings.Repeat(`{"key_id":"k","plaintext":"`+strings.Repeat("AAAA", 300)+`"},`, 99) + `{"key_id":"k","plaintext":""}]`
	if a, err := try(client, base, "POST /encrypt", "", body); err != nil || a.status != 200 {
		r.Errorf("the well-behaved caller's batch: %d %.100s %v", a.status, a.body, err)
	}
}

// Attackers are a listed caller and a stranger; the victim has a connection
// from before and makes one during the attack.
func TestAHostileCallerHarmsNobodyElse(t *testing.T) {
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.small()
			before := r.client(bothUID)
			r.works(before, "http://kms")
			var all sync.WaitGroup
			for i := range 40 {
				uid := uint32(cryptoUID)
				if i%2 == 0 {
					uid = strangerUID
				}
				c := r.conn(uid)
				all.Go(func() {
					c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // nobody may be reading
					attack(c)
				})
			}
			r.works(before, "http://kms")
			r.works(r.client(bothUID), "http://kms")
			all.Wait()
			r.works(before, "http://kms")
			r.works(r.client(bothUID), "http://kms")
		})
	}
}

func TestThousandsOfConnectionsHarmNobodyElse(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Callers = nil })
	path := filepath.Join(t.TempDir(), "kms.sock")
	ln, err := r.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.serve(ln)
	client := r.over(unixDial(path))
	r.works(client, "http://kms")
	for range 3000 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	r.works(client, "http://kms")
	r.works(r.over(unixDial(path)), "http://kms")
	if n := r.conns.counts(); n.fresh > maxFresh || n.known > maxKnown || n.freshEnded < 2000 {
		t.Errorf("%+v", n)
	}
}

func TestAListedCallerWithThousandsOfConnectionsHarmsNobodyElse(t *testing.T) {
	r := newRig(t)
	victim := r.client(bothUID)
	r.works(victim, "http://kms")
	for range maxKnown + 100 {
		c := r.conn(cryptoUID)
		io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
	}
	r.works(victim, "http://kms")
	r.works(r.client(bothUID), "http://kms")
	if n := r.conns.counts(); n.known > maxKnown || n.knownEnded < 100 {
		t.Errorf("%+v", n)
	}
}

// hello is the first record of a TLS client, cut off.
var hello = []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")

func TestHandshakesThatDoNotEndHarmNobodyElse(t *testing.T) {
	for name, first := range map[string][]byte{"silent": nil, "half a hello": hello, "garbage": []byte("GET / HTTP/1.1\r\n\r\n"), "a huge record": append([]byte("\x16\x03\x01\xff\xff"), make([]byte, 1<<16)...)} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			w := r.listenTLS()
			r.small()
			good := must(w.ca.issue("x", x509.ExtKeyUsageClientAuth, "crypto"))
			before := r.tlsClient(w, good)
			r.works(before, "https://kms")
			for range 40 {
				c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", w.ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				c.Write(first)
			}
			r.works(before, "https://kms")
			r.works(r.tlsClient(w, good), "https://kms")
		})
	}
}

// Whoever has a certificate of the CA and is not listed gets one answer for each
// handshake.
func TestAStrangerWithACertificateHarmsNobodyElse(t *testing.T) {
	r := newRig(t)
	w := r.listenTLS()
	r.small()
	before := r.tlsClient(w, must(w.ca.issue("x", x509.ExtKeyUsageClientAuth, "crypto")))
	r.works(before, "https://kms")
	config := w.config(must(w.ca.issue("x", x509.ExtKeyUsageClientAuth, "stranger")))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			c, err := tls.Dial("tcp", w.ln.Addr().String(), config)
			if err != nil {
				return // one too many of them
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Minute))
			io.WriteString(c, head+"Content-Length: 1000\r\n\r\n")
			if text, _ := io.ReadAll(c); len(text) > 0 && !strings.HasPrefix(string(text), "HTTP/1.1 403 ") { // nothing: one too many
				t.Errorf("%.40q", text)
			}
		})
	}
	r.works(before, "https://kms")
	all.Wait()
	r.works(before, "https://kms")
}

func TestASlowHeadIsCutOff(t *testing.T) {
	r := newRig(t)
	if r.http.ReadHeaderTimeout <= 0 || r.http.ReadHeaderTimeout > 10*time.Second || r.http.IdleTimeout <= 0 || r.http.WriteTimeout <= 0 {
		t.Fatal("a part of a connection's life has no bound")
	}
	cfg := r.cfg
	cfg.Metrics = nil // a registry of its own
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.http.ReadHeaderTimeout = 30 * time.Millisecond
	mem := newMemListener()
	serve(t, s, &listener{Listener: mem, conns: s.conns, uid: memUID})
	c, err := mem.dial(cryptoUID)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, "GET /hea")
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("the connection stays open: %v", err)
	}
}

func TestCountsAndFramesAreRefusedBeforeTheyCost(t *testing.T) {
	r := newRig(t)
	client := r.client(cryptoUID)
	over := "[" + strings.Repeat(`{"key_id":"k","plaintext":""},`, kmsapi.MaxBatch) + `{"key_id":"k","plaintext":""}]`
	many := string(kmsapi.Encrypt.AppendRequest(nil, make([]kmsapi.EncryptItem, kmsapi.MaxBatch+1)))
	for _, c := range []struct {
		name, contentType, body string
		status                  int
	}{
		{"too many in JSON", "", over, 413},
		{"too many in protobuf", kmsapi.ContentType, many, 413},
		{"millions of empty items", kmsapi.ContentType, strings.Repeat("\x0a\x00", 4<<20), 413},
		{"a length beyond the end", kmsapi.ContentType, "\x0a\x7fx", 400},
		{"a length of 2^63", kmsapi.ContentType, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7fx", 400},
		{"a varint without end", kmsapi.ContentType, strings.Repeat("\xff", 100), 400},
		{"an unknown field", kmsapi.ContentType, "\x12\x01x", 400},
		{"deep JSON", "", strings.Repeat("[", 1<<20), 400},
		{"deep JSON in an item", "", `{"key_id":` + strings.Repeat(`{"a":`, 1<<16), 400},
		{"no UTF-8", "", "{\"key_id\":\"\xff\"}", 400},
		{"no body", "", "", 400},
		{"two values", "", `{"key_id":"k","plaintext":""}{}`, 400},
		{"a member twice", "", `{"key_id":"k","key_id":"k","plaintext":""}`, 400},
	} {
		if a := r.do(client, "POST /encrypt", c.contentType, c.body); a.status != c.status || !strings.Contains(a.body, `"code":`) {
			t.Errorf("%s: %d %.200s", c.name, a.status, a.body)
		}
	}
	if calls := r.kms.took(); calls != nil {
		t.Errorf("the KMS did %v", calls)
	}
	if a := r.do(client, "POST /encrypt", "", strings.Replace(over, `{"key_id":"k","plaintext":""},`, "", 1)); a.status != 200 {
		t.Errorf("as many as may be: %d", a.status)
	}
	if a := r.do(client, "POST /shred_dek", "", `{"key_id":"`+strings.Repeat("x", maxSmall)+`"}`); a.status != 403 {
		t.Errorf("not an admin: %d", a.status)
	}
	if a := r.do(r.client(adminUID), "POST /shred_dek", "", `{"key_id":"`+strings.Repeat("x", maxSmall)+`"}`); a.status != 413 {
		t.Errorf("a large body of a small call: %d", a.status)
	}
}

func TestACallThatItsClientLeftDoesNotStay(t *testing.T) {
	ended := make(chan error, 1)
	started := make(chan struct{})
	r := newRig(t, func(c *Config) {
		c.Backup = func(ctx context.Context, _ io.Writer) error {
			close(started)
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
	})
	c := r.conn(adminUID)
	io.WriteString(c, "GET /backup HTTP/1.1\r\nHost: x\r\n\r\n")
	<-started
	c.Close()
	if err := <-ended; err != context.Canceled {
		t.Errorf("the call ended with %v", err)
	}
}
