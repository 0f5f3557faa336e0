package many

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyfold/keyfold/cmek"
)

// long reports whether the campaigns run in their long form.
func long() bool { return os.Getenv("KEYFOLD_LONG") != "" }

// event is something that goes wrong while callers work.
type event struct {
	name   string
	begins func()
	lasts  time.Duration // until it ends
	ends   func()
}

// TestNothingIsLostDoubledOrMislabelledWhateverFails puts load on three servers, two
// key processes and a database with a synchronous standby, while each of them in turn
// is killed, cut off or stopped, two of them in the midst of rotations. At the end what
// was acknowledged is counted against what is there, every rotation has gone over
// everything once, who followed a thread heard of each message once, and the histories
// of secrets and of vaults' keys are linearizable.
func TestNothingIsLostDoubledOrMislabelledWhateverFails(t *testing.T) {
	t.Parallel()
	s := newSite(t, plan{servers: 3, keys: 2, standby: true})
	w := new(waits)
	c := s.caller(w)
	l := s.load(c, 4, 6)
	lin := s.linear(c, l.ledger)
	killed, stopped := s.rotations(c, pick(3_000, 5_000)), s.rotations(c, pick(3_000, 5_000))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var followers []*follower
	for _, url := range s.urls() {
		followers = append(followers, follow(t.Context(), t, url, c.token, threadOf(l.threads[0])))
	}
	time.Sleep(time.Second) // until they follow
	var working sync.WaitGroup
	working.Go(func() { l.run(ctx, 4) })
	working.Go(func() { lin.run(ctx, 3, pick(60*time.Millisecond, 20*time.Millisecond)) })
	quiet := pick(2*time.Second, 10*time.Second)
	time.Sleep(quiet)

	var told outages
	for _, e := range s.events(killed, stopped) {
		from := time.Now()
		e.begins()
		time.Sleep(e.lasts)
		if e.ends != nil {
			e.ends()
		}
		time.Sleep(quiet)
		told = append(told, outage{e.name, from, time.Now()})
	}
	cancel()
	working.Wait()
	told.tell(t, w)
	w.check(t)
	killed.finish()
	killed.check()
	stopped.check()
	n := l.settle(t)
	lin.settle(t, &n)
	t.Log(n)
	if n.posts == 0 || n.puts == 0 || n.sealed == 0 || n.reads == 0 {
		t.Error("there was no load")
	}
	lin.check(t)
	s.readEverywhere(t, l)
	all := l.messages(t, l.threads[0])
	for _, f := range followers {
		f.wants(t, all)
	}
}

// TestLargeRotationsGoOnAfterTheirServersDeath kills the server at which a rotation of
// a customer's key and one of a thread's DEK were begun, when they are under way.
func TestLargeRotationsGoOnAfterTheirServersDeath(t *testing.T) {
	t.Parallel()
	s := newSite(t, plan{servers: 2, keys: 1})
	c := s.caller(new(waits))
	r := s.rotationsOf(c, pick(10_000, 50_000), pick(10_000, 100_000))
	began := time.Now()
	r.start(s.servers[0].url)
	r.await("a part is done", func() bool { return r.seal.look().Processed > 0 })
	s.servers[0].kill()
	dead := time.Now()
	seal, dek := r.underWay()
	t.Logf("the server died when %d of %d versions and %d of %d messages were done, after %v", seal, r.seal.n, dek, r.dek.n, dead.Sub(began).Round(time.Millisecond))
	r.await("another server goes on with both", func() bool {
		return r.seal.look().Processed > seal && r.dek.look().Processed > dek
	})
	if took := time.Since(dead); took > 30*time.Second {
		t.Errorf("another server went on after %v; it may take 30 s", took)
	} else {
		t.Logf("another server went on after %v", took.Round(time.Millisecond))
	}
	r.finish()
	ended := time.Now()
	s.servers[0].restart()
	r.check()
	t.Logf("the rest took %v", ended.Sub(dead).Round(time.Millisecond))
}

// pick is one of two sizes, for the short form of a campaign and for the long one.
func pick[T any](short, length T) T {
	if long() {
		return length
	}
	return short
}

// events is everything that goes wrong, one after the other.
func (s *site) events(killed, stopped *rotations) (all []event) {
	for i, srv := range s.servers {
		e := event{name: fmt.Sprintf("kill -9 of server %d", i), begins: srv.kill, lasts: time.Second, ends: srv.restart}
		if i == 0 { // which works on rotations
			e.begins = func() { killed.start(srv.url); srv.kill(); killed.underWay() }
		}
		all = append(all, e)
	}
	for i, k := range s.keys {
		all = append(all, event{name: fmt.Sprintf("kill -9 of key process %d", i), begins: k.kill, lasts: time.Second, ends: func() { s.restartKeys(i) }})
	}
	all = append(all, event{name: "kill -9 of the primary, its standby promoted", begins: func() {
		s.primary.Kill(s.t)
		s.standby.Promote(s.t)
	}, lasts: time.Second})
	if separate() {
		cut := s.servers[1]
		all = append(all, event{name: "server 1 cut off from the database for 10 s", begins: cut.host.cut, lasts: 10 * time.Second, ends: cut.host.mend})
	} else {
		needsRoot(s.t, "no server is cut off from the database")
	}
	// It holds the leases of rotations. They end at other servers while it is stopped,
	// and when it goes on it must write nothing.
	last := s.servers[2]
	return append(all, event{
		name:   "server 2 stopped for 10 s and until others did its work",
		begins: func() { stopped.start(last.url); last.signal(syscall.SIGSTOP); stopped.underWay() },
		lasts:  10 * time.Second,
		ends:   func() { stopped.finish(); last.signal(syscall.SIGCONT) },
	})
}

// needsRoot says what is left out, which fails the test in CI.
func needsRoot(t testing.TB, what string) {
	t.Helper()
	say := t.Logf
	if os.Getenv("CI") == "true" {
		say = t.Errorf
	}
	say("%s: that needs root", what)
}

// restart starts a server that was killed and waits until it is ready.
func (s *server) restart() {
	s.start()
	s.await("/readyz", s.ready)
}

func (s *site) restartKeys(i int) {
	os.Remove(s.socket(i))
	s.keys[i].start()
	s.keys[i].await("its socket", func() bool {
		_, err := os.Stat(s.socket(i))
		return err == nil
	})
}

// threadOf is the ID in a path of messages.
func threadOf(path string) string { return strings.Split(path, "/")[3] }

// load makes what load is put on.
func (s *site) load(c *caller, threads, secrets int) *load {
	l := &load{caller: c, ledger: new(ledger), secrets: secrets, vault: "/v1/vaults/" + c.made(s.t, "/v1/vaults", `{"name":"load"}`)}
	for range threads {
		l.threads = append(l.threads, "/v1/threads/"+c.made(s.t, "/v1/threads", `{}`)+"/messages")
	}
	return l
}

// linear makes what histories are written of.
func (s *site) linear(c *caller, of *ledger) *linear {
	s.t.Helper()
	now := time.Now()
	l := &linear{caller: c, ledger: of, secrets: recorder{epoch: now}, seals: recorder{epoch: now}, written: map[string]sealedWrite{}}
	l.vault = "/v1/vaults/" + c.made(s.t, "/v1/vaults", `{"name":"linear"}`)
	for range 3 {
		l.keys = append(l.keys, cmek.Generate())
	}
	for range 3 {
		path, first := "/v1/vaults/"+c.made(s.t, "/v1/vaults", `{"name":"sealed"}`), l.keys[0].Fingerprint()
		a := c.call(s.t.Context(), "POST", path+"/cmek", fmt.Sprintf(`{"fingerprint":%q}`, first))
		if !a.ok() {
			s.t.Fatalf("sealing a vault = %d %s", a.status, a.text)
		}
		l.seals.add(0, act{object: path, kind: "reseal", value: first}, a, seen{done: true})
		l.sealed = append(l.sealed, path)
	}
	return l
}

// readEverywhere reads the same thread at every server: all tell the same.
func (s *site) readEverywhere(t *testing.T, l *load) {
	t.Helper()
	for _, path := range l.threads {
		var first []stored
		for i, srv := range s.servers {
			one := *l
			one.caller = newCaller([]string{srv.url}, l.token, new(waits))
			got := one.messages(t, path)
			if i == 0 {
				first = got
			} else if !slices.Equal(got, first) {
				t.Errorf("%s: server %d tells %d messages, server 0 %d, or others", path, i, len(got), len(first))
			}
		}
	}
}
