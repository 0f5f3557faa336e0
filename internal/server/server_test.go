package server_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"

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
		longest = max(longest, row.Timeout)
	}
	if s.WriteTimeout <= 2*longest {
		t.Errorf("WriteTimeout %v cuts off calls that may take %v to arrive and %v to be done", s.WriteTimeout, longest, longest)
	}
	s.ErrorLog.Print("what net/http has to say")
	if !strings.Contains(log.String(), "what net/http has to say") {
		t.Errorf("net/http's log goes elsewhere; ours is %q", log.String())
	}
}
