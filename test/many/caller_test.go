package many

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyfold/keyfold/api"
)

// attempt is how long a caller waits for one server before it asks another.
const attempt = 2 * time.Second

// giveUp is how long a caller tries. It is far more than any outage; a call that
// runs into it fails the test (waits.check).
const giveUp = time.Minute

// caller is a client behind a load balancer that knows nothing: it asks any server,
// and when that one does not answer, or says that it cannot just now, the next one,
// with the same Idempotency-Key.
type caller struct {
	urls  []string
	token string
	http  *http.Client
	waits *waits
}

// waits is how long calls took, each with the moment of its beginning.
type waits struct {
	mu         sync.Mutex
	all        []span   // in the order of their ends
	unanswered []string // calls that a caller gave up
}

// span is one call, from its first attempt to its answer.
type span struct{ began, ended time.Time }

func (w *waits) add(s span) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, s)
}

func (w *waits) gaveUp(call, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unanswered = append(w.unanswered, call+": "+why)
}

// longest is the longest call that was under way at some moment of an event, and the
// longest time without an answer that began in it, however long after it both ended:
// ask when the callers have.
func (w *waits) longest(from, to time.Time) (call, silence time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := from
	for _, s := range w.all {
		if s.ended.Before(from) {
			continue
		}
		if s.began.Before(to) {
			call = max(call, s.ended.Sub(s.began))
		}
		if last.Before(to) {
			silence = max(silence, s.ended.Sub(last))
			last = s.ended
		}
	}
	return call, max(silence, to.Sub(last))
}

// check fails the test for calls that no server answered for as long as callers try.
func (w *waits) check(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.unanswered); n > 0 {
		t.Errorf("%d calls were not answered for %v, the first: %s", n, giveUp, w.unanswered[0])
	}
}

// outages is when events were, to be told when all is over.
type outages []outage

type outage struct {
	event    string
	from, to time.Time
}

func (o outages) tell(t *testing.T, w *waits) {
	for _, e := range o {
		call, silence := w.longest(e.from, e.to)
		t.Logf("%-55s longest call %5d ms, longest time without an answer %5d ms", e.event, call.Milliseconds(), silence.Milliseconds())
	}
}

func TestTheLongestOutageOfAnEventEndsAfterIt(t *testing.T) {
	zero := time.Now()
	at := func(s int) time.Time { return zero.Add(time.Duration(s) * time.Second) }
	for name, c := range map[string]struct {
		all           []span
		call, silence int // seconds; the event is from 10 to 20
	}{
		"no calls at all":           {nil, 0, 10},
		"none after its beginning":  {[]span{{at(1), at(9)}}, 0, 10},
		"one over all of it":        {[]span{{at(8), at(9)}, {at(9), at(50)}}, 41, 40},
		"answers all the time":      {[]span{{at(9), at(11)}, {at(11), at(14)}, {at(14), at(18)}, {at(18), at(21)}, {at(30), at(60)}}, 4, 4},
		"one that ends long after":  {[]span{{at(9), at(11)}, {at(12), at(19)}, {at(19), at(45)}}, 26, 26},
		"what was over before":      {[]span{{at(0), at(9)}, {at(9), at(12)}, {at(12), at(20)}}, 8, 8},
		"what only began after it":  {[]span{{at(10), at(12)}, {at(12), at(19)}, {at(20), at(22)}, {at(22), at(60)}}, 7, 7},
		"one that others overtook":  {[]span{{at(11), at(12)}, {at(12), at(15)}, {at(10), at(18)}, {at(18), at(20)}}, 8, 3},
		"the silence at its middle": {[]span{{at(9), at(11)}, {at(11), at(19)}, {at(19), at(20)}}, 8, 8},
	} {
		w := &waits{all: c.all}
		call, silence := w.longest(at(10), at(20))
		if call != time.Duration(c.call)*time.Second || silence != time.Duration(c.silence)*time.Second {
			t.Errorf("%s: longest call %v, longest silence %v, want %d s and %d s", name, call, silence, c.call, c.silence)
		}
	}
}

func newCaller(urls []string, token string, w *waits) *caller {
	dialer := net.Dialer{Timeout: attempt}
	return &caller{urls: urls, token: token, waits: w, http: &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second},
	}}
}

// answer is what a call came to. A status of 0 says that no server gave one: it is
// not known whether the call took effect.
type answer struct {
	span
	status      int
	text        string
	fingerprint string // of the key that the value is sealed with; "": it is in clear
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// lost reports whether the server knows the call to have been begun, and not how it ended.
func (a answer) lost() bool {
	return a.status == 0 || a.status == http.StatusConflict && strings.Contains(a.text, "answer_lost")
}

// call makes a call until some server answers it.
func (c *caller) call(ctx context.Context, method, path, body string, header ...string) answer {
	a := answer{span: span{began: time.Now()}}
	key := ""
	if method != http.MethodGet {
		key = uuid.NewString()
	}
	at := rand.IntN(len(c.urls))
	for try := 0; time.Since(a.began) < giveUp && ctx.Err() == nil; try++ {
		got, err := c.once(ctx, method, c.urls[(at+try)%len(c.urls)]+path, body, key, header)
		if err == nil && !passing(got.status, got.text) {
			got.span = span{a.began, time.Now()}
			if got.ok() {
				c.waits.add(got.span)
			}
			return got
		}
		if err != nil {
			a.text = err.Error()
		} else {
			a.text = fmt.Sprint(got.status, " ", got.text)
		}
		time.Sleep(20 * time.Millisecond)
	}
	a.ended = time.Now()
	if ctx.Err() == nil {
		c.waits.gaveUp(method+" "+path, a.text)
	}
	return a
}

// passing reports whether an answer says to come again.
func passing(status int, text string) bool {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return true
	}
	return status == http.StatusConflict && strings.Contains(text, "idempotency_in_progress")
}

func (c *caller) once(ctx context.Context, method, url, body, key string, header []string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(res.Body)
	return answer{status: res.StatusCode, text: string(text), fingerprint: res.Header.Get(api.HeaderCMEKFingerprint)}, errors.Join(err, res.Body.Close())
}
