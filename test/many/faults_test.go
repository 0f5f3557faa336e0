package many

import (
	"context"
	"fmt"
	"os"
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

// TestNothingIsLostDoubledOrMislabelledWhateverFails runs load, a rotation of a
// customer's key and one of a thread's DEK over three servers, two key processes and a
// database with a synchronous standby, while each of them in turn is killed, cut off
// or stopped. At the end what was acknowledged is counted against what is there, and
// the histories of secrets and of vaults' keys must be linearizable.
func TestNothingIsLostDoubledOrMislabelledWhateverFails(t *testing.T) {
	s := newSite(t, plan{servers: 3, keys: 1, standby: true})
	w := new(waits)
	c := s.caller(w)
	l := s.load(c, 4, 6)
	lin := s.linear(c, l.ledger)
	seal, dek := s.rotations(c, pick(400, 5_000), pick(400, 10_000))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var working sync.WaitGroup
	working.Go(func() { l.run(ctx, 4) })
	working.Go(func() { lin.run(ctx, 3, pick(60*time.Millisecond, 20*time.Millisecond)) })
	quiet := pick(2*time.Second, 10*time.Second)
	time.Sleep(quiet)

	for _, e := range s.events(seal, dek) {
		from := time.Now()
		e.begins()
		time.Sleep(e.lasts)
		if e.ends != nil {
			e.ends()
		}
		time.Sleep(quiet)
		call, silence := w.longest(from, time.Now())
		t.Logf("%-45s longest call %5d ms, longest time without an answer %5d ms", e.name, call.Milliseconds(), silence.Milliseconds())
	}
	cancel()
	working.Wait()
	seal.finish()
	dek.finish()
	n := l.settle(t)
	t.Logf("acknowledged: %d messages, %d versions of secrets; %d reads; lost %d, doubled %d, mislabelled %d", n.posts, n.puts, n.reads, n.lost, n.doubled, n.mislabelled)
	if n.posts == 0 || n.puts == 0 || n.reads == 0 {
		t.Error("there was no load")
	}
	lin.check(t)
	s.readEverywhere(t, l)
}

// pick is one of two sizes, for the short form of a campaign and for the long one.
func pick[T any](short, length T) T {
	if long() {
		return length
	}
	return short
}

// events is everything that goes wrong, one after the other.
func (s *site) events(seal *sealRotation, dek *dekRotation) (all []event) {
	for i, srv := range s.servers {
		e := event{name: fmt.Sprintf("kill -9 of server %d", i), begins: srv.kill, lasts: time.Second, ends: srv.restart}
		if i == 0 { // a rotation of each kind begins at it, and it is killed in the midst
			e.begins = func() { seal.start(srv.url); dek.start(srv.url); srv.kill() }
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
		s.t.Log("no server is cut off from the database: that needs root")
	}
	stopped := s.servers[2]
	return append(all, event{name: "server 2 stopped for 10 s", begins: func() { stopped.signal(syscall.SIGSTOP) }, lasts: 10 * time.Second, ends: func() { stopped.signal(syscall.SIGCONT) }})
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
	l := &linear{caller: c, ledger: of, secrets: recorder{epoch: now}, seals: recorder{epoch: now}}
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
			} else if len(got) != len(first) || len(got) > 0 && got[len(got)-1] != first[len(first)-1] {
				t.Errorf("%s: server %d tells %d messages, server 0 %d", path, i, len(got), len(first))
			}
		}
	}
}
