package httpx

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// eventServer serves one row of events to whom the bearer names.
func eventServer(t *testing.T, follow func(ctx context.Context, c *Call, out *EventStream) error) (*Mux, *httptest.Server) {
	t.Helper()
	m := New(Config{
		Rows: []Row{{Method: "GET", Pattern: "/events", Timeout: StreamTimeout, Keys: true, Handler: Events(follow)}},
		Authenticate: func(_ context.Context, bearer string) (access.Principal, error) {
			return access.Principal{Kind: access.User, ID: bearer, OrgID: "org of " + bearer}, nil
		},
	})
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	return m, s
}

// open begins a stream for a principal.
func open(t *testing.T, s *httptest.Server, who string) (*http.Response, context.CancelFunc) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	t.Cleanup(leave)
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+who)
	r.Header.Set("Accept-Encoding", "gzip")
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res, leave
}

// waits is a stream that says hello and goes on until it is ended.
func waits(ctx context.Context, _ *Call, out *EventStream) error {
	out.Beat("0")
	if err := out.Flush(); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestEventsGoOutOneByOneAsTheStandardHasThem(t *testing.T) {
	step := make(chan struct{})
	_, s := eventServer(t, func(_ context.Context, _ *Call, out *EventStream) error {
		out.Add("1", "created", []byte("{\"a\":\r\n\"b\\n\"}"))
		if err := out.Flush(); err != nil {
			return err
		}
		<-step
		out.Beat("2")
		out.Add("3", "edited", []byte("{}"))
		return out.Flush()
	})
	res, _ := open(t, s, "a")
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", "Content-Encoding": "", "X-Accel-Buffering": "no"} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	in := bufio.NewReader(res.Body)
	line := func() string { text, _ := in.ReadString('\n'); return strings.TrimSuffix(text, "\n") }
	if first, retry := line(), line(); first[0] != ':' || !strings.HasPrefix(retry, "retry: ") || line() != "" {
		t.Errorf("it begins with %q, %q", first, retry)
	}
	for _, want := range []string{"id: 1", "event: created", `data: {"a":`, "data: ", `data: "b\n"}`, ""} { // before the next one is made
		if got := line(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	close(step)
	rest, err := io.ReadAll(in)
	if string(rest) != ":\nid: 2\n\nid: 3\nevent: edited\ndata: {}\n\n" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

// What fails before the first event is a problem; afterwards the stream ends, and
// in order.
func TestAStreamOfEventsFailsInOrder(t *testing.T) {
	for _, after := range []int{0, 1} {
		_, s := eventServer(t, func(_ context.Context, _ *Call, out *EventStream) error {
			for range after {
				out.Beat("1")
				if err := out.Flush(); err != nil {
					return err
				}
			}
			return fault.New(fault.Gone, "too late")
		})
		res, _ := open(t, s, "a")
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != []int{410, 200}[after] || strings.Contains(string(body), "too late") != (after == 0) {
			t.Errorf("after %d: %d %s, %v", after, res.StatusCode, body, err)
		}
	}
}

func TestStreamsEndWhenTheServerCloses(t *testing.T) {
	m, s := eventServer(t, waits)
	var all []*http.Response
	for range 3 {
		res, _ := open(t, s, "a")
		all = append(all, res)
	}
	if m.Streams() != 3 {
		t.Errorf("%d streams", m.Streams())
	}
	m.EndStreams()
	for _, res := range all {
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Error(err)
		}
	}
	if res, _ := open(t, s, "a"); res.StatusCode != 503 {
		t.Errorf("another one: %d", res.StatusCode)
	}
	if m.Streams() != 0 {
		t.Errorf("%d streams are left", m.Streams())
	}
}

func TestAClientThatLeavesEndsItsStreamAlone(t *testing.T) {
	ended := make(chan string, 2)
	_, s := eventServer(t, func(ctx context.Context, c *Call, out *EventStream) error {
		defer func() { ended <- c.Principal.ID }()
		return waits(ctx, c, out)
	})
	_, leave := open(t, s, "a")
	stays, _ := open(t, s, "b")
	leave()
	if who := <-ended; who != "a" {
		t.Errorf("%s has left", who)
	}
	if _, err := bufio.NewReader(stays.Body).ReadString('\n'); err != nil {
		t.Error(err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	var s streams
	next := 0
	begin := func(org, id string, n int) (err error) {
		for range n {
			if next++; err == nil {
				err = s.begin(new(EventStream), access.Principal{OrgID: org, ID: id}, func() {})
			}
		}
		return err
	}
	check := func(what string, err error, want fault.Code) {
		t.Helper()
		if (err == nil) != (want == "") || err != nil && (!errors.Is(err, want) || fault.Of(err).RetryAfter == 0) {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("as many as one may", begin("o", "a", maxOwn), "")
	check("one more", begin("o", "a", 1), fault.TooMany)
	check("another's", begin("o", "b", 1), "")
	for i := 0; len(s.all) < maxStreams/2; i++ {
		check("as many as an org may", begin("o", string(rune('c'+i)), min(maxOwn, maxStreams/2-len(s.all))), "")
	}
	check("one more of the org", begin("o", "z", 1), fault.Unavailable)
	check("another org's", begin("p", "a", maxOwn), "")
	for e := range s.all {
		s.end(e, access.Principal{OrgID: "o", ID: "a"})
		break
	}
	if s.of[who{org: "o", id: "a"}] != maxOwn-1 {
		t.Error("one that ended is counted")
	}
}

func TestNothingIsLeftOfAStream(t *testing.T) {
	m, s := eventServer(t, waits)
	res, leave := open(t, s, "a")
	if _, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	leave()
	s.Close() // waits for the handler
	if m.Streams() != 0 || len(m.streams.of) != 0 || len(m.streams.orgs) != 0 {
		t.Errorf("%+v", m.streams.of)
	}
}

// A stream asks anew who calls, with all that the call was let in with.
func TestAStreamAsksAgainWhoCalls(t *testing.T) {
	var dead, forged atomic.Bool
	row := Row{Keys: true, Handler: Empty(func(ctx context.Context, c *Call) error {
		first := c.Principal
		if p, err := c.Again(ctx); err != nil || p != first {
			t.Errorf("again: %+v, %v; want %+v", p, err, first)
		}
		forged.Store(true)
		if _, err := c.Again(ctx); first.Kind == access.EndUser && !errors.Is(err, fault.Forbidden) {
			t.Errorf("with a signature that is none any more: %v", err)
		}
		dead.Store(true)
		_, err := c.Again(ctx)
		return err
	})}
	for _, kind := range []access.Kind{access.User, access.OrgKey} {
		dead.Store(false)
		forged.Store(false)
		w := answered(row, func(cfg *Config) {
			cfg.Authenticate = func(context.Context, string) (access.Principal, error) {
				if dead.Load() {
					return access.Principal{}, fault.New(fault.Unauthenticated, "revoked")
				}
				return access.Principal{Kind: kind, ID: "k", OrgID: "o"}, nil
			}
			cfg.EndUsers = func(_ context.Context, key access.Principal, _, _, _ string) (access.Principal, error) {
				if forged.Load() {
					return access.Principal{}, fault.New(fault.Forbidden, "no")
				}
				key.Kind = access.EndUser
				return key, nil
			}
		}, "")
		checkProblem(t, w, 401, "revoked")
	}
}

func TestAStreamKeepsNoRoomWhileItWaits(t *testing.T) {
	var buf *bytes.Buffer
	w := answered(Row{Who: Public, Handler: Events(func(_ context.Context, _ *Call, out *EventStream) error {
		buf = &out.buf
		out.Add("1", "created", []byte(strings.Repeat("x", 1<<20)))
		return out.Flush()
	})}, nil, "")
	if w.Body.Len() < 1<<20 || buf.Cap() > firstBuffer {
		t.Errorf("%d bytes went out; it keeps %d", w.Body.Len(), buf.Cap())
	}
}
