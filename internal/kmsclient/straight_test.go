package kmsclient

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// answers serves connections of a straight, each request with what answer
// returns, and counts the connections.
func answers(t *testing.T, answer func(n int) string) (s *straight, conns *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	conns = new(atomic.Int64)
	go func() {
		for n := 0; ; {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			r := bufio.NewReader(c)
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					c.Close()
					break
				}
				io.Copy(io.Discard, req.Body)
				io.WriteString(c, answer(n))
				n++
			}
		}
	}()
	s = &straight{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	}}
	t.Cleanup(s.CloseIdleConnections)
	return s, conns
}

// ask makes a request and reads at most n bytes of its answer.
func ask(t *testing.T, s *straight, n int64) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://kms/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, n))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAConnectionIsUsedAgainWhenItsAnswerWasReadWhole(t *testing.T) {
	s, conns := answers(t, func(int) string { return "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc" })
	for range 5 {
		if got := ask(t, s, 3); got != "abc" {
			t.Fatal(got)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// Or the rest of one answer would be taken for the next one.
func TestAConnectionWithARestOfItsAnswerIsNotUsedAgain(t *testing.T) {
	s, conns := answers(t, func(int) string { return "HTTP/1.1 200 OK\r\nContent-Length: 45\r\n\r\nabc" }) // the rest comes later
	for range 3 {
		if got := ask(t, s, 3); got != "abc" {
			t.Fatal(got)
		}
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections", n)
	}
}

func TestAConnectionThatEndsOrSaysMoreIsNotUsedAgain(t *testing.T) {
	for name, answer := range map[string]string{
		"Connection: close": "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
		"more than asked":   "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
	} {
		s, conns := answers(t, func(int) string { return answer })
		for range 3 {
			if got := ask(t, s, 9); got != "abc" {
				t.Fatalf("%s: %s", name, got)
			}
		}
		if n := conns.Load(); n != 3 {
			t.Errorf("%s: %d connections", name, n)
		}
	}
}

// A call that may be made once is lost when it goes to a connection that has ended.
func TestAnIdleConnectionThatHasEndedIsNotUsed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ended, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if !alive(ended) {
		t.Error("a quiet connection is not taken for alive")
	}
	peer.Close()
	one := make([]byte, 1)
	if _, err := ended.(*net.TCPConn).Read(one); err != io.EOF { // the end has come
		t.Fatal(err)
	}
	if alive(ended) || alive(&countedConn{Conn: ended}) {
		t.Error("a connection that has ended is taken for alive")
	}
	ended.Close()
	if alive(ended) {
		t.Error("a closed connection is taken for alive")
	}
}

func TestAContextEndsARequestUnderWay(t *testing.T) {
	s, _ := answers(t, func(int) string { return strings.Repeat(" ", 0) }) // which never answers
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://kms/", nil)
	done := make(chan error, 1)
	go func() {
		_, err := s.RoundTrip(req)
		done <- err
	}()
	cancel()
	if err := <-done; err == nil {
		t.Error("it was answered")
	}
}
