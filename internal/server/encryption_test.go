package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/keyfoldtest"
)

func TestEncryptionThatWasOffIsSeenAndIsTurnedOn(t *testing.T) {
	w := newWorld(t, keyfoldtest.OnDisk(t.TempDir()), keyfoldtest.WithoutEncryption())
	w.admin = w.newAdmin()
	for _, path := range []string{"/v1/health", "/readyz"} {
		w.do(scenario{key: "-", call: "GET " + path, status: 200, want: []string{`"encryption":"off"`}})
	}
	w.do(scenario{key: "-", call: "GET /v1/health", status: 200, want: []string{`"status":"degraded"`}})
	if !strings.Contains(w.Log(), "encryption is off") {
		t.Error("the log does not say that encryption is off")
	}
	threads := []string{w.thread(), w.thread(), w.thread()}
	for _, thread := range threads {
		w.do(scenario{call: "POST " + thread + "/messages", body: `{"body":"` + canary + `"}`, status: 200, reads: true})
	}
	for _, call := range []string{`encrypt-existing {"all":true}`, `encrypt-threads {}`} {
		name, body, _ := strings.Cut(call, " ")
		w.do(scenario{key: w.admin, call: "POST /admin/encryption/" + name, body: body, status: 409, want: []string{"encryption on"}})
	}

	w.SetEncryption(true)
	w.Restart()
	w.do(scenario{key: "-", call: "GET /v1/health", status: 200, want: []string{`"status":"healthy"`}, forbid: []string{"encryption"}})
	id := strings.TrimPrefix(threads[0], "/v1/threads/")
	a := w.do(scenario{key: w.admin, call: "POST /admin/encryption/encrypt-existing", body: `{"thread_ids":["` + id + `","00000000-0000-0000-0000-000000000000","` + id + `"]}`, status: 200})
	got := decode[api.ThreadEncryptions](t, a)
	if one := got[id]; len(got) != 2 || one.Status == "error" || one.KeyID == "" || got["00000000-0000-0000-0000-000000000000"].Status != "error" {
		t.Errorf("of one that is there and one that is not: %s", a.body)
	}
	w.ended(api.Job{ID: strings.TrimPrefix(a.header.Get("Location"), "/admin/jobs/")})
	a = w.do(scenario{key: w.admin, call: "POST /admin/encryption/encrypt-existing", body: `{"thread_ids":["` + id + `"]}`, status: 200, headers: []string{"Location:"}})
	if want := fmt.Sprintf(`{%q:{"status":"ok","key_id":%q}}`, id, got[id].KeyID); strings.TrimSpace(a.body) != want {
		t.Errorf("of one that is encrypted: %s, want %s", a.body, want)
	}

	a = w.do(scenario{key: w.admin, call: "POST /admin/encryption/encrypt-threads", status: 200})
	all := decode[api.EncryptedThreads](t, a)
	if all.Summary != (api.EncryptionSummary{Total: 3, Success: 2, Skipped: 1}) || len(all.Results) != 2 || all.JobID == "" {
		t.Errorf("of all: %s", a.body)
	}
	if j := w.ended(api.Job{ID: all.JobID}); j.Status != "completed" || j.Failed != 0 {
		t.Errorf("the job ended as %+v", j)
	}
	w.do(scenario{key: w.admin, call: "POST /admin/encryption/encrypt-existing", body: `{"all":true}`, status: 200, want: []string{"{}"}})
	for _, thread := range threads {
		w.do(scenario{call: "GET " + thread + "/messages", status: 200, want: []string{canary}, reads: true})
	}
}

func TestABadEncryptExistingIsRefused(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	many := strings.Repeat(`"00000000-0000-0000-0000-000000000000",`, 1001)
	w.unchanged(func() {
		for _, body := range []string{`{}`, `{"all":false}`, `{"thread_ids":[]}`, `{"thread_ids":["x"],"all":true}`, `{"thread_ids":[` + strings.TrimSuffix(many, ",") + `]}`} {
			w.do(scenario{key: w.admin, call: "POST /admin/encryption/encrypt-existing", body: body, status: 400, want: []string{"thread_ids, at most 1000, or all"}})
		}
		for _, id := range []string{"x", "../job:", "00000000-0000-0000-0000-000000000000"} {
			w.do(scenario{key: w.admin, call: "POST /admin/encryption/encrypt-existing", body: `{"thread_ids":["` + id + `"]}`, status: 200, want: []string{`"error":"there is no such thread`}})
		}
		w.do(scenario{call: "POST /admin/encryption/encrypt-existing", body: `{"all":true}`, status: 403})
		w.do(scenario{key: "-", call: "POST /admin/encryption/encrypt-threads", body: `{}`, status: 401})
	})
}
