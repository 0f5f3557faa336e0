package httpx

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/throttle"
)

// nullWriter is an http.ResponseWriter that costs nothing.
type nullWriter struct{ h http.Header }

func (w nullWriter) Header() http.Header         { return w.h }
func (w nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w nullWriter) WriteHeader(int)             {}

// BenchmarkPipeline is what a request costs between net/http and the domain.
func BenchmarkPipeline(b *testing.B) {
	limit := throttle.Rate{PerSecond: 1e9, Burst: 1 << 30}
	m := New(Config{Rows: rows(), Limits: Limits{Principal: limit, Address: limit}, Authenticate: func(context.Context, string) (access.Principal, error) {
		return access.Principal{Kind: access.User, ID: "u", OrgID: "o"}, nil
	}})
	body := `{"name":"` + strings.Repeat("x", 900) + `"}`
	for name, r := range map[string]struct{ method, path, body string }{
		"get":   {"GET", "/things/7", ""},
		"path":  {"GET", "/things/7/parts/a%2Fb", ""},
		"post":  {"POST", "/things", body},
		"error": {"GET", "/nowhere", ""},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			in := strings.NewReader("")
			req, _ := http.NewRequest(r.method, "http://x"+r.path, io.NopCloser(in))
			req.RemoteAddr = "203.0.113.7:4711"
			req.ContentLength = int64(len(r.body))
			req.Header.Set("Authorization", "Bearer good")
			w := nullWriter{http.Header{}}
			for b.Loop() {
				in.Reset(r.body)
				clear(w.h)
				m.ServeHTTP(w, req)
			}
		})
	}
}
