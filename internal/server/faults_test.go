package server_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
)

func TestWithoutTheKMSNothingIsStoredOrShown(t *testing.T) {
	w := newWorld(t)
	things := w.things()
	vault, thread := things.Replace("/v1/vaults/{vault}"), things.Replace("/v1/threads/{thread}")
	away := func(call, body string) scenario {
		return scenario{call: call, body: body, status: 503, want: []string{"try again"}, headers: []string{"Retry-After: 1"}}
	}
	w.SetKMSDown(true)
	w.unchanged(func() {
		for _, c := range []scenario{
			away("POST /v1/vaults", `{"name":"v"}`),
			away("PUT "+vault+"/secrets/a", `{"value":"`+canary+`"}`),
			away("POST "+vault+"/secret-rotate/db", ``),
			away("GET "+vault+"/secrets/db", ``),
			away("GET "+vault+"/secret-version/db/1", ``),
			away("POST /v1/threads", `{}`),
			away("POST "+thread+"/messages", `{"body":"`+canary+`"}`),
			away("GET "+thread+"/messages", ``),
			away("GET /readyz", ``),
			{call: "GET /v1/health", status: 200, want: []string{`"status":"degraded"`, `"version":"test"`}},
			{call: "GET /v1/health/hsm", status: 200, want: []string{`{"status":"unavailable"}`}},
			{call: "GET /healthz", status: 200, want: []string{`"status":"ok"`}},
			{call: "GET " + vault + "/secrets", status: 200, want: []string{`"path":"db"`}}, // needs no key
			{call: "PUT " + vault + "/secrets/a", body: `{}`, status: 400},                  // a mistake stays a mistake
		} {
			w.do(c)
		}
	})
	w.SetKMSDown(false)
	for _, c := range []scenario{
		{call: "GET /readyz", status: 200, want: []string{`{"status":"ok","version":"test"}`}},
		{call: "GET /v1/health", status: 200, want: []string{`{"status":"healthy","version":"test"}`}},
		{call: "GET /v1/health/hsm", status: 200, want: []string{`{"status":"ok"}`}},
		{call: "GET " + vault + "/secrets/db", status: 200, reads: true},
	} {
		w.do(c)
	}
}

// Whatever is flipped in what is stored, the answer is one clear error and no
// value, and the log names no value.
func TestFlippedBytesAreOneClearError(t *testing.T) {
	w := newWorld(t)
	things := w.things()
	for call, part := range map[string]string{
		"GET " + things.Replace("/v1/vaults/{vault}/secrets/db"):                ":version:db:",
		"GET " + things.Replace("/v1/threads/{thread}/messages/{message}"):      ":msg:",
		"GET " + things.Replace("/v1/threads/{thread}/messages"):                ":msg:",
		"GET " + things.Replace("/v1/vaults/{vault}"):                           things.Replace("/v1/vaults/{vault}")[len("/v1/vaults/"):] + ":meta",
		"GET " + things.Replace("/v1/vaults/{vault}/secret-versions/{path...}"): ":head:db/1",
	} {
		rec := w.row(part)
		for _, at := range []int{0, len(rec.Value) / 2, len(rec.Value) - 1} {
			flipped := bytes.Clone(rec.Value)
			flipped[at] ^= 0x01
			w.put(rec.Key, flipped)
			w.do(scenario{call: call, status: 500, want: []string{"restore"}, forbid: []string{"cipher", "tag", "nonce", "GCM"}})
		}
		w.put(rec.Key, rec.Value)
		w.do(scenario{call: call, status: 200, reads: true})
	}
	if !strings.Contains(w.Log(), `"level":"ERROR"`) {
		t.Error("the log has no line of level ERROR")
	}
}

// row is the first row whose key holds part.
func (w *world) row(part string) store.Record {
	w.t.Helper()
	for rec, err := range store.All(w.t.Context(), w.Node().Store, store.Range{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if strings.Contains(rec.Key, part) {
			return rec
		}
	}
	w.t.Fatalf("no row %q", part)
	return store.Record{}
}

func (w *world) put(key string, value []byte) {
	w.t.Helper()
	var b store.Batch
	b.Put(key, value)
	if _, err := w.Node().Store.Commit(w.t.Context(), &b); err != nil {
		w.t.Fatal(err)
	}
}

func TestALogLineIsWrittenPerCall(t *testing.T) {
	w := newWorld(t)
	v := w.vault(false)
	before := strings.Count(w.Log(), "\n")
	w.do(scenario{call: "PUT " + v + "/secrets/a?token=" + canary, header: []string{"X-Request-Id", "find-me", "X-Secret", canary}, body: `{"value":"` + canary + `"}`, status: 201})
	lines := strings.Split(strings.TrimSpace(w.Log()), "\n")
	last := lines[len(lines)-1]
	if len(lines) != before+1 {
		t.Errorf("%d lines for one call", len(lines)-before)
	}
	for _, part := range []string{`"request_id":"find-me"`, `"status":201`, `"route":"/v1/vaults/{vault}/secrets/{path...}"`, `"principal":"user:` + w.Owner.ID} {
		if !strings.Contains(last, part) {
			t.Errorf("line lacks %s: %s", part, last)
		}
	}
}
