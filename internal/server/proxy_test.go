package server_test

import (
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/server"
)

// A proxy that gives up first hides what the server says. A stream, whose row lasts an
// hour and more, says something more often.
func TestTheProxyOfTheDeploymentWaitsLongerThanAnyCallMayTake(t *testing.T) {
	text, err := os.ReadFile("../../deploy/compose/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	longest := httpx.Heartbeat
	for _, r := range server.Rows() {
		if r.Timeout < time.Hour {
			longest = max(longest, r.Timeout, httpx.DefaultTimeout)
		}
	}
	for _, side := range []string{"client", "server"} {
		m := regexp.MustCompile(`(?m)^ +timeout ` + side + ` (\w+)$`).FindSubmatch(text)
		if m == nil {
			t.Fatalf("there is no timeout %s", side)
		}
		if d, err := time.ParseDuration(string(m[1])); err != nil || d < longest+5*time.Second {
			t.Errorf("timeout %s is %s (%v), and a call may take %v", side, m[1], err, longest)
		}
	}
}
