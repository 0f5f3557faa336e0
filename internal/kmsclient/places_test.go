package kmsclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// node is a fake key process that can stop: it then takes requests and answers none.
type node struct {
	*fakeKMS
	*socket
	stopped atomic.Pointer[chan struct{}] // closed when it goes on
	stuck   atomic.Bool                   // stopped is of calls alone: it says how it is
	arrived atomic.Int64                  // calls, before they are stopped
	locked  atomic.Bool
	mute    atomic.Bool // it works and says nothing of itself
	session string      // the one it has
}

func newNode(t *testing.T) *node {
	n := &node{fakeKMS: newFakeKMS(), socket: newSocket(t)}
	n.mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	n.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if n.locked.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	n.mux.HandleFunc("GET /cmek_rotation/{id}", func(w http.ResponseWriter, r *http.Request) {
		n.calls.Add(1)
		fmt.Fprintf(w, `{"alive":%t}`, r.PathValue("id") == n.session)
	})
	n.run(t)
	return n
}

func (n *node) run(t *testing.T) {
	n.start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		probe := r.URL.Path == "/livez" || r.URL.Path == "/readyz"
		if !probe {
			n.arrived.Add(1)
		}
		if stopped := n.stopped.Load(); stopped != nil && !(probe && n.stuck.Load()) {
			<-*stopped
		}
		if probe && n.mute.Load() {
			<-r.Context().Done()
		}
		n.mux.ServeHTTP(w, r)
	}))
}

// pause stops n until the returned function is called.
func (n *node) pause() (goOn func()) {
	stopped := make(chan struct{})
	n.stopped.Store(&stopped)
	return sync.OnceFunc(func() { n.stopped.Store(nil); close(stopped) })
}

// pair is two nodes and a client of both.
func pair(t *testing.T) (a, b *node, c *Client) { return pairOf(t, Config{}) }

// patientPair is a pair whose client takes nobody for silent who only is slow, as all
// are on a machine that is busy.
func patientPair(t *testing.T) (a, b *node, c *Client) {
	return pairOf(t, Config{missesAlive: 1000})
}

func pairOf(t *testing.T, cfg Config) (a, b *node, c *Client) {
	a, b = newNode(t), newNode(t)
	cfg.Endpoint = "unix://" + a.path + ", unix://" + b.path
	return a, b, a.client(t, cfg)
}

// within fails unless is becomes true.
func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("not in 30 seconds: %s", what)
		}
	}
}

func answering(c *Client) int { n, _ := c.Answering(); return n }

func TestAListOfAddressesIsRead(t *testing.T) {
	for list, want := range map[string][]string{
		"unix:///a":                {"unix:///a"},
		"unix:///a,b":              {"unix:///a,b"},
		"unix:///a,unix:///b":      {"unix:///a", "unix:///b"},
		"https://a:1, https://b:1": {"https://a:1", "https://b:1"},
		"unix:///x,y,https://b:1":  {"unix:///x,y", "https://b:1"},
	} {
		if got := Endpoints(list); !slices.Equal(got, want) {
			t.Errorf("%q is %q", list, got)
		}
	}
	for _, list := range []string{"", ",", "unix:///a,", "unix:///a,http://b:1", "unix:///a,https://b:1", "unix:///a,unix:///a"} {
		if _, err := New(Config{Endpoint: list}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", list, err)
		}
	}
}

func TestCallsGoToTheFirstThatAnswers(t *testing.T) {
	a, b, c := patientPair(t)
	for range 10 {
		if err := encryptOne(t.Context(), c, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if a.calls.Load() != 10 || b.calls.Load() != 0 {
		t.Errorf("%d and %d calls", a.calls.Load(), b.calls.Load())
	}
	a.stop()
	for range 10 {
		if err := encryptOne(t.Context(), c, "x"); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "one of two answers", func() bool { n, of := c.Answering(); return n == 1 && of == 2 })
	a.run(t)
	within(t, "both answer", func() bool { return answering(c) == 2 })
	before := b.calls.Load()
	if err := encryptOne(t.Context(), c, "x"); err != nil || b.calls.Load() != before {
		t.Errorf("the first is not used again: %v", err)
	}
}

// A call is on its way to who stops, and others come.
func TestWhatAStoppedProcessDoesNotAnswerAnotherDoes(t *testing.T) {
	a, b, c := pair(t)
	if err := encryptOne(t.Context(), c, "x"); err != nil {
		t.Fatal(err)
	}
	goOn := a.pause()
	defer goOn()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := encryptOne(t.Context(), c, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if out, err := c.CreateDEK(t.Context(), []kmsapi.CreateDEKItem{{ThreadID: "t"}}); err != nil || out[0].Err != nil {
			t.Errorf("CreateDEK: %v", err)
		}
	})
	wg.Wait()
	if b.calls.Load() == 0 {
		t.Error("the other was not asked")
	}
	goOn()
	within(t, "the stopped one is used again", func() bool { return answering(c) == 2 })
}

// What must not be done twice stays with who got it, however long he takes.
func TestWhatIsNotSentTwiceIsNotTakenFromASilentProcess(t *testing.T) {
	a, b, c := patientPair(t)
	var asked [2]atomic.Int64
	for i, n := range []*node{a, b} {
		n.mux.HandleFunc("POST /shred_dek", func(w http.ResponseWriter, _ *http.Request) {
			asked[i].Add(1)
			fmt.Fprint(w, "{}")
		})
	}
	a.stuck.Store(true)
	goOn := a.pause()
	defer goOn()
	done := make(chan error)
	go func() { done <- c.ShredDEK(context.Background(), "k") }()
	within(t, "it is on its way", func() bool { return a.arrived.Load() == 1 })
	a.stuck.Store(false)
	c.gone(c.places[0], errSilent)
	if n := answering(c); n != 1 {
		t.Errorf("%d answer", n)
	}
	goOn()
	if err := <-done; err != nil || asked[0].Load() != 1 || asked[1].Load() != 0 {
		t.Errorf("asked %d and %d times: %v", asked[0].Load(), asked[1].Load(), err)
	}
	if err := c.ShredDEK(t.Context(), "k"); err != nil { // sent to who is known to answer
		t.Error(err)
	}
}

// One whose answer breaks off may have done it.
func TestWhatIsNotSentTwiceIsLostWithItsProcess(t *testing.T) {
	a, b, c := patientPair(t)
	a.mux.HandleFunc("POST /shred_dek", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	b.mux.HandleFunc("POST /shred_dek", func(http.ResponseWriter, *http.Request) { t.Error("it was sent twice") })
	if err := c.ShredDEK(t.Context(), "k"); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "may or may not") {
		t.Error(err)
	}
}

func TestALockedProcessGetsCallsOnlyWhereNobodyCanWork(t *testing.T) {
	a, b, c := patientPair(t)
	a.locked.Store(true)
	within(t, "the locked one is known", func() bool { return answering(c) == 1 })
	if err := encryptOne(t.Context(), c, "x"); err != nil || a.calls.Load() != 0 || b.calls.Load() != 1 {
		t.Errorf("%d and %d calls: %v", a.calls.Load(), b.calls.Load(), err)
	}
	b.stop()
	if err := encryptOne(t.Context(), c, "x"); err != nil || a.calls.Load() != 1 {
		t.Errorf("%d calls: %v", a.calls.Load(), err)
	}
}

// A process lives, and what it needs to work does not answer any more: it says so, or
// not even that. What is on its way to it goes to who can, and others are not held up;
// but not what must not be done twice, nor what only that process can do.
func TestCallsAreTakenFromAProcessThatCannotWorkAnyMore(t *testing.T) {
	for how, fails := range map[string]func(*node){
		"it says so": func(n *node) { n.locked.Store(true) },
		"silently":   func(n *node) { n.mute.Store(true) },
	} {
		t.Run(how, func(t *testing.T) {
			a, b, c := patientPair(t)
			a.session = "s"
			c.homes.put("s", c.places[0])
			for _, n := range []*node{a, b} {
				n.mux.HandleFunc("POST /shred_dek", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
			}
			a.stuck.Store(true)
			goOn := a.pause()
			defer goOn()
			took, kept := make(chan error), make(chan error, 2)
			go func() { took <- encryptOne(context.Background(), c, "x") }()
			go func() {
				out, err := c.CreateDEK(context.Background(), []kmsapi.CreateDEKItem{{ThreadID: "t"}})
				if err == nil {
					err = out[0].Err
				}
				took <- err
			}()
			go func() { kept <- c.ShredDEK(context.Background(), "k") }()
			go func() {
				if alive, err := c.CMEKRotationAlive(context.Background(), "s"); err != nil || !alive {
					kept <- fmt.Errorf("the session: %v, %w", alive, err)
					return
				}
				kept <- nil
			}()
			within(t, "all are on their way", func() bool { return a.arrived.Load() == 4 })
			began := time.Now()
			fails(a)
			for range 2 {
				if err := <-took; err != nil {
					t.Error(err)
				}
			}
			if err := encryptOne(t.Context(), c, "later"); err != nil {
				t.Error(err)
			}
			if d := time.Since(began); d > 8*time.Second { // 1.5 on a machine that is not busy
				t.Errorf("it took %v", d)
			}
			if a.arrived.Load() != 4 || b.arrived.Load() != 3 {
				t.Errorf("%d and %d calls arrived", a.arrived.Load(), b.arrived.Load())
			}
			goOn()
			for range 2 {
				if err := <-kept; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestWhoCanWorkIsNotDecidedByOneAnswer(t *testing.T) {
	first, second := &place{name: "first", ready: true}, &place{name: "second", ready: true}
	first.live()
	second.live()
	var log strings.Builder
	c := &Client{places: []*place{first, second}, log: slog.New(slog.NewTextHandler(&log, nil))}
	silent := errors.New("silent")
	for n, step := range []struct {
		of     *place
		status int
		err    error
		ready  bool
	}{
		{first, 0, silent, true}, {first, 200, nil, true}, {first, 0, silent, true}, {first, 0, silent, false},
		{first, 200, nil, false}, {first, 200, nil, false}, {first, 200, nil, false}, {first, 200, nil, false}, {first, 200, nil, true},
		{first, 503, nil, false}, {second, 503, nil, false}, {first, 200, nil, true},
	} {
		use := step.of.use
		c.judgeReady(step.of, step.status, step.err)
		if step.of.ready != step.ready {
			t.Errorf("step %d: %v", n, step.of.ready)
		}
		if taken := use.Err() != nil; taken != (!step.ready && c.able() != nil) || step.of.use.Err() != nil || step.of.life.Err() != nil {
			t.Errorf("step %d: calls are taken away: %v", n, taken)
		}
	}
	var said []string
	for line := range strings.Lines(log.String()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), " ") // of the time
		said = append(said, line)
	}
	if want := []string{
		`level=INFO msg="a key process can work again" endpoint=first`, `level=WARN msg="a key process cannot work" endpoint=first status=503`,
		`level=WARN msg="a key process cannot work" endpoint=second status=503`, `level=INFO msg="a key process can work again" endpoint=first`,
	}; !slices.Equal(said, want) {
		t.Errorf("%s", log.String())
	}
}

func TestWhereNobodyAnswersACallFailsAndGoesOnWithWhoeverComesFirst(t *testing.T) {
	a, b, c := pair(t)
	a.stop()
	b.stop()
	if err := encryptOne(t.Context(), c, "x"); !errors.Is(err, fault.Unavailable) || strings.Contains(err.Error(), a.path) {
		t.Error(err)
	}
	within(t, "both are away", func() bool { return answering(c) == 0 })
	b.run(t)
	within(t, "one is back", func() bool { return encryptOne(t.Context(), c, "x") == nil })
	a.run(t)
	within(t, "both are back", func() bool { return answering(c) == 2 })
}

// The first stays away, and the second is too busy, or too far, to say in time that
// it lives: it works all the same.
func TestWhereNobodyIsKnownToAnswerEachIsAsked(t *testing.T) {
	a, b, c := pair(t)
	a.stop()
	b.stop()
	if err := encryptOne(t.Context(), c, "x"); !errors.Is(err, fault.Unavailable) || !c.down.Load() {
		t.Error(err)
	}
	within(t, "both are away", func() bool { return answering(c) == 0 })
	b.mute.Store(true)
	b.run(t)
	for range 5 {
		c.down.Store(true) // which the answer ends
		if err := encryptOne(t.Context(), c, "x"); err != nil {
			t.Error(err)
		}
	}
}

// Nobody says in time that he lives; who says that he can work is asked first.
func TestWhoCanWorkIsAskedBeforeWhoIsSilent(t *testing.T) {
	first, second := &place{name: "first"}, &place{name: "second", ready: true}
	c := &Client{places: []*place{first, second}}
	if p, q := c.pick(0), c.pick(1); p != second || q != first {
		t.Errorf("%s, then %s", p.name, q.name)
	}
}

// Whoever fell silent first, calls may look for both.
func TestWhereNobodyLivesNoCallIsTakenAway(t *testing.T) {
	first, second := &place{name: "first"}, &place{name: "second"}
	first.live()
	second.live()
	c := &Client{places: []*place{first, second}, log: slog.New(slog.DiscardHandler)}
	c.gone(second, errSilent)
	if second.life.Err() == nil {
		t.Error("calls stay with who is silent")
	}
	c.gone(first, errSilent)
	if first.use.Err() != nil || second.use.Err() != nil {
		t.Error("no call can reach who is silent")
	}
}

// A far one needs several times as long to be connected as to answer.
func TestAPingDoesNotCountTheTimeToConnect(t *testing.T) {
	for takes, ok := range map[time.Duration]bool{pingIn - 1: true, pingIn + 1: false} {
		synctest.Test(t, func(t *testing.T) {
			c, err := New(Config{Endpoint: "unix:///nowhere"})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.places[0].wires.current.Load().DialContext = func(context.Context, string, string) (net.Conn, error) {
				time.Sleep(connectIn - 1)
				near, far := net.Pipe()
				go func() {
					defer far.Close()
					if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
						time.Sleep(takes)
						fmt.Fprint(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				}()
				return &countedConn{Conn: near}, nil
			}
			if _, err := c.ask(c.places[0], "/livez", pingIn); (err == nil) != ok {
				t.Errorf("after %v: %v", takes, err)
			}
			time.Sleep(time.Minute) // the far end ends
		})
	}
}

// A session is asked for where it is, after a start of the client too.
func TestASessionIsFoundWhereItIs(t *testing.T) {
	a, b, c := patientPair(t)
	b.session = "s"
	for n := range 3 {
		if alive, err := c.CMEKRotationAlive(t.Context(), "s"); err != nil || !alive {
			t.Errorf("try %d: %v, %v", n, alive, err)
		}
	}
	if a.calls.Load() != 1 || b.calls.Load() != 3 {
		t.Errorf("it was asked for %d and %d times", a.calls.Load(), b.calls.Load())
	}
	if alive, err := c.CMEKRotationAlive(t.Context(), "gone"); err != nil || alive {
		t.Errorf("a session that is gone: %v, %v", alive, err)
	}
	b.stop()
	within(t, "one is away", func() bool { return answering(c) == 1 })
	if _, err := c.CMEKRotationAlive(t.Context(), "s"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("of a session whose process is away it says %v", err)
	}
	if _, err := c.CMEKRotationAlive(t.Context(), "gone"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("of one that could be there it says %v", err)
	}
	if err := encryptOne(t.Context(), c, "x"); err != nil || c.down.Load() {
		t.Errorf("the other is taken to be away, too: %v", err)
	}
}

// Nodes die, stop and come back while many call: each gets its own answer.
func TestNoCallIsLostWhileProcessesComeAndGo(t *testing.T) {
	a, b, c := pair(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := encryptOne(t.Context(), c, fmt.Sprintf("%d of %d", n, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, n := range []*node{a, b, a} {
		n.stop()
		within(t, "the dead one is noticed", func() bool { return answering(c) == 1 })
		n.run(t)
		within(t, "it is back", func() bool { return answering(c) == 2 })
	}
	goOn := a.pause()
	within(t, "the stopped one is noticed", func() bool { return answering(c) == 1 })
	goOn()
	within(t, "it is back", func() bool { return answering(c) == 2 })
	close(stop)
	wg.Wait()
}
