package server_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/server"
)

func TestAConnectionIsBoundedInEveryPhase(t *testing.T) {
	var log bytes.Buffer
	s := server.NewHTTPServer(http.NotFoundHandler(), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if s.ReadHeaderTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 || s.MaxHeaderBytes > 64<<10 {
		t.Errorf("a limit is missing: %+v", s)
	}
	longest := server.Rows()[0].Timeout
	for _, row := range server.Rows() {
		if row.Timeout < time.Hour { // longer ones are streams, which give each write its own time
			longest = max(longest, row.Timeout)
		}
	}
	if s.WriteTimeout <= 2*longest {
		t.Errorf("WriteTimeout %v cuts off calls that may take %v to arrive and %v to be done", s.WriteTimeout, longest, longest)
	}
	s.ErrorLog.Print("what net/http has to say")
	if !strings.Contains(log.String(), "what net/http has to say") {
		t.Errorf("net/http's log goes elsewhere; ours is %q", log.String())
	}
}

// Each of these clients stops where it should go on, and keeps its side open.
func TestAConnectionThatStopsIsClosed(t *testing.T) {
	s := server.NewHTTPServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	s.ReadHeaderTimeout, s.IdleTimeout = 50*time.Millisecond, 100*time.Millisecond
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(ln)
	defer s.Close()
	const whole, half = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHos"
	for what, text := range map[string]string{
		"nothing": "", "one byte": "G", "half a head": half, "a head without its end": whole[:len(whole)-2],
		"a request, and no other": whole, "a request and a byte": whole + "G", "a request and half of another": whole + half,
	} {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute)) // of the test alone
		io.WriteString(conn, text)
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %s the connection stays open", what)
		}
	}
}
