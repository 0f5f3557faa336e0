package httpx

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// dial connects to a real server of the test's rows.
func dial(t *testing.T, row ...Row) *net.TCPConn {
	t.Helper()
	m, _ := testMux(t)
	for i := range row {
		m.routes.add(&row[i])
	}
	return dialMux(t, m)
}

func dialMux(t *testing.T, m *Mux) *net.TCPConn {
	t.Helper()
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute)) // of the test alone
	return conn.(*net.TCPConn)
}

// answer reads one response and checks it as a problem.
func answer(t *testing.T, conn net.Conn, status int, detail string) {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	w.Code = r.StatusCode
	for k, v := range r.Header {
		w.Header()[k] = v
	}
	if _, err := io.Copy(w.Body, r.Body); err != nil {
		t.Fatal(err)
	}
	checkProblem(t, w, status, detail)
	if !r.Close {
		t.Error("the connection stays open with half a request in it")
	}
}

// closes waits for the server to end conn, which we leave open on our side.
func closes(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection stays open for ever")
	}
}

const head = "POST /things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n"

func TestABodyThatIsCutOffIsTheClientsMistake(t *testing.T) {
	conn := dial(t)
	fmt.Fprint(conn, head+"Content-Length: 100\r\n\r\n{\"name\":\"a\"}")
	conn.CloseWrite()
	answer(t, conn, 400, "cut off")
}

func TestABadChunkIsTheClientsMistake(t *testing.T) {
	conn := dial(t)
	fmt.Fprint(conn, head+"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")
	answer(t, conn, 400, "chunks")
}

func TestAnAnnouncedBodyOverTheLimitIsNotReadAtAll(t *testing.T) {
	conn := dial(t)
	fmt.Fprint(conn, head+"Content-Length: 10485760\r\n\r\n") // and nothing follows
	answer(t, conn, 413, "1000 bytes")
}

func TestAClientThatSendsOnIsStillToldWhy(t *testing.T) {
	conn := dial(t)
	go func() {
		fmt.Fprint(conn, head+"Content-Length: 10485760\r\n\r\n")
		chunk := strings.Repeat("x", 64<<10)
		for {
			if _, err := io.WriteString(conn, chunk); err != nil {
				return
			}
		}
	}()
	answer(t, conn, 413, "1000 bytes")
}

func TestAChunkedBodyOverTheLimitIsRefusedWhereItCrossesIt(t *testing.T) {
	conn := dial(t)
	fmt.Fprintf(conn, "%sTransfer-Encoding: chunked\r\n\r\n800\r\n%s\r\n", head, strings.Repeat("x", 0x800)) // no last chunk
	answer(t, conn, 413, "1000 bytes")
}

// A client that announces a body and withholds it, and does not close its side
// either, holds no connection and no goroutine.
func TestAWithheldBodyHoldsNothing(t *testing.T) {
	const good = "Authorization: Bearer good\r\n"
	m, _ := testMux(t, "https://a.example")
	var all sync.WaitGroup
	for _, c := range []struct {
		name, head string
		status     int
	}{
		{"no credential", "POST /things HTTP/1.1\r\n", 401},
		{"a wrong credential", "POST /things HTTP/1.1\r\nAuthorization: Bearer bad\r\n", 401},
		{"no such path", "POST /nowhere HTTP/1.1\r\n", 404},
		{"no such method", "PATCH /things HTTP/1.1\r\n", 405},
		{"a path that is none", "POST /a//b HTTP/1.1\r\n", 400},
		{"a public row that takes no body", "GET /open HTTP/1.1\r\n", 200},
		{"a row that takes no body", "GET /things HTTP/1.1\r\n" + good, 200},
		{"a handler that answers nothing", "DELETE /things/a HTTP/1.1\r\n" + good, 204},
		{"a handler that panics", "GET /panic HTTP/1.1\r\n" + good, 500},
		{"a preflight", "OPTIONS /things HTTP/1.1\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n", 204},
		{"an encoded body", "POST /things HTTP/1.1\r\nContent-Encoding: gzip\r\n" + good, 400},
		{"an old client that would stay", "GET /open HTTP/1.0\r\nConnection: keep-alive\r\n", 200},
		{"a client that waits to be asked", "POST /things HTTP/1.1\r\nExpect: 100-continue\r\n", 401},
	} {
		for _, body := range []string{"Content-Length: 10\r\n\r\n", "Content-Length: 10\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n9\r\n{"} {
			if strings.Contains(c.head, "HTTP/1.0") && strings.Contains(body, "chunked") {
				continue // which is no HTTP/1.0
			}
			conn := dialMux(t, m)
			all.Go(func() {
				fmt.Fprint(conn, c.head+"Host: x\r\n"+body)
				r, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Errorf("%s, %q: %v", c.name, body, err)
					return
				}
				if r.StatusCode != c.status || !r.Close {
					t.Errorf("%s, %q: %d (close: %v), want %d and the end", c.name, body, r.StatusCode, r.Close, c.status)
				}
				closes(t, conn)
			})
		}
	}
	all.Wait()
}

func TestABodyThatIsRefusedForItsSizeHoldsNothing(t *testing.T) {
	for _, body := range []string{"Content-Length: 2000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n800\r\n" + strings.Repeat("x", 0x800) + "\r\n"} {
		conn := dial(t)
		fmt.Fprint(conn, head+body)
		answer(t, conn, 413, "1000 bytes")
		closes(t, conn)
	}
}

// What is left of a body must never be read as a request.
func TestAnUnreadBodyIsNoRequest(t *testing.T) {
	conn := dial(t)
	inner := "GET /things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n"
	fmt.Fprintf(conn, "GET /open HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner)
	in := bufio.NewReader(conn)
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, r.Body)
	if rest, _ := io.ReadAll(in); len(rest) > 0 {
		t.Errorf("the body was answered: %s", rest)
	}
}

func TestASlowBodyTimesOut(t *testing.T) {
	conn := dial(t)
	fmt.Fprint(conn, strings.Replace(head, "/things", "/wait", 1)+"Content-Length: 100\r\n\r\n{") // /wait allows 30ms
	answer(t, conn, 408, "30ms")
	closes(t, conn)
}

func TestASlowBodyTimesOutSoonerWhereAnybodyMaySendIt(t *testing.T) {
	c := &Call{row: &Row{Who: Public}}
	if d := c.arrival(); d != 5*time.Second {
		t.Errorf("on a public row a body may take %v", d)
	}
	if c.row.Timeout = time.Second; c.arrival() != time.Second {
		t.Error("the row's own time is longer than it says")
	}
}

func TestASlowHandlerTimesOutWithoutBlamingTheClient(t *testing.T) {
	m, _ := testMux(t)
	s := httptest.NewServer(m)
	defer s.Close()
	for _, body := range []string{"", "{}"} {
		r, _ := http.NewRequest("POST", s.URL+"/wait", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer good")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 503 {
			t.Errorf("body %q: %d, want 503", body, res.StatusCode)
		}
	}
}

func TestAConnectionServesOnAfterAnOrdinaryProblem(t *testing.T) {
	conn := dial(t)
	in := bufio.NewReader(conn)
	for _, request := range []string{
		"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /things HTTP/1.1\r\nHost: x\r\n\r\n",                       // 401
		"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", // 404, an announced body of none
		"PATCH /things HTTP/1.1\r\nHost: x\r\n\r\n",
		head + "Content-Length: 10\r\n\r\n{\"name\":1}", // 400, read in full
		head + "Transfer-Encoding: chunked\r\n\r\nc\r\n{\"name\":\"a\"}\r\n0\r\n\r\n",
		head + "Content-Length: 12\r\n\r\n{\"name\":\"a\"}",
	} {
		fmt.Fprint(conn, request)
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, r.Body)
		if r.Close {
			t.Errorf("%.20s ends the connection with %d", request, r.StatusCode)
		}
	}
}

func TestAClientThatLeavesCancelsItsCallAlone(t *testing.T) {
	started, ended := make(chan struct{}), make(chan error, 1)
	conn := dial(t, Row{Method: "GET", Pattern: "/leave", Timeout: time.Minute, Handler: Empty(func(ctx context.Context, _ *Call) error {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	})})
	fmt.Fprint(conn, strings.Replace(head, "POST /things", "GET /leave", 1)+"\r\n")
	<-started
	conn.Close()
	if err := <-ended; err != context.Canceled {
		t.Errorf("the handler's context ended with %v", err)
	}
}
