package external

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// load posts messages and puts secrets until it is told to stop, and remembers
// what was acknowledged.
type load struct {
	s       *server
	threads []string
	vault   string
	stop    atomic.Bool
	acked   atomic.Int64
	wg      sync.WaitGroup

	mu       sync.Mutex
	posted   map[string][]string // acknowledged bodies, by thread
	put      map[string]string   // acknowledged values, by path
	statuses map[int]int         // of what was not acknowledged
}

const writers = 8 // of each kind

func (s *server) load() *load {
	l := &load{s: s, vault: s.vault(), posted: map[string][]string{}, put: map[string]string{}, statuses: map[int]int{}}
	for range 3 {
		l.threads = append(l.threads, s.thread())
	}
	for w := range writers {
		l.wg.Go(func() { l.write(w, l.post) })
		l.wg.Go(func() { l.write(w, l.putSecret) })
	}
	return l
}

func (l *load) write(w int, one func(name string) (status int)) {
	for i := 0; !l.stop.Load(); i++ {
		status := one(fmt.Sprintf("%s-%d-%d", canary, w, i))
		if status >= 200 && status < 300 {
			l.acked.Add(1)
			continue
		}
		l.mu.Lock()
		l.statuses[status]++
		l.mu.Unlock()
	}
}

func (l *load) post(name string) int {
	thread := l.threads[len(name)%len(l.threads)]
	status, _ := l.s.call("POST", thread, `{"body":"`+name+`"}`)
	if status == 200 {
		l.mu.Lock()
		l.posted[thread] = append(l.posted[thread], name)
		l.mu.Unlock()
	}
	return status
}

func (l *load) putSecret(name string) int {
	path := l.vault + "/secrets/" + strings.TrimPrefix(name, canary+"-") // paths lie in clear
	status, _ := l.s.call("PUT", path, `{"value":"`+name+`"}`)
	if status == 201 {
		l.mu.Lock()
		l.put[path] = name
		l.mu.Unlock()
	}
	return status
}

// more waits until n more writes were acknowledged.
func (l *load) more(n int64) {
	l.s.t.Helper()
	want := l.acked.Load() + n
	l.s.await("writes are acknowledged", func() bool { return l.acked.Load() >= want })
}

func (l *load) end() {
	l.stop.Store(true)
	l.wg.Wait()
}

// check reads all back: what was acknowledged is there, once, and what was not
// is there in whole or not at all.
func (l *load) check() {
	t := l.s.t
	t.Helper()
	for thread, want := range l.posted {
		got, err := l.s.bodies(thread)
		if err != nil {
			t.Error(err)
		}
		times := map[string]int{}
		for _, body := range got {
			times[body]++
		}
		for _, body := range want {
			if times[body] != 1 {
				t.Errorf("the acknowledged message %q is there %d times", body, times[body])
			}
		}
	}
	for path, want := range l.put {
		if got, err := l.s.value(path); err != nil || got != want {
			t.Errorf("the acknowledged secret %s is %q, %v", path, got, err)
		}
	}
	if other := slices.DeleteFunc(slices.Collect(maps.Keys(l.statuses)), func(s int) bool { return s == http.StatusServiceUnavailable }); len(other) > 0 {
		t.Errorf("writes were answered otherwise than done or 503: %v", l.statuses)
	}
}

func TestNothingAcknowledgedIsLostWhenTheKeyProcessIsKilled(t *testing.T) {
	s := dev(t, shortDir(t), nil, "--kms", "external")
	l := s.load()
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		l.more(200)
		old := s.kms()
		if old == 0 {
			t.Fatal("there is no key process")
		}
		if err := syscall.Kill(old, sig); err != nil {
			t.Fatal(err)
		}
		s.await("another key process", func() bool { pid := s.kms(); return pid != 0 && pid != old })
	}
	l.more(200)
	l.end()
	t.Logf("%d acknowledged; otherwise %v", l.acked.Load(), l.statuses)
	s.await("/readyz", s.ready)
	l.check()
	s.stop()
	s = dev(t, s.dir, nil, "--kms", "external")
	l.s = s
	l.check()
	s.stop()
	s.mustNotHold(canary)
}

// A server that is killed takes its key process with it, so that the next one
// finds its keys free.
func TestTheKeyProcessEndsWithItsServer(t *testing.T) {
	s := dev(t, shortDir(t), nil, "--kms", "external")
	path := s.vault() + "/secrets/a"
	s.must("PUT", path, `{"value":"`+canary+`"}`)
	kms := s.kms()
	s.signal(syscall.SIGKILL)
	<-s.ended
	s.await("the end of the key process", func() bool { return !alive(kms) })
	s = dev(t, s.dir, nil, "--kms", "external")
	kms = s.kms()
	if got, err := s.value(path); err != nil || got != canary {
		t.Errorf("after a kill of both: %q, %v", got, err)
	}
	s.stop()
	if alive(kms) {
		t.Error("the key process outlived a server that ended in order")
	}
}

// A key process that holds its breath is away, and what waits for it goes on
// when it breathes again.
func TestAStoppedKeyProcessIsAwayUntilItGoesOn(t *testing.T) {
	s := dev(t, shortDir(t), nil, "--kms", "external")
	path := s.vault() + "/secrets/a"
	kms := s.kms()
	if err := syscall.Kill(kms, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	put := make(chan int, 1)
	go func() {
		status, _ := s.call("PUT", path, `{"value":"`+canary+`"}`)
		put <- status
	}()
	if status, text := s.call("GET", "/readyz", ""); status != 503 || !strings.Contains(text, "the key process does not answer") {
		t.Errorf("readyz = %d %s", status, text)
	}
	if status, _ := s.call("GET", "/healthz", ""); status != 200 {
		t.Errorf("healthz = %d", status)
	}
	if err := syscall.Kill(kms, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if status := <-put; status != 201 {
		t.Errorf("the write that waited = %d", status)
	}
	s.await("/readyz", s.ready)
	if got, err := s.value(path); err != nil || got != canary {
		t.Errorf("%q, %v", got, err)
	}
	s.stop()
}
