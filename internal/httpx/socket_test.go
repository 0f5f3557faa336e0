package httpx

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
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
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
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

func TestASlowBodyTimesOut(t *testing.T) {
	conn := dial(t)
	fmt.Fprint(conn, strings.Replace(head, "/things", "/wait", 1)+"Content-Length: 100\r\n\r\n{") // /wait allows 30ms
	answer(t, conn, 408, "30ms")
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
	for _, body := range []string{`{"name":1}`, `{"name":"a"}`} {
		fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, r.Body)
		if r.Close {
			t.Errorf("body %s ends the connection", body)
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
