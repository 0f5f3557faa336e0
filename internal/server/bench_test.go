package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/keyfoldtest"
)

// discard is an http.ResponseWriter that costs nothing.
type discard struct {
	h      http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// BenchmarkSecretGet is a read of a secret, from the head of the request to the end
// of the answer, but for net/http.
func BenchmarkSecretGet(b *testing.B) {
	s := keyfoldtest.Start(b)
	h := s.Node().Handler
	call := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+s.APIKey)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	_, id, _ := strings.Cut(call("POST", "/v1/vaults", `{"name":"n"}`).Body.String(), `"id":"`)
	path := "/v1/vaults/" + id[:36] + "/secrets/db/password"
	if w := call("PUT", path, `{"value":"v"}`); w.Code != 201 {
		b.Fatal(w.Code, w.Body)
	}
	r := httptest.NewRequest("GET", path, io.NopCloser(strings.NewReader("")))
	r.Header.Set("Authorization", "Bearer "+s.APIKey)
	w := &discard{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		h.ServeHTTP(w, r)
	}
	if w.status != 200 {
		b.Fatal(w.status)
	}
}
