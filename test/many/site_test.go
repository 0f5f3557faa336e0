package many

import (
	"encoding/json"
	"fmt"
	"github.com/keyfold/keyfold/test/programs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/freeport"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// everybody lets the hosts of newHost reach the database.
const everybody = "local all all trust\nhost all all 127.0.0.1/32 trust\nlocal replication all trust\nhost all all 198.18.0.0/15 trust\n"

// site is what runs: a database with a synchronous standby, key processes, servers.
type site struct {
	t       testing.TB
	dir     string
	primary *pgtest.Server // nil: Patroni runs the database
	standby *pgtest.Server // nil: none
	ports   []int          // of all of its servers
	keys    []*process
	servers []*server

	email, password string
	admin           string // the operator's key
}

// server is a keyfold server, on a host of its own where that can be.
type server struct {
	*process
	host *host // nil: on this machine
	url  string
}

// plan is how large a site is.
type plan struct {
	servers, keys int
	standby       bool
}

func newSite(t testing.TB, p plan) *site {
	t.Helper()
	s := emptySite(t)
	s.newDatabase(p.standby)
	s.start(p)
	return s
}

func emptySite(t testing.TB) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "kfm") // short, for the paths of sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &site{t: t, dir: dir, email: "owner@example.com", password: "The 2 correct horses of these tests"}
}

// newDatabase starts PostgreSQL.
func (s *site) newDatabase(standby bool) {
	t := s.t
	t.Helper()
	s.primary = pgtest.New(t, "listen_addresses = '*'", "max_connections = 300")
	s.primary.Write(t, "pg_hba.conf", []byte(everybody))
	s.primary.Exec(t, "postgres", "SELECT pg_reload_conf()")
	for _, name := range []string{"keyfold", "keys"} {
		s.primary.Exec(t, "postgres", "CREATE DATABASE "+name)
	}
	s.ports = []int{s.primary.Port}
	if standby {
		s.standby = s.primary.Standby(t)
		s.standby.Configure(t, "listen_addresses = '*'")
		s.standby.Stop(t)
		s.standby.Start(t)
		s.primary.Wait(t, "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'standby'", "sync")
		s.ports = append(s.ports, s.standby.Port)
	}
}

// start starts the key processes and the servers.
func (s *site) start(p plan) {
	s.t.Helper()
	for i := range p.keys {
		s.keys = append(s.keys, s.newKeys(i))
	}
	for i := range p.servers {
		s.servers = append(s.servers, s.newServer(i))
	}
	s.init()
	for _, srv := range s.servers {
		srv.start()
	}
	for _, srv := range s.servers {
		srv.await("/readyz", srv.ready)
	}
}

// store is the URL of a database, as seen from a host.
func (s *site) store(name string, h *host) string {
	at := "127.0.0.1"
	if h != nil {
		at = h.near(1)
	}
	var hosts []string
	for _, port := range s.ports {
		hosts = append(hosts, fmt.Sprintf("%s:%d", at, port))
	}
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable&target_session_attrs=read-write", strings.Join(hosts, ","), name)
}

func (s *site) socket(i int) string { return filepath.Join(s.dir, fmt.Sprint("k", i, ".sock")) }

// newKeys starts a key process. All have the first one's root key.
func (s *site) newKeys(i int) *process {
	s.t.Helper()
	data := filepath.Join(s.dir, fmt.Sprint("k", i), "keys")
	root := filepath.Join(s.dir, "k0", "root.key")
	if err := os.MkdirAll(filepath.Dir(data), 0o700); err != nil {
		s.t.Fatal(err)
	}
	p := &process{t: s.t, name: fmt.Sprint("key process ", i), env: []string{
		"KEYFOLD_KMS_DATA_DIR=" + data, "KEYFOLD_KMS_STORE=" + s.store("keys", nil), "KEYFOLD_KMS_ROOT=file:" + root,
		"KEYFOLD_KMS_ENDPOINT=" + s.socket(i), "KEYFOLD_KMS_LOG=info",
	}}
	p.told()
	if i == 0 {
		s.once(p.env, filepath.Join(programs.Dir(s.t), "keyfold-kms"), "init")
	}
	p.args = []string{filepath.Join(programs.Dir(s.t), "keyfold-kms"), "serve"}
	p.start()
	p.await("its socket", func() bool {
		_, err := os.Stat(s.socket(i))
		return err == nil
	})
	return p
}

func (s *site) newServer(i int) *server {
	s.t.Helper()
	srv := &server{process: &process{t: s.t, name: fmt.Sprint("server ", i)}}
	addr := "127.0.0.1:0"
	run := []string{filepath.Join(programs.Dir(s.t), "keyfold"), "server"}
	if separate() {
		srv.host = newHost(s.t)
		addr = srv.host.far(0) + ":7420"
		run = append([]string{"ip", "netns", "exec", srv.host.name}, run...)
	} else {
		held, release, err := freeport.Hold()
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(release)
		addr = held
	}
	var sockets []string
	for k := range s.keys {
		sockets = append(sockets, "unix://"+s.socket(k))
	}
	srv.url, srv.args = "http://"+addr, run
	srv.env = []string{
		"KEYFOLD_ADDR=" + addr, "KEYFOLD_DATA=" + filepath.Join(s.dir, fmt.Sprint("s", i)), "KEYFOLD_STORE=" + s.store("keyfold", srv.host),
		"KEYFOLD_KMS=" + strings.Join(sockets, ","), "KEYFOLD_LIMIT_PRINCIPAL=none", "KEYFOLD_LIMIT_ADDRESS=none", "KEYFOLD_LOG=info",
	}
	srv.told()
	return srv
}

// init makes the owner and the operator's key, by the first server's settings.
func (s *site) init() {
	s.t.Helper()
	first := s.servers[0]
	file := filepath.Join(s.dir, "admin.key")
	s.once(append([]string{"KEYFOLD_PASSWORD=" + s.password}, first.env...), append(slices.Clone(first.args), "init", "--email", s.email, "--key-out", file)...)
	key, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	s.admin = strings.TrimSpace(string(key))
}

// once runs a program to its end.
func (s *site) once(env []string, args ...string) {
	s.t.Helper()
	p := &process{t: s.t, args: args, env: env}
	p.start()
	<-p.ended
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Fatalf("%v ended with %d: %s", args, code, p.output.String())
	}
}

func (s *server) ready() bool {
	res, err := http.Get(s.url + "/readyz")
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func (s *site) urls() (all []string) {
	for _, srv := range s.servers {
		all = append(all, srv.url)
	}
	return all
}

// caller is the owner, signed in.
func (s *site) caller(w *waits) *caller {
	s.t.Helper()
	c := newCaller(s.urls(), "", w)
	a := c.call(s.t.Context(), "POST", "/v1/auth/token", fmt.Sprintf(`{"email":%q,"password":%q}`, s.email, s.password))
	var made struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(a.text), &made); !a.ok() || err != nil || made.Token == "" {
		s.t.Fatalf("signing in = %d %s", a.status, a.text)
	}
	c.token = made.Token
	// A session is short; a key of the owner's is good as long as the test lasts.
	a = c.call(s.t.Context(), "POST", "/v1/auth/api-keys", `{"name":"many"}`)
	var key struct {
		APIKey string `json:"api_key"`
	}
	if err := json.Unmarshal([]byte(a.text), &key); !a.ok() || err != nil || key.APIKey == "" {
		s.t.Fatalf("making a key = %d %s", a.status, a.text)
	}
	c.token = key.APIKey
	return c
}

// made makes something by POST and returns its ID.
func (c *caller) made(t testing.TB, path, body string) string {
	t.Helper()
	a := c.call(t.Context(), "POST", path, body)
	var v struct{ ID string }
	if err := json.Unmarshal([]byte(a.text), &v); !a.ok() || err != nil || v.ID == "" {
		t.Fatalf("POST %s = %d %s", path, a.status, a.text)
	}
	return v.ID
}
