package pgstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// brief makes a store give up soon.
var brief = Options{patience: 300 * time.Millisecond}

// chain is all that an error and its causes say.
func chain(err error) string {
	out := fmt.Sprintf("%v %+v %#v\n", err, err, err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if c := e.Unwrap(); c != nil {
			out += chain(c)
		}
	case interface{ Unwrap() []error }:
		for _, c := range e.Unwrap() {
			out += chain(c)
		}
	}
	return out
}

// secured is a server that takes TCP connections by TLS and password alone, and
// the file of the CA that signed its certificate.
func secured(t *testing.T, password string) (server *pgtest.Server, ca string) {
	t.Helper()
	server = pgtest.New(t)
	cert, key := certificate(t)
	server.Write(t, "server.crt", cert)
	server.Write(t, "server.key", key)
	server.Write(t, "pg_hba.conf", []byte("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"))
	server.Configure(t, "ssl = on")
	server.Exec(t, "postgres", fmt.Sprintf("CREATE ROLE keyfold LOGIN PASSWORD '%s'", password))
	server.Exec(t, "postgres", "CREATE DATABASE keyfold OWNER keyfold")
	server.Stop(t)
	server.Start(t)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	return server, ca
}

// certificate makes a certificate for 127.0.0.1 that signs itself.
func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "database"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func TestTLSAndPassword(t *testing.T) {
	t.Parallel()
	const canary = "cAnArY-of-the-password"
	server, ca := secured(t, canary)
	wrong := filepath.Join(t.TempDir(), "wrong.pem")
	other, _ := certificate(t)
	if err := os.WriteFile(wrong, other, 0o600); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", server.Port)
	s := openWith(t, "postgres://keyfold:"+canary+"@"+at+"/keyfold?sslmode=verify-full&sslrootcert="+ca, brief)
	put(t, s, "k", "v")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for name, url := range map[string]string{
		"the wrong CA":              "postgres://keyfold:" + canary + "@" + at + "/keyfold?sslmode=verify-full&sslrootcert=" + wrong,
		"another name":              "postgres://keyfold:" + canary + "@localhost:" + fmt.Sprint(server.Port) + "/keyfold?sslmode=verify-full&sslrootcert=" + ca,
		"no TLS":                    "postgres://keyfold:" + canary + "@" + at + "/keyfold?sslmode=disable",
		"the wrong password":        "postgres://keyfold:" + canary + "x@" + at + "/keyfold?sslmode=require",
		"no such database":          "postgres://keyfold:" + canary + "@" + at + "/none?sslmode=require",
		"nobody there":              "postgres://keyfold:" + canary + "@127.0.0.1:1/keyfold?sslmode=disable",
		"no such host":              "postgres://keyfold:" + canary + "@nowhere.invalid/keyfold?sslmode=disable",
		"no port":                   "postgres://keyfold:" + canary + "@127.0.0.1:port/keyfold",
		"a slash in the password":   "postgres://keyfold:" + canary + "/x@" + at + "/keyfold",
		"a hash in the password":    "postgres://keyfold:1" + canary + "#x@" + at + "/keyfold",
		"a percent in the password": "postgres://keyfold:%zz" + canary + "@" + at + "/keyfold",
		"a control character":       "postgres://keyfold:" + canary + "\x7f@" + at + "/keyfold",
		"no such sslmode":           "postgres://keyfold:" + canary + "@" + at + "/keyfold?sslmode=some",
		"a pool of no number":       "postgres://keyfold:" + canary + "@" + at + "/keyfold?pool_max_conns=" + canary,
		"a keyword text":            "host=127.0.0.1 password=" + canary + " port=x",
	} {
		_, err := Open(context.Background(), url, brief)
		if err == nil {
			t.Errorf("%s: the store opens", name)
			continue
		}
		if text := chain(err); strings.Contains(text, canary) {
			t.Errorf("%s: the password is in the error: %s", name, text)
		}
		if f := fault.Of(err); f.Code != fault.Invalid && f.Code != fault.Unavailable {
			t.Errorf("%s: %v is %v", name, err, f.Code)
		}
	}
}

func TestTooManyConnectionsAreNamed(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	server.Exec(t, "postgres", "CREATE ROLE keyfold LOGIN CONNECTION LIMIT 0")
	_, err := Open(t.Context(), strings.Replace(server.Address("postgres"), "postgres@", "keyfold@", 1), brief)
	if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "max_connections") {
		t.Errorf("Open = %v", err)
	}
}

// TestErrorsHoldNoRow fails on a row, and the database's message has it.
func TestErrorsHoldNoRow(t *testing.T) {
	t.Parallel()
	const canary = "cAnArY-of-a-row"
	url := pgtest.URL(t)
	s := open(t, url)
	defer s.Close()
	name, _, _ := strings.Cut(url[strings.LastIndex(url, "/")+1:], "?")
	pgtest.Shared(t).Exec(t, name, "ALTER TABLE keyfold_records ADD CHECK (length(value) < 100)")
	var b store.Batch
	b.Put(canary, []byte(strings.Repeat(canary, 20)))
	_, err := s.Commit(context.Background(), &b)
	// The database quotes a row in hex.
	if text := chain(err); err == nil || strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) || !strings.Contains(text, "23514") {
		t.Errorf("Commit = %s; want an error with the SQLSTATE and nothing of the row", chain(err))
	}
}

func TestSynchronousCommitMustBeOn(t *testing.T) {
	t.Parallel()
	for setting, fine := range map[string]bool{"off": false, "local": false, "remote_write": false, "on": true, "remote_apply": true} {
		url := pgtest.URL(t)
		name, _, _ := strings.Cut(url[strings.LastIndex(url, "/")+1:], "?")
		pgtest.Shared(t).Exec(t, "postgres", fmt.Sprintf("ALTER DATABASE %s SET synchronous_commit = %s", name, setting))
		s, err := Open(context.Background(), url, brief)
		if fine && err != nil || !fine && (!errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "synchronous_commit")) {
			t.Errorf("%s: Open = %v", setting, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

func TestMigrations(t *testing.T) {
	t.Parallel()
	t.Run("many that open an empty database at once all succeed", func(t *testing.T) {
		url := pgtest.URL(t)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				s, err := Open(context.Background(), url, Options{})
				if err != nil {
					t.Errorf("%s", chain(err))
					return
				}
				s.Close()
			})
		}
		group.Wait()
	})
	t.Run("a newer schema is refused", func(t *testing.T) {
		url := pgtest.URL(t)
		open(t, url).Close()
		name, _, _ := strings.Cut(url[strings.LastIndex(url, "/")+1:], "?")
		pgtest.Shared(t).Exec(t, name, "UPDATE keyfold_schema SET version = 99")
		_, err := Open(context.Background(), url, Options{})
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "schema version 99") {
			t.Errorf("Open = %v", err)
		}
	})
	t.Run("a role that may not make tables can use them", func(t *testing.T) {
		url, role := pgtest.URL(t), fmt.Sprint("plain", time.Now().UnixNano())
		open(t, url).Close()
		name, _, _ := strings.Cut(url[strings.LastIndex(url, "/")+1:], "?")
		pgtest.Shared(t).Exec(t, name, "CREATE ROLE "+role+" LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON keyfold_records TO "+role+"; GRANT SELECT ON keyfold_schema TO "+role)
		s := open(t, strings.Replace(url, "postgres@", role+"@", 1))
		put(t, s, "k", "v")
		s.Close()
		pgtest.Shared(t).Exec(t, name, "DROP OWNED BY "+role+"; DROP ROLE "+role)
	})
}

// TestADeadlockIsTriedAgain has somebody else lock two keys in the other order.
func TestADeadlockIsTriedAgain(t *testing.T) {
	t.Parallel()
	ctx, url := context.Background(), pgtest.URL(t)
	name, _, _ := strings.Cut(url[strings.LastIndex(url, "/")+1:], "?")
	pgtest.Shared(t).Exec(t, "postgres", "ALTER DATABASE "+name+" SET deadlock_timeout = '3s'")
	s := openWith(t, url, Options{callTimeout: 2 * time.Minute})
	defer s.Close()
	put(t, s, "a", "old")
	put(t, s, "b", "old")
	other, err := pgconn.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(ctx)
	say := func(sql string) error { return other.Exec(ctx, sql).Close() }
	if err := say("SET deadlock_timeout = '10min'; BEGIN; UPDATE keyfold_records SET revision = 7 WHERE key = 'b'"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		var b store.Batch
		b.Put("a", []byte("new"))
		b.Put("b", []byte("new"))
		_, err := s.Commit(ctx, &b)
		done <- err
	}()
	pgtest.Shared(t).Wait(t, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '"+name+"'", "1")
	if err := say("UPDATE keyfold_records SET revision = 7 WHERE key = 'a'; COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || s.retries.Load() == 0 {
		t.Errorf("Commit = %v after %d retries; want success after a deadlock", err, s.retries.Load())
	}
	for _, key := range []string{"a", "b"} {
		if r, err := s.Get(ctx, key); err != nil || string(r.Value) != "new" {
			t.Errorf("Get(%s) = %s, %v", key, r.Value, err)
		}
	}
}

// cutter breaks connections in the middle of a commit: it lets what is sent
// through, and loses the answer.
type cutter struct {
	armed atomic.Bool
	cuts  atomic.Int64
}

type cutConn struct {
	net.Conn
	*cutter
	cut atomic.Bool
}

func (c *cutter) wrap(conn net.Conn) net.Conn { return &cutConn{Conn: conn, cutter: c} }

func (c *cutConn) Write(b []byte) (int, error) {
	if c.armed.CompareAndSwap(true, false) {
		c.cuts.Add(1)
		c.cut.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cut.Load() { // the answer was there, so it took effect
		c.Conn.Close()
		return 0, errors.New("cut")
	}
	return n, err
}

func TestALostAnswer(t *testing.T) {
	t.Parallel()
	var cut cutter
	s, ctx := openWith(t, pgtest.URL(t), Options{wrap: cut.wrap}), context.Background()
	defer s.Close()
	put(t, s, "k", "old")
	var b store.Batch
	b.Put("k", []byte("new"))
	cut.armed.Store(true)
	_, err := s.Commit(ctx, &b)
	if !errors.Is(err, fault.Unavailable) || errors.Is(err, store.ErrConflict) || cut.cuts.Load() != 1 {
		t.Errorf("Commit with a lost answer = %v after %d cuts; want one try, and Unavailable", err, cut.cuts.Load())
	}
	for name, call := range map[string]func() error{
		"Get":  func() error { _, err := s.Get(ctx, "k"); return err },
		"Scan": func() error { _, err := s.Scan(ctx, store.Range{}, store.ScanOptions{}); return err },
		"check": func() error {
			_, err := s.Commit(ctx, &store.Batch{Preconditions: []store.Precondition{{Key: "none"}}})
			return err
		},
	} {
		before := cut.cuts.Load()
		cut.armed.Store(true)
		if err := call(); err != nil || cut.cuts.Load() != before+1 {
			t.Errorf("%s = %v after %d cuts; want it asked again", name, err, cut.cuts.Load()-before)
		}
	}
	if r, err := s.Get(ctx, "k"); err != nil || string(r.Value) != "new" {
		t.Errorf("Get = %s, %v", r.Value, err)
	}
}

// TestAServerThatHangs has a call end although nobody answers and its context has
// no end.
func TestAServerThatHangs(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	s := openWith(t, server.Address("postgres"), Options{callTimeout: 2 * time.Second, patience: time.Second})
	put(t, s, "k", "v")
	server.Pause()
	defer server.Resume()
	short, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Get(short, "k"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get with a deadline = %v", err)
	}
	var b store.Batch
	b.Put("k", []byte("w"))
	if _, err := s.Get(context.Background(), "k"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Get = %v", err)
	}
	if _, err := s.Commit(context.Background(), &b); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Commit = %v", err)
	}
}

// TestAServerThatTakesNoWrites makes a primary read-only under the store.
func TestAServerThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	ctx, server := context.Background(), pgtest.New(t)
	s := openWith(t, server.Address("postgres"), brief)
	defer s.Close()
	put(t, s, "k", "v")
	read := func(only string) {
		server.Exec(t, "postgres", "ALTER SYSTEM SET default_transaction_read_only = "+only)
		server.Exec(t, "postgres", "SELECT pg_reload_conf()")
		server.Wait(t, "SELECT current_setting('default_transaction_read_only')", only)
	}
	read("on")
	var b store.Batch
	b.Put("k", []byte("w"))
	for end := time.Now().Add(time.Minute); ; { // a process of the database reads the setting when it is next asked
		_, err := s.Commit(ctx, &b)
		if errors.Is(err, fault.Unavailable) {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("Commit = %v", err)
		}
	}
	if _, err := Open(ctx, server.Address("postgres"), brief); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Open = %v", err)
	}
	read("off")
	put(t, s, "k", "w")
}

// TestAWaitForTheStandbyThatIsCutShort is no success: the database answers that it
// committed, and warns.
func TestAWaitForTheStandbyThatIsCutShort(t *testing.T) {
	t.Parallel()
	ctx, server := context.Background(), pgtest.New(t)
	s := open(t, server.Address("postgres"))
	defer s.Close()
	put(t, s, "k", "v")
	server.SyncTo(t, "nobody")
	done := make(chan error)
	go func() {
		var b store.Batch
		b.Put("k", []byte("w"))
		_, err := s.Commit(ctx, &b)
		done <- err
	}()
	const waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	server.Wait(t, "SELECT count(*) "+waiting, "1")
	server.Exec(t, "postgres", "SELECT pg_cancel_backend(pid) "+waiting)
	if err := <-done; !errors.Is(err, fault.Unavailable) {
		t.Errorf("Commit = %v; want an error that says that the outcome is not known", err)
	}
}

// farewell counts the connections that were made, and tells when one says that it ends.
type farewell struct {
	dials atomic.Int64
	said  chan struct{}
}

type farewellConn struct {
	net.Conn
	*farewell
}

func (f *farewell) wrap(c net.Conn) net.Conn {
	f.dials.Add(1)
	return &farewellConn{c, f}
}

func (c *farewellConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if len(b) > 0 && b[0] == 'X' { // Terminate, which pgx sends after a cancel request
		c.said <- struct{}{}
	}
	return n, err
}

// TestACommitThatTakesTooLongIsNotCancelled: while no standby has a commit, nobody reads it,
// although the caller has given it up.
func TestACommitThatTakesTooLongIsNotCancelled(t *testing.T) {
	t.Parallel()
	server, over := pgtest.New(t), farewell{said: make(chan struct{}, 10)}
	s := openWith(t, server.Address("postgres"), Options{callTimeout: 3 * time.Second, wrap: over.wrap})
	defer s.Close()
	put(t, s, "k", "old")
	const value, waiting = "SELECT convert_from(value, 'UTF8') FROM keyfold_records WHERE key = 'k'", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	server.SyncTo(t, "nobody")
	if _, err := s.Get(t.Context(), "k"); err != nil { // the connection is fresh
		t.Fatal(err)
	}
	dials := over.dials.Load()
	for len(over.said) > 0 {
		<-over.said
	}
	var b store.Batch
	b.Put("k", []byte("new"))
	if _, err := s.Commit(t.Context(), &b); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "look whether the request took effect") {
		t.Fatalf("Commit = %v; want an error that says that the outcome is not known", err)
	}
	select {
	case <-over.said:
	case <-time.After(time.Minute):
		t.Fatal("the connection of the commit was not ended")
	}
	if n := over.dials.Load() - dials; n != 0 {
		t.Errorf("%d connections were made to cancel the commit", n)
	}
	if v, n := server.Exec(t, "postgres", value), server.Exec(t, "postgres", waiting); v != "old" || n != "1" {
		t.Errorf("others read %q, and %s commits wait for the standby; want the old value, and one", v, n)
	}
	server.SyncTo(t, "")
	server.Wait(t, value, "new") // it takes effect when it is safe
}

// TestFailover kills a primary under load and promotes its synchronous standby.
func TestFailover(t *testing.T) {
	t.Parallel()
	ctx, primary := context.Background(), pgtest.New(t)
	standby := primary.Standby(t)
	url := fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable&target_session_attrs=read-write", standby.Port, primary.Port)
	s := openWith(t, url, Options{patience: 2 * time.Minute, callTimeout: 2 * time.Minute})
	defer s.Close()
	if _, err := Open(ctx, standby.Address("postgres"), brief); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Open of a standby = %v", err)
	}

	const writers, readers = 8, 4
	var acked [writers][]string
	var unknown, reads, total atomic.Int64
	put(t, s, "fixed", "v")
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for n := 0; !stopped(); n++ {
				key := fmt.Sprintf("w%d-%06d", w, n)
				var b store.Batch
				b.Put(key, []byte(key))
				b.RequireAbsent(key)
				switch _, err := s.Commit(ctx, &b); {
				case err == nil:
					acked[w] = append(acked[w], key)
					total.Add(1)
				case errors.Is(err, fault.Unavailable):
					unknown.Add(1)
				default:
					t.Errorf("Commit: %s", chain(err))
					return
				}
			}
		})
	}
	for range readers {
		group.Go(func() {
			for !stopped() {
				if _, err := s.Get(ctx, "fixed"); err != nil {
					t.Errorf("Get: %s", chain(err))
					return
				}
				reads.Add(1)
			}
		})
	}
	more := func(n int64) {
		for want, end := total.Load()+n, time.Now().Add(2*time.Minute); total.Load() < want && !t.Failed(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Error("the writers do not come on")
			}
		}
	}
	more(300)
	primary.Kill(t)
	killed := time.Now()
	standby.Promote(t)
	promoted := time.Now()
	more(1)
	t.Logf("promoted %v after the kill; the first commit %v later", promoted.Sub(killed), time.Since(promoted))
	more(300)
	close(stop)
	group.Wait()
	for _, keys := range acked {
		for _, key := range keys {
			if r, err := s.Get(ctx, key); err != nil || string(r.Value) != key {
				t.Fatalf("%s was acknowledged: Get = %s, %v", key, r.Value, err)
			}
		}
	}
	t.Logf("%d commits acknowledged, %d with an unknown outcome, %d reads", total.Load(), unknown.Load(), reads.Load())
}
