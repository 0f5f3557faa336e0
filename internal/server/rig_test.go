package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
)

// answered is h's answer to a call with a body in JSON. A header is a name and,
// behind it, a value.
func answered(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// calls makes calls to h with a credential, by a program that says it is agent.
func calls(h http.Handler) func(method, path, bearer, agent, body string) (int, string) {
	return func(method, path, bearer, agent, body string) (int, string) {
		w := answered(h, method, path, body, "Authorization", "Bearer "+bearer, "User-Agent", agent)
		return w.Code, w.Body.String()
	}
}
