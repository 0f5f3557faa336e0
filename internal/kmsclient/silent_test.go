package kmsclient

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/kmsapi"
)

// distant is a fake key process behind pipes, in a bubble: its time is not the machine's.
type distant struct {
	*fakeKMS
	until atomic.Pointer[time.Time] // it is stopped
	deaf  atomic.Bool               // pings are lost, and no call is
	asked atomic.Int64              // calls that arrived, pings not counted
}

func newDistant() *distant {
	d := &distant{fakeKMS: newFakeKMS()}
	for _, probe := range []string{"GET /livez", "GET /readyz"} {
		d.mux.HandleFunc(probe, func(http.ResponseWriter, *http.Request) {})
	}
	return d
}

// stop keeps d from answering for so long.
func (d *distant) stop(t time.Duration) {
	until := time.Now().Add(t)
	d.until.Store(&until)
}

func (d *distant) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		for r := bufio.NewReader(far); d.answer(far, r) == nil; {
		}
	}()
	return &countedConn{Conn: near}, nil
}

func (d *distant) answer(w io.Writer, from *bufio.Reader) error {
	r, err := http.ReadRequest(from)
	if err != nil {
		return err
	}
	rec := httptest.NewRecorder()
	if r.Method == http.MethodPost {
		d.asked.Add(1)
	} else if d.deaf.Load() {
		_, err := from.ReadByte() // nobody sends more
		return err
	}
	if until := d.until.Load(); until != nil {
		time.Sleep(time.Until(*until))
	}
	d.mux.ServeHTTP(rec, r)
	resp := rec.Result()
	resp.ContentLength = int64(rec.Body.Len())
	return resp.Write(w)
}

// distantPair is a client of two of them, which watch so, in the bubble it is called in.
func distantPair(t *testing.T, watch ...func(*Client, *place)) (a, b *distant, c *Client) {
	c, err := New(Config{Endpoint: "unix:///a"})
	if err != nil {
		t.Fatal(err)
	}
	second := &place{name: "unix:///b", alive: true, ready: true}
	if err := second.connectTo(c, second.name, nil); err != nil {
		t.Fatal(err)
	}
	second.live()
	c.places = append(c.places, second)
	a, b = newDistant(), newDistant()
	for i, d := range []*distant{a, b} {
		p := c.places[i]
		p.wires.current.Load().DialContext = d.dial
		for _, w := range watch {
			c.goRun(func() { w(c, p) })
		}
	}
	time.Sleep(10*time.Second + time.Millisecond) // just after pings
	return a, b, c
}

// A collection of garbage, or a long batch on few processors: whatever the moment.
func TestOneLateAnswerMovesNoCall(t *testing.T) {
	for late := time.Millisecond; late < pingEvery; late += 10 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			a, b, c := distantPair(t, (*Client).watch, (*Client).watchReady)
			defer c.Close()
			time.Sleep(late)
			a.stop(2*pingEvery - 10*time.Millisecond)
			for range 3 {
				if err := encryptOne(t.Context(), c, "x"); err != nil {
					t.Error(err)
				}
			}
			if out, err := c.CreateDEK(t.Context(), []kmsapi.CreateDEKItem{{ThreadID: "t"}}); err != nil || out[0].Err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Second)
			if a.asked.Load() != 4 || b.asked.Load() != 0 || answering(c) != 2 {
				t.Errorf("stopped %v after a ping: %d and %d calls, %d answer", late, a.asked.Load(), b.asked.Load(), answering(c))
			}
		})
	}
}

func TestCallsAreTakenFromASilentProcessWithinTheBound(t *testing.T) {
	for late := time.Duration(0); late < pingEvery; late += 10 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			a, b, c := distantPair(t, (*Client).watch, (*Client).watchReady)
			defer c.Close()
			time.Sleep(late)
			a.stop(3 * time.Second)
			for range 3 {
				began := time.Now()
				if err := encryptOne(t.Context(), c, "x"); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took > 3*pingEvery {
					t.Errorf("stopped %v after a ping: %v", late, took)
				}
			}
			if a.asked.Load() != 1 || b.asked.Load() != 3 || answering(c) != 1 {
				t.Errorf("%d and %d calls, %d answer", a.asked.Load(), b.asked.Load(), answering(c))
			}
			time.Sleep(3*time.Second + 2*comeback*pingEvery)
			if err := encryptOne(t.Context(), c, "x"); err != nil || a.asked.Load() != 2 {
				t.Errorf("it is not used again: %v", err)
			}
		})
	}
}

// Its pings are lost, and calls are answered: it is not silent.
func TestWhoAnswersCallsIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := distantPair(t, (*Client).watch)
		defer c.Close()
		a.deaf.Store(true)
		for range 100 {
			if err := encryptOne(t.Context(), c, "x"); err != nil {
				t.Error(err)
			}
			time.Sleep(pingEvery / 2)
		}
		if a.asked.Load() != 100 || b.asked.Load() != 0 {
			t.Errorf("%d and %d calls", a.asked.Load(), b.asked.Load())
		}
		time.Sleep(4 * pingEvery) // in which nothing is called
		if answering(c) != 1 {
			t.Error("who says nothing at all is not silent")
		}
	})
}
