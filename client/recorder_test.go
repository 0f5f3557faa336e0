package client_test

import (
	"bytes"
	"io"
	"net/http"
	"sync"
)

// recorder is a transport that keeps all that it sends.
type recorder struct {
	mu   sync.Mutex
	sent bytes.Buffer
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	body := []byte{}
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	r.mu.Lock()
	r.sent.WriteString(req.URL.String() + "\n")
	_ = req.Header.Write(&r.sent)
	r.sent.Write(body)
	r.mu.Unlock()
	return http.DefaultTransport.RoundTrip(req)
}

func (r *recorder) holds(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Contains(r.sent.Bytes(), []byte(text))
}

// CloseIdleConnections closes those that were never used too: a server that
// stops waits for their first request.
func (r *recorder) CloseIdleConnections() { http.DefaultClient.CloseIdleConnections() }
