package httpx

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

func TestLargeBodiesShareABudget(t *testing.T) {
	b := newBudget(3 * smallBody)
	first, err := b.take(2 * smallBody)
	if err != nil || first != 2*smallBody {
		t.Fatalf("take = %d, %v", first, err)
	}
	if _, err := b.take(2 * smallBody); !errors.Is(err, fault.Unavailable) {
		t.Errorf("over the budget: %v", err)
	}
	if n, err := b.take(smallBody); n != 0 || err != nil {
		t.Errorf("a small body took %d, %v", n, err)
	}
	b.give(first)
	if _, err := b.take(3 * smallBody); err != nil {
		t.Errorf("what was given back cannot be taken: %v", err)
	}
}

func TestABodyGivesItsRoomBackHoweverItEnds(t *testing.T) {
	m, _ := testMux(t)
	m.large = newBudget(3 * smallBody)
	large := `{"name":"` + strings.Repeat("x", smallBody) + `"}`
	for _, body := range []string{large, large[:len(large)-2], "[" + large, large} { // stored, cut off, no object, stored
		do(m, "POST", "/large", body)
		if left := m.large.left.Load(); left != 3*smallBody || len(m.shares.of) != 0 {
			t.Errorf("%d bytes of room left of %d", left, 3*smallBody)
		}
	}
	m.large = newBudget(smallBody)
	if w := do(m, "POST", "/large", large); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("no room: %d %v", w.Code, w.Header())
	}
	if w := do(m, "POST", "/things", `{"name":"a"}`); w.Code != 201 {
		t.Errorf("a small body while there is no room: %d", w.Code)
	}
}

func TestNoOrgsLargeBodiesShutOutTheOthers(t *testing.T) {
	m := &Mux{large: newBudget(largeBodies)}
	var all []*Call
	fill := func(org string, n int64) (taken int64) {
		for {
			c := &Call{mux: m, Principal: access.Principal{ID: org, OrgID: org}}
			if err := c.takeRoom(n); errors.Is(err, fault.Unavailable) {
				return taken
			} else if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
			taken += n
		}
	}
	if got := fill("a", 8<<20); got != largeBodies/2 {
		t.Errorf("alone an org has %d bytes", got)
	}
	if got := fill("a", smallBody+1); got != 0 {
		t.Errorf("an org that has its share takes %d more", got)
	}
	for _, org := range []string{"b", "c"} {
		if fill(org, 8<<20) == 0 {
			t.Errorf("%s is shut out", org)
		}
	}
	for _, c := range all {
		c.giveRoom()
	}
	if left := m.large.left.Load(); left != largeBodies || len(m.shares.of) != 0 {
		t.Errorf("%d bytes are left, and %d orgs hold some", left, len(m.shares.of))
	}
}

// stalled is a client who does not read until he is let go.
type stalled struct {
	*httptest.ResponseRecorder
	reached chan<- struct{}
	free    <-chan struct{}
}

func (w *stalled) Write(b []byte) (int, error) {
	w.reached <- struct{}{}
	<-w.free
	return w.ResponseRecorder.Write(b)
}

func TestLargeAnswersThatNobodyReadsAreFew(t *testing.T) {
	m, _ := testMux(t)
	send := func(ctx context.Context, c *Call) error {
		c.Send(200, JSON, make([]byte, 2*smallBody))
		return nil
	}
	m.routes.add(&Row{Method: "GET", Pattern: "/much", Handler: send})
	m.routes.add(&Row{Method: "POST", Pattern: "/much", Handler: send})
	m.routes.add(&Row{Method: "GET", Pattern: "/lines", Room: 2 * smallBody, Handler: Stream(JSON, func(context.Context, *Call, io.Writer) error { return nil })})
	m.routes.add(&Row{Method: "GET", Pattern: "/events", Handler: Events(func(_ context.Context, _ *Call, out *EventStream) error {
		out.Add("1", "much", make([]byte, smallBody))
		return out.Flush()
	})})
	m.routes.add(&Row{Method: "GET", Pattern: "/ours", Who: Public, Handler: send})
	m.unread = newBudget(4 * smallBody)
	reached, free, done := make(chan struct{}), make(chan struct{}), make(chan int)
	get := func() {
		r := httptest.NewRequest("GET", "/much", nil)
		r.Header.Set("Authorization", "Bearer good")
		w := &stalled{httptest.NewRecorder(), reached, free}
		m.ServeHTTP(w, r)
		done <- w.Code
	}
	go get()
	<-reached
	if w := do(m, "GET", "/much", ""); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a second one: %d %v", w.Code, w.Header())
	}
	if w := do(m, "GET", "/lines", ""); w.Code != 503 {
		t.Errorf("lines: %d", w.Code)
	}
	if w := do(m, "GET", "/events", ""); w.Body.Len() > 0 {
		t.Errorf("%d bytes of events", w.Body.Len())
	}
	for _, call := range []string{"POST /much", "GET /ours", "GET /things/7"} { // took effect, is everybody's, is small
		method, path, _ := strings.Cut(call, " ")
		if w := do(m, method, path, ""); w.Code != 200 {
			t.Errorf("%s = %d", call, w.Code)
		}
	}
	close(free)
	if status := <-done; status != 200 || m.unread.left.Load() != 4*smallBody {
		t.Errorf("%d, %d bytes of room left of %d", status, m.unread.left.Load(), 4*smallBody)
	}
	for _, path := range []string{"/much", "/lines", "/events"} {
		if w := do(m, "GET", path, ""); w.Code != 200 || path != "/lines" && w.Body.Len() < smallBody || m.unread.left.Load() != 4*smallBody {
			t.Errorf("%s with room again: %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
}
