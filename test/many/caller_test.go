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
	"time"

	"github.com/google/uuid"
)

// attempt is how long a caller waits for one server before it asks another.
const attempt = 2 * time.Second

// giveUp is how long a caller tries. It is far more than any outage; a call that
// runs into it fails the test.
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
	mu  sync.Mutex
	all []span
}

// span is one call, from its first attempt to its answer.
type span struct{ began, ended time.Time }

func (w *waits) add(s span) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, s)
}

// longest is the longest call that was under way at some moment of an event, and the
// longest time of it in which nothing was answered.
func (w *waits) longest(from, to time.Time) (call, silence time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := from
	for _, s := range w.all { // in the order of their ends
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
	return call, silence
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
	status int
	text   string
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
		status, text, err := c.once(ctx, method, c.urls[(at+try)%len(c.urls)]+path, body, key, header)
		if err == nil && !passing(status, text) {
			a.status, a.text, a.ended = status, text, time.Now()
			if a.ok() {
				c.waits.add(a.span)
			}
			return a
		}
		if err != nil {
			a.text = err.Error()
		} else {
			a.text = fmt.Sprint(status, " ", text)
		}
		time.Sleep(20 * time.Millisecond)
	}
	a.ended = time.Now()
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

func (c *caller) once(ctx context.Context, method, url, body, key string, header []string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
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
		return 0, "", err
	}
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), errors.Join(err, res.Body.Close())
}
