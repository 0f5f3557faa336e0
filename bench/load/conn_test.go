package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// answering is a server that answers every connection's first request with
// raw bytes, in two writes, and closes it.
func answering(t *testing.T, raw string) *conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Read(make([]byte, 4096))
		io.WriteString(c, raw[:len(raw)/2])
		io.WriteString(c, raw[len(raw)/2:])
	}()
	c, err := dial("http://"+l.Addr().String(), time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.c.Close() })
	return c
}

func TestACompleteAnswerIsRead(t *testing.T) {
	for raw, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello":                                      "hello",
		"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n":                                            "",
		"HTTP/1.1 204 No Content\r\n\r\n":                                                        "",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n01\r\no\r\n0\r\n\r\n": "hello",
	} {
		status, body, err := answering(t, raw).do([]byte("GET / HTTP/1.1\r\n\r\n"))
		if err != nil || status/100 != 2 || string(body) != want {
			t.Errorf("%q: %d %q, %v", raw, status, body, err)
		}
	}
}

func TestAnIncompleteAnswerIsAnError(t *testing.T) {
	for _, raw := range []string{
		"HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 2OO OK\r\nContent-Length: 5\r\n\r\nhello",
	} {
		if _, body, err := answering(t, raw).do([]byte("GET / HTTP/1.1\r\n\r\n")); err == nil {
			t.Errorf("%q is read as %q", raw, body)
		}
	}
}

func TestAnAnswerFromNetHTTPIsReadWhateverItsLength(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20_000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/flush" {
			w.Write(body[:1])
			w.(http.Flusher).Flush()
			body = body[1:]
		}
		w.Write(body)
	}))
	defer s.Close()
	c, err := dial(s.URL, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer c.c.Close()
	for _, path := range []string{"/", "/flush", "/"} {
		for _, n := range []int{1, 100, 3000, len(big)} {
			status, body, err := c.do(request("POST", path, "key", []byte(big[:n])))
			if err != nil || status != 200 || string(body) != big[:n] {
				t.Errorf("POST %s of %d bytes: %d, %d bytes, %v", path, n, status, len(body), err)
			}
		}
	}
}
