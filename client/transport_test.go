package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
)

// fake answers each request with the next of its answers; the last one stays.
type fake struct {
	answers []any // *http.Response, as answer makes it, or error
	calls   []*http.Request
	bodies  []string
}

func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
	}
	f.calls, f.bodies = append(f.calls, r), append(f.bodies, body)
	next := f.answers[0]
	if len(f.answers) > 1 {
		f.answers = f.answers[1:]
	}
	if err, ok := next.(error); ok {
		return nil, err
	}
	return next.(*http.Response), nil
}

func answer(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

// newFake returns a client of f, and the pauses that it makes.
func newFake(t *testing.T, f *fake) (*Client, *[]time.Duration) {
	t.Helper()
	c, err := New("http://keyfold.test/base/", "1ck_canary-api-key", WithTransport(f))
	if err != nil {
		t.Fatal(err)
	}
	c.threads["t"] = "" // under no key
	var pauses []time.Duration
	c.wait = func(_ context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		return nil
	}
	return c, &pauses
}

var (
	refused = &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	reset   = &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
)

func TestOnlyWhatIsSafeIsSentAgain(t *testing.T) {
	get := func(c *Client) error { _, err := c.ListVaults(t.Context()); return err }
	post := func(c *Client) error { _, err := c.CreateVault(t.Context(), api.CreateVault{}); return err }
	value := func(c *Client) error { _, err := c.Get(t.Context(), "v", "a"); return err }
	version := func(c *Client) error { _, err := c.GetVersion(t.Context(), "v", "a", 1); return err }
	del := func(c *Client) error { return c.DeleteVault(t.Context(), "v") }
	signIn := func(c *Client) error {
		_, err := c.SignIn(t.Context(), "a@example.com", "p")
		return err
	}
	unavailable, limited := func() any { return answer(503, "{}") }, func() any { return answer(429, "{}", "Retry-After", "7") }
	for name, row := range map[string]struct {
		call  func(*Client) error
		fails any
		calls int
	}{
		"a read after 503":                 {get, unavailable(), 2},
		"a read after 502":                 {get, answer(502, "<html>"), 2},
		"a read after 504":                 {get, answer(504, "<html>"), 2},
		"a read after a reset":             {get, reset, 2},
		"a read after a cut-off answer":    {get, io.ErrUnexpectedEOF, 2},
		"a read that never left":           {get, refused, 2},
		"a read after 429":                 {get, limited(), 2},
		"a read after 500":                 {get, answer(500, "{}"), 1},
		"a read after 404":                 {get, answer(404, "{}"), 1},
		"a read over a broken certificate": {get, errors.New("tls: bad certificate"), 1},
		"a value that was never asked for": {value, refused, 2},
		"a value after a reset":            {value, reset, 1},
		"a value after a cut-off answer":   {value, io.ErrUnexpectedEOF, 1},
		"a value after 503":                {value, unavailable(), 1},
		"a value after 502":                {value, answer(502, "<html>"), 1},
		"a value after 429":                {value, limited(), 2},
		"a version after a reset":          {version, reset, 1},
		"a write that never left":          {post, refused, 2},
		"a write after 429":                {post, limited(), 2},
		"a write after 503":                {post, unavailable(), 2},
		"a write after 502":                {post, answer(502, "<html>"), 2},
		"a write after 504":                {post, answer(504, "<html>"), 2},
		"a write after a reset":            {post, reset, 2},
		"a write after a cut-off answer":   {post, io.EOF, 2},
		"a deletion after a reset":         {del, reset, 2},
		"a write after 500":                {post, answer(500, "{}"), 1},
		"a write after 409":                {post, answer(409, `{"type":"cmek_rotating"}`), 1},
		"a write that is under way":        {post, answer(409, `{"type":"idempotency_in_progress"}`, "Retry-After", "1"), 2},
		"a sign-in after a reset":          {signIn, reset, 1},
		"a deletion after 503":             {del, unavailable(), 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{answers: []any{row.fails, answer(200, "{}")}}
			c, _ := newFake(t, f)
			err := row.call(c)
			if len(f.calls) != row.calls {
				t.Errorf("sent %d times, want %d", len(f.calls), row.calls)
			}
			if keys := keysOf(f); len(keys) > 1 && keys[0] != keys[1] || f.calls[0].Method != "GET" && (keys[0] == "") != (name == "a sign-in after a reset") {
				t.Errorf("with keys %q", keys)
			}
			if (err == nil) != (row.calls == 2) {
				t.Errorf("answered %v", err)
			}
		})
	}
}

func keysOf(f *fake) (keys []string) {
	for _, c := range f.calls {
		keys = append(keys, c.Header.Get(api.HeaderIdempotencyKey))
	}
	return keys
}

// A server that hangs up on a kept connection, as after a restart: net/http
// would make a GET again by itself.
func TestAValueIsNotAskedForTwiceOverAKeptConnection(t *testing.T) {
	var reads atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/secrets/") {
			io.WriteString(w, "{}")
			return
		}
		if r.ContentLength != 0 || r.TransferEncoding != nil {
			t.Errorf("a GET carried a body: %d, %v", r.ContentLength, r.TransferEncoding)
		}
		reads.Add(1)
		panic(http.ErrAbortHandler)
	}))
	defer s.Close()
	c, err := New(s.URL, "k")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ListVaults(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "v", "a"); err == nil || reads.Load() != 1 {
		t.Errorf("asked %d times: %v", reads.Load(), err)
	}
}

func TestTriesAndPausesHaveAnEnd(t *testing.T) {
	f := &fake{answers: []any{refused}}
	c, pauses := newFake(t, f)
	if _, err := c.ListVaults(t.Context()); !errors.Is(err, refused) {
		t.Errorf("answered %v", err)
	}
	if len(f.calls) != maxTries || len(*pauses) != maxTries-1 {
		t.Fatalf("%d calls, pauses %v", len(f.calls), *pauses)
	}
	for i, d := range *pauses {
		if base := firstPause << i; d < base/2 || d >= base*3/2 {
			t.Errorf("pause %d is %v", i, d)
		}
	}
}

func TestRetryAfterIsObeyedWithinReason(t *testing.T) {
	f := &fake{answers: []any{answer(503, "{}", "Retry-After", "7"), answer(200, "{}")}}
	c, pauses := newFake(t, f)
	if _, err := c.ListVaults(t.Context()); err != nil || !cmp.Equal(*pauses, []time.Duration{7 * time.Second}) {
		t.Errorf("%v, pauses %v", err, *pauses)
	}
	f = &fake{answers: []any{answer(503, "{}", "Retry-After", "3600")}}
	c, pauses = newFake(t, f)
	_, err := c.ListVaults(t.Context())
	if e, ok := errors.AsType[*Error](err); !ok || e.RetryAfter != time.Hour || len(*pauses) != 0 {
		t.Errorf("%v, pauses %v", err, *pauses)
	}
}

func TestAPauseEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("answered %v", err)
	}
	f := &fake{answers: []any{answer(503, "{}")}}
	c, _ := newFake(t, f)
	c.wait = func(ctx context.Context, _ time.Duration) error { return context.Canceled }
	if _, err := c.ListVaults(t.Context()); !IsUnavailable(err) || len(f.calls) != 1 {
		t.Errorf("answered %v after %d calls", err, len(f.calls))
	}
}

func TestAProblemBecomesAnError(t *testing.T) {
	body := `{"type":"cmek_key_mismatch","title":"Conflict","status":409,"detail":"another key","request_id":"body-id"}`
	f := &fake{answers: []any{answer(409, body, "X-Request-Id", "r1", "Retry-After", "1")}}
	c, _ := newFake(t, f)
	_, err := c.CreateVault(t.Context(), api.CreateVault{})
	got, ok := errors.AsType[*Error](err)
	want := &Error{Status: 409, Type: api.ProblemCMEKKeyMismatch, Detail: "another key", RequestID: "r1", RetryAfter: time.Second}
	if !ok || !cmp.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	if !IsConflict(err) || IsNotFound(err) || !contradicts(err) || err.Error() != "another key (HTTP 409, request r1)" {
		t.Errorf("got %v", err)
	}
}

func TestAnAnswerThatIsNoProblemIsNotQuoted(t *testing.T) {
	for _, body := range []string{"<html>canary</html>", "", `{"detail":""}`, `[1]`, "canary"} {
		f := &fake{answers: []any{answer(502, body)}}
		c, _ := newFake(t, f)
		_, err := c.ListVaults(t.Context())
		if statusOf(err) != 502 || strings.Contains(err.Error(), "canary") || err.Error() == "" {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestADetailCannotSteerATerminal(t *testing.T) {
	f := &fake{answers: []any{answer(400, `{"detail":"\u001b[2Jgone\r\n\u0007`+strings.Repeat("x", 9000)+`"}`)}}
	c, _ := newFake(t, f)
	_, err := c.ListVaults(t.Context())
	if strings.ContainsAny(err.Error(), "\x1b\r\n\a") || len(err.Error()) > maxDetail+100 {
		t.Errorf("%q", err.Error())
	}
}

func TestASuccessThatIsNotJSONIsAnErrorWithoutItsBody(t *testing.T) {
	for _, body := range []string{"<html>canary</html>", `{"value":canary}`, ""} {
		f := &fake{answers: []any{answer(200, body)}}
		c, _ := newFake(t, f)
		if _, err := c.Get(t.Context(), "v", "a"); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	f := &fake{answers: []any{answer(307, "", "Location", "http://elsewhere.test/")}}
	c, _ := newFake(t, f)
	if _, err := c.CreateVault(t.Context(), api.CreateVault{}); statusOf(err) != 307 || len(f.calls) != 1 {
		t.Errorf("answered %v after %d calls", err, len(f.calls))
	}
}

func TestAnAnswerWithoutEndIsCutOff(t *testing.T) {
	endless := answer(200, "")
	endless.Body = io.NopCloser(zeros{})
	f := &fake{answers: []any{endless}}
	c, _ := newFake(t, f)
	c.maxAnswer = 1000
	if _, err := c.ListVaults(t.Context()); !errors.Is(err, errTooLong) || len(f.calls) != 1 {
		t.Errorf("answered %v", err)
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestARequestIsWhatTheWireSays(t *testing.T) {
	f := &fake{answers: []any{answer(200, `{"id":"v","cmek_enabled":false}`), answer(201, "{}")}}
	c, _ := newFake(t, f)
	if _, err := c.Put(t.Context(), "v 1", "a/b c", []byte("<&>"), PutOptions{IfMatch: 3}); err != nil {
		t.Fatal(err)
	}
	r := f.calls[1]
	if r.Method != "PUT" || r.URL.EscapedPath() != "/base/v1/vaults/v%201/secrets/a/b%20c" {
		t.Errorf("sent %s %s", r.Method, r.URL.EscapedPath())
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer 1ck_canary-api-key", "Content-Type": "application/json",
		"If-Match": `"3"`, "User-Agent": "keyfold-go/1", api.HeaderCMEKFingerprint: "",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if f.bodies[1] != `{"value":"<&>"}`+"\n" {
		t.Errorf("body %q", f.bodies[1])
	}
	if f.bodies[0] != "" || f.calls[0].Header.Get("Content-Type") != "" {
		t.Error("a GET carried a body")
	}
}

func TestAnIDThatWouldChangeTheCallIsNotSent(t *testing.T) {
	for _, id := range []string{"", ".", ".."} {
		f := &fake{answers: []any{answer(200, "{}")}}
		c, _ := newFake(t, f)
		_, err1 := c.GetVault(t.Context(), id)
		_, err2 := c.Get(t.Context(), "v", "a/"+id+"/b")
		_, err3 := c.List(t.Context(), id, "")
		_, err4 := c.GetMessage(t.Context(), "t", id)
		err5 := c.DeleteVault(t.Context(), id)
		if err1 == nil || err2 == nil || err3 == nil || err4 == nil || err5 == nil || len(f.calls) != 0 {
			t.Errorf("%q was sent %d times", id, len(f.calls))
		}
	}
}

func TestABadURLOrKeyIsRefusedAndNotQuoted(t *testing.T) {
	for _, url := range []string{"", "localhost:7420", "ftp://x", "http://", "http://u:canary@x", "http://x?a=canary", "http://x#canary", "http://x\x00canary"} {
		if _, err := New(url, "k"); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, key := range []string{"canary\n", "canary key", "canary\x00", "canaryé"} {
		if _, err := New("http://x", key); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestAServerThatRepeatsItselfEndsAnIteration(t *testing.T) {
	page := func(body string) *http.Response { return answer(200, body) }
	messages := `{"messages":[` + strings.TrimSuffix(strings.Repeat(`{"id":"1"},`, pageSize), ",") + `]}`
	f := &fake{answers: []any{page(`{"messages":[]}`), page(messages), page(messages)}}
	c, _ := newFake(t, f)
	if err := last(c.Messages(t.Context(), "t", "")); !errors.Is(err, errNoProgress) {
		t.Errorf("messages: %v", err)
	}
	f = &fake{answers: []any{page(`{"threads":[{}],"next_cursor":"a"}`), page(`{"threads":[{}],"next_cursor":"a"}`)}}
	c, _ = newFake(t, f)
	if err := last(c.Threads(t.Context(), ThreadQuery{})); !errors.Is(err, errNoProgress) {
		t.Errorf("threads: %v", err)
	}
}

// last is the error that ends an iteration, if any does within a thousand steps.
func last[T any](seq iter.Seq2[T, error]) error {
	n := 0
	for _, err := range seq {
		if n++; err != nil || n > 1000 {
			return err
		}
	}
	return nil
}

// The server does requests with one Idempotency-Key once.
func TestAPostAndAnEditAreMadeAgainUnderTheSameIdempotencyKey(t *testing.T) {
	for name, call := range map[string]func(*Client) (api.Message, error){
		"post": func(c *Client) (api.Message, error) {
			return c.PostMessage(t.Context(), "t", api.PostMessage{Body: []byte("1")})
		},
		"edit": func(c *Client) (api.Message, error) {
			return c.EditMessage(t.Context(), "t", "m", api.EditMessage{Body: []byte("1")})
		},
	} {
		f := &fake{answers: []any{reset, answer(503, `{}`), answer(504, ``), answer(200, `{"id":"m"}`), answer(200, `{"id":"m"}`)}}
		c, _ := newFake(t, f)
		for range 2 {
			if m, err := call(c); err != nil || m.ID != "m" {
				t.Fatal(name, m, err)
			}
		}
		keys := map[string]int{}
		for _, r := range f.calls {
			keys[r.Header.Get("Idempotency-Key")]++
		}
		first := f.calls[0].Header.Get("Idempotency-Key")
		if len(f.calls) != 5 || len(keys) != 2 || keys[first] != 4 || len(first) < 20 {
			t.Errorf("%s: %d calls, keys %v", name, len(f.calls), keys)
		}
		f = &fake{answers: []any{reset}}
		c, _ = newFake(t, f)
		if _, err := call(c); err == nil || len(f.calls) != maxTries {
			t.Errorf("%s, without end: %v, %d calls", name, err, len(f.calls))
		}
	}
}
