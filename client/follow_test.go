package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// streamOf is an answer with these blocks, which then ends.
func streamOf(blocks ...string) *http.Response {
	return answer(200, ": hello\nretry: 2500\n\n"+strings.Join(blocks, ""), "Content-Type", "text/event-stream")
}

// created is an event of a message whose ID is the event's.
func created(id int) string {
	return fmt.Sprintf("id: %020[1]d-000000\nevent: created\ndata: {\"thread\":\"t\",\ndata: \"message_id\":\"%[1]d\"}\n\n", id)
}

func beat(id int) string { return fmt.Sprintf(":\nid: %020d-000000\n\n", id) }

// followed is all that Follow yields until its error, and that.
func followed(ctx context.Context, c *Client, after string) (got []string, err error) {
	for e, err := range c.Follow(ctx, "t", after) {
		if err != nil {
			return got, err
		}
		got = append(got, e.Kind+" "+e.MessageID)
	}
	return got, nil
}

var gone = func() *http.Response { return answer(410, `{"detail":"too old"}`) }

func TestAFollowerGoesOnWhereItWas(t *testing.T) {
	f := &fake{answers: []any{
		streamOf(beat(5)),
		streamOf(created(7), created(9), "id: 10\nevent: cut"),
		reset,
		answer(503, `{}`, "Retry-After", "7"),
		streamOf(created(7), created(8), created(9), beat(11)),
		answer(502, "<html>"),
		streamOf(strings.ReplaceAll(created(12), "\n", "\r\n")),
		gone(),
	}}
	c, pauses := newFake(t, f)
	got, err := followed(t.Context(), c, "")
	if diff := cmp.Diff([]string{"created 7", "created 9", "created 8", "created 12"}, got); diff != "" || !IsGone(err) {
		t.Error(diff, err)
	}
	at := func(id int) string { return fmt.Sprintf("%020d-000000", id) }
	for i, want := range []string{"", at(5), at(9), at(9), at(9), at(11), at(11), at(12)} {
		if last := f.calls[i].Header.Get("Last-Event-ID"); last != want || f.calls[i].URL.Path != "/base/v1/threads/t/events" {
			t.Errorf("call %d goes on after %q, want %q: %s", i, last, want, f.calls[i].URL)
		}
	}
	for i, least := range []time.Duration{2500e6, 2500e6, 50e6, 7e9, 2500e6, 50e6, 2500e6} {
		if i >= len(*pauses) || (*pauses)[i] < least || (*pauses)[i] > least+maxPause {
			t.Errorf("pauses are %v", *pauses)
			break
		}
	}
}

func TestAFollowerEndsAtWhatTimeDoesNotMend(t *testing.T) {
	tooLong := streamOf("data: " + strings.Repeat("x", 2000))
	for name, row := range map[string]struct {
		answers []any
		calls   int
		want    func(error) bool
	}{
		"nobody":              {[]any{answer(401, "{}")}, 1, IsUnauthenticated},
		"one who may not":     {[]any{streamOf(created(1)), answer(403, "{}")}, 2, IsForbidden},
		"no thread":           {[]any{answer(404, "{}")}, 1, IsNotFound},
		"a damaged thread":    {[]any{streamOf(), answer(500, "{}")}, 2, func(err error) bool { return statusOf(err) == 500 }},
		"never a server":      {[]any{refused}, maxTries, func(err error) bool { return errors.Is(err, refused) }},
		"never ready":         {[]any{answer(503, "{}")}, maxTries, IsUnavailable},
		"no stream":           {[]any{answer(200, "{}", "Content-Type", "application/json")}, 1, func(err error) bool { return strings.Contains(err.Error(), "is it a Keyfold server") }},
		"no event of ours":    {[]any{streamOf("id: 1\nevent: created\ndata: canary\n\n")}, 1, func(err error) bool { return !strings.Contains(err.Error(), "canary") }},
		"an event too large":  {[]any{tooLong}, 1, func(err error) bool { return errors.Is(err, errTooLong) }},
		"events without ends": {[]any{streamOf(strings.Repeat("data: x\n", 1000))}, 1, func(err error) bool { return errors.Is(err, errTooLong) }},
	} {
		f := &fake{answers: row.answers}
		c, _ := newFake(t, f)
		c.maxAnswer = 1000
		if _, err := followed(t.Context(), c, "x"); err == nil || !row.want(err) || len(f.calls) != row.calls {
			t.Errorf("%s: %d calls, %v", name, len(f.calls), err)
		}
	}
}

func TestAFollowerThatWantsNoMoreLeaves(t *testing.T) {
	f := &fake{answers: []any{streamOf(created(1), created(2)), streamOf(created(1), created(2)), gone()}}
	c, _ := newFake(t, f)
	for _, err := range c.Follow(t.Context(), "t", "") {
		if err != nil {
			t.Error(err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for e, err := range c.Follow(ctx, "t", "") {
		if err == nil {
			cancel()
		} else if !errors.Is(err, context.Canceled) || e.ID != "" {
			t.Error(err)
		}
	}
	for _, err := range c.Follow(t.Context(), "..", "") {
		if err == nil {
			t.Error("a thread of dots")
		}
	}
}

// silent is a stream that says hello and nothing more.
type silent struct {
	ctx  context.Context
	text io.Reader
}

func (s silent) Read(p []byte) (int, error) {
	if n, err := s.text.Read(p); err == nil {
		return n, nil
	}
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func (s silent) Close() error { return nil }

type silentServer struct{ calls int }

func (s *silentServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.calls++; s.calls > 3 {
		return gone(), nil
	}
	a := streamOf()
	a.Body = silent{r.Context(), a.Body}
	return a, nil
}

func TestAStreamThatFallsSilentIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(silentServer)
		c, err := New("http://keyfold.test", "1ck_x", WithTransport(s))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := followed(t.Context(), c, ""); !IsGone(err) || s.calls != 4 {
			t.Errorf("%d calls, %v", s.calls, err)
		}
		if took := time.Since(start); took < 3*silence || took > 4*silence {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAFollowerRemembersNoMoreThanItMust(t *testing.T) {
	f := follower{seen: map[string]bool{}}
	for i := range 100_000 {
		f.see(fmt.Sprintf("%020d-000000", (1_000_000+i)*int(time.Second)))
	}
	if len(f.seen) > 300 || !f.seen[fmt.Sprintf("%020d-000000", 1_099_970*int(time.Second))] {
		t.Errorf("%d", len(f.seen))
	}
}
