package server_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/server"
)

// ended waits for a job that was started to come to its end.
func (w *world) ended(j api.Job) api.Job {
	w.t.Helper()
	if _, err := w.Node().Jobs.Wait(context.Background(), j.ID); err != nil {
		w.t.Fatal(err)
	}
	a := w.do(scenario{key: w.admin, call: "GET /admin/jobs/" + j.ID, status: 200})
	return decode[api.Job](w.t, a)
}

func TestKEKsAreRotatedAndEverythingOpensAfter(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	vault, thread := w.vault(false), w.thread()
	w.do(scenario{call: "PUT " + vault + "/secrets/a", body: `{"value":"` + canary + `"}`, status: 201})
	w.do(scenario{call: "POST " + thread + "/messages", body: `{"body":"` + canary + `"}`, status: 200, reads: true})
	id := strings.TrimPrefix(vault, "/v1/vaults/")
	for _, c := range []struct {
		call, body string
		jobs       int
	}{
		{"rotate-kek", `{"vault_id":"` + id + `"}`, 1},
		{"rotate-kek", `{"threads":true}`, 1},
		{"rotate-kek", `{"all":true}`, 3},
		{"rewrap", `{"all":true}`, 3},
	} {
		a := w.do(scenario{key: w.admin, call: "POST /admin/encryption/" + c.call, body: c.body, status: 202})
		jobs := decode[api.Jobs](t, a).Jobs
		if len(jobs) != c.jobs || a.header.Get("Location") != "/admin/jobs/"+jobs[0].ID {
			t.Errorf("%s %s: %s", c.call, c.body, a.body)
		}
		for _, j := range jobs {
			if j = w.ended(j); j.Status != "completed" || j.Failed != 0 || j.Total == 0 || j.Processed != j.Total {
				t.Errorf("%s %s: %+v", c.call, c.body, j)
			}
		}
		w.do(scenario{call: "GET " + vault + "/secrets/a", status: 200, want: []string{canary}, reads: true})
		w.do(scenario{call: "GET " + thread + "/messages", status: 200, want: []string{canary}, reads: true})
	}
	w.do(scenario{key: w.admin, call: "GET /admin/jobs", status: 200, want: []string{"vault-rewrap", "thread-rewrap"}})
}

func TestARotationThatIsAskedForAgainIsTheOneThatRuns(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	w.thread()
	w.SetKMSDown(true)
	rotate := func(body string) string {
		a := w.do(scenario{key: w.admin, call: "POST /admin/encryption/rotate-kek", body: body, status: 202})
		return decode[api.Jobs](t, a).Jobs[0].ID
	}
	first := rotate(`{"threads":true}`)
	if again := rotate(`{"threads":true}`); again != first {
		t.Errorf("a second job %s beside %s", again, first)
	}
	other := decode[api.Jobs](t, w.do(scenario{key: w.admin, call: "POST /admin/encryption/rewrap", body: `{"threads":true}`, status: 202})).Jobs[0].ID
	if other == first {
		t.Error("a rewrap is answered with a rotation")
	}
	w.SetKMSDown(false)
	if j := w.ended(api.Job{ID: first}); j.Status != "completed" {
		t.Errorf("%+v", j)
	}
	if again := rotate(`{"threads":true}`); again == first {
		t.Error("a job that has ended is answered for a new one")
	}
}

func TestABadRotationIsRefused(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	w.unchanged(func() {
		for _, body := range []string{`{}`, `{"all":true,"threads":true}`, `{"vault_id":"x","all":true}`, `{"all":false}`} {
			w.do(scenario{key: w.admin, call: "POST /admin/encryption/rotate-kek", body: body, status: 400, want: []string{"vault_id, threads or all"}})
		}
		for _, id := range []string{"x", "00000000-0000-0000-0000-000000000000", "a:meta"} {
			w.do(scenario{key: w.admin, call: "POST /admin/encryption/rewrap", body: `{"vault_id":"` + id + `"}`, status: 404})
		}
		for _, id := range []string{"x", "../vault", "00000000-0000-0000-0000-000000000000"} {
			status := map[bool]int{true: 400, false: 404}[strings.Contains(id, "..")]
			w.do(scenario{key: w.admin, call: "GET /admin/jobs/" + id, status: status})
			w.do(scenario{key: w.admin, call: "DELETE /admin/jobs/" + id, status: status})
		}
	})
}

func TestMetricsShowJobsAndNoSecret(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	vault := w.vault(false)
	w.do(scenario{call: "PUT " + vault + "/secrets/a", body: `{"value":"` + canary + `"}`, status: 201})
	a := w.do(scenario{key: w.admin, call: "POST /admin/encryption/rotate-kek", body: `{"all":true}`, status: 202})
	for _, j := range decode[api.Jobs](t, a).Jobs {
		w.ended(j)
	}
	text := w.text(w.admin, "/admin/debug/prometheus")
	for _, want := range []string{`keyfold_jobs{kind="vault-rewrap",status="completed"} 1`, `keyfold_jobs{kind="thread-rewrap",status="completed"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}
	for _, forbidden := range []string{canary, w.APIKey, w.admin, w.Owner.ID} {
		if strings.Contains(text, forbidden) {
			t.Errorf("the metrics hold %q", forbidden)
		}
	}
}

// What a client says of itself and of what it wants is in no metric: neither IDs
// and paths, nor the credential, a query, a header, a method or a path that is none.
func TestMetricsOfRequestsHoldNothingOfARequest(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	vault := w.vault(false)
	const path = "db/very-secret-path-77b1"
	w.do(scenario{call: "PUT " + vault + "/secrets/" + path, body: `{"value":"` + canary + `"}`, status: 201})
	w.do(scenario{call: "GET " + vault + "/secrets/" + path, status: 200, reads: true})
	w.do(scenario{call: "GET " + vault + "/secrets?prefix=query-canary-51c0", status: 200})
	w.do(scenario{key: "-", call: "GET " + vault + "/secrets/" + path, status: 401})
	thread := w.thread()
	w.do(scenario{call: "POST " + thread + "/messages", body: `{"body":"` + canary + `"}`, header: []string{"X-Request-Id", "request-canary-90d2"}, status: 200, reads: true})
	w.do(scenario{call: "GET /nowhere-canary-3e11/x", status: 404})
	w.do(scenario{call: "GET /v1/vaults/%00", status: 400})
	w.do(scenario{call: "BREW-4c05 " + vault, status: 405})
	w.do(scenario{call: "BREW-4c05 /nowhere-canary-3e11", status: 404})

	text := w.text(w.admin, "/admin/debug/prometheus")
	for _, want := range []string{
		`keyfold_http_requests_total{code="201",method="PUT",route="/v1/vaults/{vault}/secrets/{path...}"} 1`,
		`keyfold_http_requests_total{code="401",method="GET",route="/v1/vaults/{vault}/secrets/{path...}"} 1`,
		`keyfold_http_requests_total{code="404",method="none",route="none"} 2`,
		`keyfold_http_requests_total{code="405",method="none",route="none"} 1`,
		`keyfold_http_request_duration_seconds_count{method="PUT",route="/v1/vaults/{vault}/secrets/{path...}"} 1`,
		"keyfold_http_requests_in_flight 1\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}
	for _, forbidden := range []string{
		canary, w.APIKey, w.mate, w.admin, w.Owner.ID, w.Owner.OrgID, path, "very-secret", "canary", "brew", "BREW",
		strings.TrimPrefix(vault, "/v1/vaults/"), strings.TrimPrefix(thread, "/v1/threads/"), "127.0.0.1",
	} {
		if strings.Contains(text, forbidden) {
			t.Errorf("the metrics hold %q", forbidden)
		}
	}
	routes := map[string]bool{"none": true}
	for _, row := range server.Rows() {
		routes[row.Pattern] = true
	}
	for _, m := range regexp.MustCompile(`keyfold_http_\w+\{[^}]*route="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if !routes[m[1]] {
			t.Errorf("%q is no route of the table", m[1])
		}
	}
}
