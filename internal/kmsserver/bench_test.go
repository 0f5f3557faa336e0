package kmsserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/kmsapi"
)

// nullWriter is an http.ResponseWriter that costs nothing.
type nullWriter struct{ h http.Header }

func (w nullWriter) Header() http.Header         { return w.h }
func (w nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w nullWriter) WriteHeader(int)             {}

// encryptBodies are requests of n items of 1 KiB in both forms.
func encryptBodies(keyID string, n int) map[string][]byte {
	items := make([]kmsapi.EncryptItem, n)
	var texts []string
	for i := range items {
		items[i] = kmsapi.EncryptItem{KeyID: keyID, Plaintext: bytes.Repeat([]byte{'p'}, 1<<10), AAD: bytes.Repeat([]byte{'a'}, 47)}
		texts = append(texts, fmt.Sprintf(`{"key_id":%q,"plaintext":%q,"aad":%q}`, keyID, b64(string(items[i].Plaintext)), b64(string(items[i].AAD))))
	}
	text := strings.Join(texts, ",")
	if n > 1 {
		text = "[" + text + "]"
	}
	return map[string][]byte{"application/json": []byte(text), kmsapi.ContentType: kmsapi.Encrypt.AppendRequest(nil, items)}
}

// BenchmarkEncrypt is what a request costs between net/http and its answer,
// with real keys: 1 KiB per item.
func BenchmarkEncrypt(b *testing.B) {
	r, _ := newReal(b, func(c *Config) { c.Log = nil })
	keyID := overProtobuf(r, kmsapi.CreateDEK, kmsapi.CreateDEKItem{ThreadID: "t"})[0].DEK.KeyID
	cn := &conn{Conn: new(testConn), uid: uid(cryptoUID)}
	r.conns.add(cn, "bench")
	ctx := context.WithValue(context.Background(), connKey{}, net.Conn(cn))
	for _, n := range []int{1, 100} {
		for contentType, body := range encryptBodies(keyID, n) {
			b.Run(fmt.Sprintf("%d %s", n, contentType), func(b *testing.B) {
				b.ReportAllocs()
				in := bytes.NewReader(nil)
				req, _ := http.NewRequestWithContext(ctx, "POST", "http://kms/encrypt", io.NopCloser(in))
				req.ContentLength = int64(len(body))
				req.Header.Set("Content-Type", contentType)
				w := nullWriter{http.Header{}}
				for b.Loop() {
					in.Reset(body)
					clear(w.h)
					r.mux.ServeHTTP(w, req)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/item")
			})
		}
	}
}
