package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/keyfoldtest"
)

const (
	scrape      = "GET /admin/debug/prometheus"
	scrapeToken = "scrape-canary-5b1fe07c9d6a4483b2"
)

// withScrapeToken lets whoever shows scrapeToken read the metrics.
func withScrapeToken() keyfoldtest.Option {
	return keyfoldtest.Configure(func(cfg *allinone.Config) {
		sum := sha256.Sum256([]byte(scrapeToken))
		cfg.Scrape = &sum
	})
}

// mustNotHoldToken looks for the token, and for what stands for it in the memory.
func (w *world) mustNotHoldToken(texts ...string) {
	w.t.Helper()
	sum := sha256.Sum256([]byte(scrapeToken))
	secrets := []string{scrapeToken, string(sum[:]), hex.EncodeToString(sum[:])}
	w.MustNotHold(w.t, secrets...)
	for _, text := range texts {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				w.t.Errorf("%q is in %s", secret, text)
			}
		}
	}
}

// On every other route it is refused to the letter as a key that nobody has.
func TestTheScrapeTokenOpensTheMetricsAndNothingElse(t *testing.T) {
	w := newWorld(t, withScrapeToken())
	w.admin = w.newAdmin()
	things := w.things()
	answer := func(call, body string, header ...string) string {
		a := w.do(scenario{key: "-", call: call, body: body, header: append(header, "X-Request-Id", "same"), status: 401, headers: []string{"Www-Authenticate: Bearer"}})
		return a.body
	}
	opened := 0
	w.unchanged(func() {
		for _, row := range private() {
			call := row.Method + " " + things.Replace(row.Pattern)
			if call == scrape {
				opened++
				continue
			}
			unknown := answer(call, goodBody(row), "Authorization", "Bearer 1ck_"+strings.Repeat("A", 43))
			for _, header := range [][]string{{"Authorization", "Bearer " + scrapeToken}, {"X-API-Key", scrapeToken}} {
				if got := answer(call, goodBody(row), header...); got != unknown {
					t.Errorf("%s is answered %s, and a key that nobody has %s", call, got, unknown)
				}
			}
			w.mustNotHoldToken(unknown)
		}
		for _, token := range []string{"", scrapeToken[:31], scrapeToken + "0", strings.ToUpper(scrapeToken), scrapeToken + " " + scrapeToken} {
			w.do(scenario{key: "-", call: scrape, header: []string{"Authorization", "Bearer " + token}, status: 401})
		}
		w.do(scenario{key: "-", call: scrape, header: []string{"Authorization", "Basic " + scrapeToken}, status: 401})
		w.do(scenario{key: "-", call: scrape + "?access_token=" + scrapeToken, status: 401})
	})
	if opened != 1 {
		t.Fatalf("%d rows show metrics", opened)
	}
	w.do(scenario{call: scrape, status: 403, want: []string{"this needs an admin key"}})
	for _, key := range []string{scrapeToken, w.admin} {
		text := w.text(key, "/admin/debug/prometheus")
		if !strings.Contains(text, "keyfold_http_requests_total{") {
			t.Errorf("the metrics lack what they are for: %s", text)
		}
		w.mustNotHoldToken(text)
	}
	if line := `"principal":"scraper:metrics"`; !strings.Contains(w.Log(), line) {
		t.Errorf("the log lacks %s", line)
	}
	other := newWorld(t)
	other.do(scenario{key: scrapeToken, call: scrape, status: 401})
}

// asked is the answer to a call with a bearer, "" for none, whatever it is.
func (w *world) asked(call, bearer string) answer {
	w.t.Helper()
	method, path, _ := strings.Cut(call, " ")
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, w.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

// awayStore is a store that can be away.
type awayStore struct {
	store.Store
	away atomic.Pointer[func(context.Context) error] // nil: it is there
}

// ways to be away: what a call comes to.
func failing(context.Context) error {
	return fault.New(fault.Unavailable, "the store does not answer; try again")
}

func hanging(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (s *awayStore) be(away func(context.Context) error) { s.away.Store(&away) }

func (s *awayStore) here(ctx context.Context) error {
	if away := s.away.Load(); away != nil && *away != nil {
		return (*away)(ctx)
	}
	return nil
}

func (s *awayStore) Get(ctx context.Context, key string) (store.Record, error) {
	if err := s.here(ctx); err != nil {
		return store.Record{}, err
	}
	return s.Store.Get(ctx, key)
}

func (s *awayStore) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	if err := s.here(ctx); err != nil {
		return nil, err
	}
	return s.Store.Scan(ctx, r, opt)
}

func (s *awayStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if err := s.here(ctx); err != nil {
		return 0, err
	}
	return s.Store.Commit(ctx, b)
}

// A whole server over a store that fails, hangs until a call's time is up, or hangs
// whatever its callers say. The failure is in the metrics that are read meanwhile.
func TestAScrapeIsAnsweredWhileTheStoreIsAway(t *testing.T) {
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	stuck := func(context.Context) error { <-held; return errors.New("it was stuck") }
	for name, c := range map[string]struct {
		away  func(context.Context) error
		tells bool // calls of the store end, so that they are counted
	}{"it fails": {failing, true}, "it hangs": {hanging, true}, "it heeds no deadline": {stuck, false}} {
		t.Run(name, func(t *testing.T) {
			st := &awayStore{Store: memstore.New()}
			w := newWorld(t, withScrapeToken(), keyfoldtest.Configure(func(cfg *allinone.Config) { cfg.Parts.Store = st }))
			w.admin = w.newAdmin()
			a := w.do(scenario{key: w.admin, call: "POST /admin/encryption/rewrap", body: `{"threads":true}`, status: 202})
			w.ended(decode[api.Jobs](t, a).Jobs[0])
			shows := func(jobs bool) string {
				t.Helper()
				start := time.Now()
				a := w.asked(scrape, scrapeToken)
				if took := time.Since(start); a.status != 200 || took > 9*time.Second { // Prometheus waits for 10 s
					t.Fatalf("%d after %v: %s", a.status, took, a.body)
				}
				if got := strings.Contains(a.body, "\nkeyfold_jobs{"); got != jobs {
					t.Errorf("there are jobs: %v, want %v", got, jobs)
				}
				return a.body
			}
			none := `keyfold_store_operations_total{operation="get",outcome="error"} 0` + "\n"
			if !strings.Contains(shows(true), none) {
				t.Error("a store that is there has failed")
			}
			st.be(c.away)
			back := func() { st.be(nil); release() }
			defer back()
			if c.tells {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if _, err := w.Node().Store.Get(ctx, "x"); err == nil || errors.Is(err, store.ErrNotFound) {
					t.Errorf("the store is there: %v", err)
				}
			}
			text := shows(false)
			if c.tells && strings.Contains(text, none) {
				t.Errorf("nobody learns that the store is away: %s", none)
			}
			for _, line := range []string{`keyfold_store_operations_total{operation="get",outcome="error"} `, "keyfold_http_requests_in_flight 1\n", "keyfold_audit_waiting_records "} {
				if !strings.Contains(text, line) {
					t.Errorf("the metrics lack %s", line)
				}
			}
			if name == "it fails" {
				if a := w.asked(scrape, w.admin); a.status != 503 {
					t.Errorf("an admin key is taken without a look: %d %s", a.status, a.body)
				}
			}
			back()
			shows(true)
		})
	}
}
