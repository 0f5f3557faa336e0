package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// stream is one who follows a thread.
type stream struct {
	t      *testing.T
	in     *bufio.Reader
	leave  context.CancelFunc
	status int
}

// event is a block of a stream; without data it is a heartbeat.
type event struct{ id, kind, data string }

func (w *world) follow(key, thread string, header ...string) *stream {
	w.t.Helper()
	ctx, leave := context.WithCancel(w.t.Context())
	w.t.Cleanup(leave)
	r, err := http.NewRequestWithContext(ctx, "GET", w.URL+"/v1/threads/"+thread+"/events", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { res.Body.Close() })
	s := &stream{w.t, bufio.NewReader(res.Body), leave, res.StatusCode}
	if res.StatusCode == 200 {
		if e, ok := s.next(); !ok || e != (event{}) {
			w.t.Errorf("it begins with %+v", e)
		}
	}
	return s
}

// next reads a block; ok is false at the end.
func (s *stream) next() (e event, ok bool) {
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return e, false
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "":
			if line == "\n" {
				return e, true
			}
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.data += value
		}
	}
}

// message is the next event, and its message.
func (s *stream) message() (event, *api.Message) {
	s.t.Helper()
	for {
		e, ok := s.next()
		if !ok {
			s.t.Fatal("the stream has ended")
		}
		if e.kind != "" {
			var data api.MessageEvent
			if err := json.Unmarshal([]byte(e.data), &data); err != nil {
				s.t.Fatal(err)
			}
			return e, data.Message
		}
	}
}

// ends reads to the end.
func (s *stream) ends(what string) {
	s.t.Helper()
	for {
		e, ok := s.next()
		if !ok {
			return
		}
		if e.kind != "" {
			s.t.Fatalf("%s: there is one more: %s", what, e.data)
		}
	}
}

func (w *world) newThread() string {
	w.t.Helper()
	return decode[api.Thread](w.t, w.do(scenario{call: "POST /v1/threads", body: `{"title":"t"}`, status: 200})).ID
}

func (w *world) say(thread, text string) string {
	w.t.Helper()
	a := w.do(scenario{call: "POST /v1/threads/" + thread + "/messages", body: fmt.Sprintf(`{"body":%q}`, text), status: 200, reads: true})
	return decode[api.Message](w.t, a).ID
}

func TestAThreadIsFollowedAndGoneOnWith(t *testing.T) {
	w := newWorld(t)
	th := w.newThread()
	s := w.follow(w.APIKey, th)
	beat, _ := s.next()
	a := w.say(th, "plain-"+canary)
	e, m := s.message()
	if e.kind != "created" || m.ID != a || string(m.Body) != `"plain-`+canary+`"` || beat.id == "" || beat.id > e.id {
		t.Errorf("%+v, %+v", e, m)
	}
	s.leave()
	b := w.say(th, "while away")
	w.say(th, "and more")
	for _, last := range []string{beat.id, e.id} {
		s := w.follow(w.APIKey, th, "Last-Event-ID", last)
		for _, want := range []string{a, b} { // the first once more
			if _, m := s.message(); m.ID != want {
				t.Errorf("%s, want %s", m.ID, want)
			}
		}
	}
	w.do(scenario{call: "GET /v1/threads/" + th + "/events?after=x", status: 400, want: []string{"Last-Event-ID"}})
	w.do(scenario{call: "GET /v1/threads/" + th + "/events", header: []string{"Last-Event-ID", ""}, status: 400})
	w.do(scenario{call: "GET /v1/threads/" + th + "/events?after=" + e.id, header: []string{"Last-Event-ID", "x"}, status: 400}) // which goes before
	w.Advance(25 * time.Hour)
	w.do(scenario{call: "GET /v1/threads/" + th + "/events?after=" + e.id, status: 410, want: []string{"list the messages"}})
}

// With a key that is revoked, a session that is over, a part that was taken away
// or a thread that is deleted, the next thing that happens is not sent.
func TestAStreamEndsWithTheRightToIt(t *testing.T) {
	w := newWorld(t)
	key := w.do(scenario{call: "POST /v1/auth/api-keys", body: `{"name":"n"}`, status: 201})
	second := decode[api.APIKeyCreated](t, key)
	session := decode[api.Token](t, w.do(scenario{key: "-", call: "POST /v1/auth/api-key-token", body: `{"api_key":"` + w.APIKey + `"}`, status: 200})).AccessToken
	mates := func(th string) string { return "/v1/threads/" + th + "/participants/" + w.mateID() }
	for _, c := range []struct {
		what, key string
		end       func(thread string)
		status    int // of who comes again
	}{
		{"a thread that is deleted", w.APIKey, func(th string) { w.do(scenario{call: "DELETE /v1/threads/" + th, status: 204}) }, 404},
		{"a participant's of a thread that is deleted", w.mate, func(th string) { w.do(scenario{call: "DELETE /v1/threads/" + th, status: 204}) }, 404},
		{"a participant who is removed", w.mate, func(th string) {
			w.do(scenario{call: "DELETE " + mates(th), status: 204})
			w.say(th, canary)
		}, 403},
		{"a participant who leaves", w.mate, func(th string) {
			w.do(scenario{key: w.mate, call: "DELETE " + mates(th), status: 204})
			w.say(th, canary)
		}, 403},
		{"a revoked key", second.APIKey, func(th string) {
			w.do(scenario{call: "DELETE /v1/auth/api-keys/" + second.Key.ID, status: 204})
			w.say(th, canary)
		}, 401},
		{"a session that is over", session, func(th string) {
			w.Advance(25 * time.Hour)
			w.say(th, canary)
		}, 401},
	} {
		th := w.newThread()
		w.do(scenario{call: "PUT " + mates(th), body: `{"part":"read"}`, status: 200})
		s := w.follow(c.key, th)
		w.say(th, "before")
		s.message()
		c.end(th)
		s.ends(c.what)
		if again := w.follow(c.key, th); again.status != c.status {
			t.Errorf("%s: it begins again: %d", c.what, again.status)
		}
	}
}

// Closing does not wait for those who follow, and tells them nothing.
func TestTheServerClosesAtOnceWhileThreadsAreFollowed(t *testing.T) {
	w := newWorld(t, keyfoldtest.OnDisk(t.TempDir()))
	th := w.newThread()
	var all []*stream
	for range 20 {
		all = append(all, w.follow(w.APIKey, th))
	}
	w.Restart() // which fails when a request is cut off
	for _, s := range all {
		s.ends("after the end")
	}
	if s := w.follow(w.APIKey, th); s.status != 200 {
		t.Errorf("afterwards: %d", s.status)
	}
}
