package server_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
)

// revoking revokes a key when the first of the answer comes.
type revoking struct {
	*httptest.ResponseRecorder
	revoke func()
}

func (r *revoking) Write(p []byte) (int, error) {
	if r.revoke != nil {
		r.revoke()
		r.revoke = nil
	}
	return r.ResponseRecorder.Write(p)
}

func TestAnExportEndsWithTheKeyThatItIsFor(t *testing.T) {
	w := newWorld(t)
	second := decode[api.APIKeyCreated](t, w.do(scenario{call: "POST /v1/auth/api-keys", body: `{"name":"second"}`, status: 201}))
	thread := w.thread()
	for range 3 { // a page of an export has two of them
		w.do(scenario{call: "POST " + thread + "/messages", body: `{"body":"` + strings.Repeat("x", 3<<20) + `"}`, status: 200})
	}
	export := func(rec *revoking) (lines int, broken any) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", thread+"/export", nil)
		r.Header.Set("Authorization", "Bearer "+second.APIKey)
		defer func() { broken = recover(); lines = strings.Count(rec.Body.String(), "\n") }()
		w.Node().Handler.ServeHTTP(rec, r)
		return
	}
	if lines, broken := export(&revoking{httptest.NewRecorder(), nil}); lines != 4 || broken != nil {
		t.Errorf("the whole has %d lines, %v", lines, broken)
	}
	lines, broken := export(&revoking{httptest.NewRecorder(), func() {
		w.do(scenario{call: "DELETE /v1/auth/api-keys/" + second.Key.ID, status: 204})
	}})
	if lines != 2 || broken == nil {
		t.Errorf("with the key revoked it went on to %d lines, %v", lines, broken)
	}
}
