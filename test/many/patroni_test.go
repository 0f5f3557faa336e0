package many

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyfold/keyfold/internal/freeport"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// TestNothingIsLostWhenPatroniPromotes kills the leader of three PostgreSQL servers that
// Patroni runs over three etcds, again and again: nobody but Patroni says which server
// takes its place, and the one that was killed comes back as a standby.
func TestNothingIsLostWhenPatroniPromotes(t *testing.T) {
	if !long() {
		t.Skip("this takes minutes, and Debian's patroni and etcd-server: KEYFOLD_LONG=1")
	}
	for _, program := range []string{"patroni", "etcd"} {
		if _, err := exec.LookPath(program); err != nil {
			pgtest.Missing(t, program, "patroni etcd-server python3-etcd")
		}
	}
	s := emptySite(t)
	c := s.newCluster(pgtest.Bin(t))
	s.start(plan{servers: 3, keys: 2})
	w := new(waits)
	caller := s.caller(w)
	l := s.load(caller, 4, 6)
	lin := s.linear(caller, l.ledger)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var working sync.WaitGroup
	working.Go(func() { l.run(ctx, 4) })
	working.Go(func() { lin.run(ctx, 3, 50*time.Millisecond) })
	var told outages
	for n := range 3 {
		time.Sleep(10 * time.Second)
		leader, from := c.leader(), time.Now()
		c.kill(leader)
		c.awaitLeader()
		time.Sleep(5 * time.Second)
		c.nodes[leader].start()
		c.awaitSync()
		told = append(told, outage{fmt.Sprintf("kill -9 of leader %d, node %d", n, leader), from, time.Now()})
	}
	cancel()
	working.Wait()
	told.tell(t, w)
	w.check(t)
	n := l.settle(t)
	lin.settle(t, &n)
	t.Log(n)
	lin.check(t)
}

// cluster is what Patroni runs.
type cluster struct {
	*site
	nodes []*process // Patroni, each with a PostgreSQL
	apis  []string
	dirs  []string
}

// newCluster starts three etcds and three Patronis, as the user postgres, and waits
// until one leads and one stands by synchronously.
func (s *site) newCluster(bin string) *cluster {
	s.t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil || os.Getuid() != 0 {
		needsRoot(s.t, "Patroni runs as the user postgres")
		s.t.SkipNow()
	}
	uid, _ := strconv.Atoi(u.Uid)
	c := &cluster{site: s}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	own := func(name string) string {
		dir := filepath.Join(s.dir, name)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, uid, uid)); err != nil {
			s.t.Fatal(err)
		}
		return dir
	}
	as := func(args ...string) []string {
		return append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"}, args...)
	}
	var clients, peers, members []string
	for i := range 3 {
		clients, peers = append(clients, s.address()), append(peers, s.address())
		members = append(members, fmt.Sprintf("e%d=http://%s", i, peers[i]))
	}
	for i := range 3 {
		p := &process{t: s.t, name: fmt.Sprint("etcd ", i), args: as("etcd", "--name", fmt.Sprint("e", i), "--data-dir", own(fmt.Sprint("e", i)),
			"--listen-client-urls", "http://"+clients[i], "--advertise-client-urls", "http://"+clients[i],
			"--listen-peer-urls", "http://"+peers[i], "--initial-advertise-peer-urls", "http://"+peers[i],
			"--initial-cluster", strings.Join(members, ","), "--unsafe-no-fsync=false", "--log-level", "error")}
		p.start()
	}
	for i := range 3 {
		api, addr := s.address(), s.address()
		port, _ := strconv.Atoi(addr[strings.LastIndexByte(addr, ':')+1:])
		dir := own(fmt.Sprint("p", i))
		file := filepath.Join(s.dir, fmt.Sprintf("p%d.yaml", i))
		if err := os.WriteFile(file, fmt.Appendf(nil, patroni, i, api, api, strings.Join(clients, ","), port, port, dir, bin, dir, dir), 0o644); err != nil {
			s.t.Fatal(err)
		}
		p := &process{t: s.t, name: fmt.Sprint("patroni ", i), args: as("patroni", file)}
		p.told()
		p.start()
		c.nodes, c.apis, c.dirs, s.ports = append(c.nodes, p), append(c.apis, api), append(c.dirs, dir), append(s.ports, port)
		s.t.Cleanup(func() { c.killPostgres(i) })
	}
	c.awaitLeader()
	c.awaitSync()
	for _, name := range []string{"keyfold", "keys"} {
		c.sql("CREATE DATABASE " + name)
		c.await("the databases on each node", func() bool { return c.everyNodeHas(name) })
	}
	return c
}

const patroni = `scope: keyfold
name: n%d
restapi: {listen: "%s", connect_address: "%s"}
etcd3: {hosts: "%s"}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    maximum_lag_on_failover: 1048576
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      parameters: {max_connections: 300, wal_log_hints: "on", synchronous_commit: "on"}
  initdb: [{encoding: UTF8}, {locale: C}]
postgresql:
  listen: "0.0.0.0:%d"
  connect_address: "127.0.0.1:%d"
  data_dir: %s/data
  bin_dir: %s
  pgpass: %s/pgpass
  authentication:
    superuser: {username: postgres}
    replication: {username: postgres}
    rewind: {username: postgres}
  parameters: {unix_socket_directories: "%s"}
  pg_hba: [local all all trust, host all all 127.0.0.1/32 trust, host replication all 127.0.0.1/32 trust, host all all 198.18.0.0/15 trust]
`

// address is a free one of this machine.
func (s *site) address() string {
	s.t.Helper()
	addr, release, err := freeport.Hold()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(release)
	return addr
}

// role is what Patroni says of a node: master, sync_standby, replica or "".
func (c *cluster) role(node int) string {
	over := http.Client{Timeout: 2 * time.Second}
	res, err := over.Get("http://" + c.apis[node] + "/patroni")
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	var said struct {
		Role  string `json:"role"`
		State string `json:"state"`
		Sync  bool   `json:"sync_standby"`
	}
	if json.NewDecoder(res.Body).Decode(&said) != nil || said.State != "running" {
		return ""
	}
	if said.Sync {
		return "sync_standby"
	}
	return said.Role
}

func (c *cluster) leader() int {
	for i := range c.nodes {
		if c.role(i) == "master" {
			return i
		}
	}
	return -1
}

func (c *cluster) awaitLeader() {
	c.t.Helper()
	c.await("a leader", func() bool { return c.leader() >= 0 })
}

// awaitSync waits until there is a leader, and a standby that has what it acknowledges.
func (c *cluster) awaitSync() {
	c.t.Helper()
	c.await("a synchronous standby", func() bool {
		sync := false
		for i := range c.nodes {
			sync = sync || c.role(i) == "sync_standby"
		}
		return sync && c.leader() >= 0
	})
}

// kill ends a node without goodbye: Patroni, which would start its PostgreSQL again, and
// that, which holds what Patroni's output goes to.
func (c *cluster) kill(node int) {
	c.nodes[node].signal(syscall.SIGKILL)
	c.killPostgres(node)
	<-c.nodes[node].ended
}

func (c *cluster) killPostgres(node int) {
	text, err := os.ReadFile(filepath.Join(c.dirs[node], "data", "postmaster.pid"))
	if err != nil {
		return
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if pid, err := strconv.Atoi(line); err == nil {
		syscall.Kill(-pid, syscall.SIGKILL) // the group of it and its children
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// everyNodeHas reports whether a database is on the standbys too: one that lags would
// refuse a connection for good, before its turn to say that it does not write.
func (c *cluster) everyNodeHas(database string) bool {
	for _, port := range c.ports {
		conn, err := pgconn.Connect(c.t.Context(), fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s", port, database))
		if err != nil {
			return false
		}
		conn.Close(c.t.Context())
	}
	return true
}

func (c *cluster) sql(statement string) {
	c.t.Helper()
	conn, err := pgconn.Connect(c.t.Context(), c.store("postgres", nil))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(c.t.Context(), statement).ReadAll(); err != nil {
		c.t.Fatal(err)
	}
}
