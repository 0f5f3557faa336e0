package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
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
	incomplete := func() {
		t.Helper()
		w.do(scenario{key: "-", call: "GET /v1/health", status: 200, want: []string{`"status":"degraded"`, `"encryption":"incomplete"`}})
		w.do(scenario{key: "-", call: "GET /readyz", status: 200, want: []string{`"encryption":"incomplete"`}})
	}
	incomplete()
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

	incomplete()
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
	for range 2 { // and after a restart
		w.do(scenario{key: "-", call: "GET /v1/health", status: 200, want: []string{`"status":"healthy"`}, forbid: []string{"encryption"}})
		w.forges(threads[1], 500)
		w.Restart()
	}
}

// A server that never stored anything in clear believes no record that says so. One
// that did reads on, until all is encrypted.
func TestWhoWritesToTheStoreCannotHaveAServerBelieveRowsInClear(t *testing.T) {
	w := newWorld(t, keyfoldtest.OnDisk(t.TempDir()))
	thread := w.thread()
	w.do(scenario{call: "POST " + thread + "/messages", body: `{"body":"said"}`, status: 200})
	w.forges(thread, 500)
	w.Restart()
	w.forges(thread, 500)

	w.SetEncryption(false)
	w.Restart()
	w.thread()
	w.SetEncryption(true)
	w.Restart()
	w.forges(thread, 200) // the control: it is believed while something may lie in clear
}

// forges writes a row in clear into a thread, and its record accordingly, and wants
// status from who reads it.
func (w *world) forges(thread string, status int) {
	w.t.Helper()
	thread = strings.TrimPrefix(thread, "/v1/threads/")
	rows, ctx := w.Node().Store, w.t.Context()
	rec, err := rows.Get(ctx, layout.ThreadMeta(thread))
	if err != nil {
		w.t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(rec.Value, &m); err != nil {
		w.t.Fatal(err)
	}
	m["plain"], m["kms"] = true, map[string]any{"key_id": "", "wrapped_dek": "", "kek_id": "", "kek_version": 0}
	delete(m, "moving")
	record, err := json.Marshal(m)
	if err != nil {
		w.t.Fatal(err)
	}
	id := layout.MessageID(1, 0)
	var b store.Batch
	b.Put(layout.ThreadMeta(thread), record)
	b.Put(layout.Message(thread, id), []byte(`{"id":"`+id+`","thread":"`+thread+`","author":"x","role":"user","ts":1,"body":"forged"}`))
	if _, err := rows.Commit(ctx, &b); err != nil {
		w.t.Fatal(err)
	}
	w.do(scenario{call: "GET /v1/threads/" + thread + "/messages/" + id, status: status, reads: true})
}

func TestABadEncryptExistingIsRefused(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	many := strings.Repeat(`"00000000-0000-0000-0000-000000000000",`, 1001)
	w.unchanged(func() {
		for body, want := range map[string]string{
			`{}`: "nothing to do: name thread_ids, at most 1000, or all", `{"all":false}`: "nothing to do", `{"thread_ids":[]}`: "nothing to do",
			`{"thread_ids":["x"],"all":true}`: "send one of them", `{"thread_ids":[` + strings.TrimSuffix(many, ",") + `]}`: "names 1001 threads, and a call takes 1000",
		} {
			for _, call := range []string{"encrypt-existing", "rewrap-deks"} {
				w.do(scenario{key: w.admin, call: "POST /admin/encryption/" + call, body: body, status: 400, want: []string{want}})
			}
		}
		for _, id := range []string{"x", "../job:", "00000000-0000-0000-0000-000000000000"} {
			w.do(scenario{key: w.admin, call: "POST /admin/encryption/encrypt-existing", body: `{"thread_ids":["` + id + `"]}`, status: 200, want: []string{`"error":"there is no such thread`}})
		}
		w.do(scenario{call: "POST /admin/encryption/encrypt-existing", body: `{"all":true}`, status: 403})
		w.do(scenario{key: "-", call: "POST /admin/encryption/encrypt-threads", body: `{}`, status: 401})
	})
}
