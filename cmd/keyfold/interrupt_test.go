package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// proxy stands before a server and acts on the n-th write. Those after it wait until
// it has.
type proxy struct {
	writes atomic.Int64
	at     int64
	acted  chan struct{}
	then   func(w http.ResponseWriter, forward func(http.ResponseWriter))
}

func newProxy(t *testing.T, s *keyfoldtest.Server, at int64, then func(http.ResponseWriter, func(http.ResponseWriter))) string {
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorLog = log.New(io.Discard, "", 0)
	transport := client.NewTransport()
	t.Cleanup(transport.CloseIdleConnections)
	forward.Transport = transport
	p := &proxy{at: at, acted: make(chan struct{}), then: then}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" {
			switch n := p.writes.Add(1); {
			case n == p.at:
				defer close(p.acted)
				p.then(w, func(w http.ResponseWriter) { forward.ServeHTTP(w, r) })
				return
			case n > p.at:
				<-p.acted
			}
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// interrupts is what a proxy does when interrupt is to meet a command in its midst:
// it says when that is, and lets no more pass before the signal was sent.
func interrupts() (then func(http.ResponseWriter, func(http.ResponseWriter)), interrupt func(*testing.T, *exec.Cmd, os.Signal)) {
	reached, sent := make(chan struct{}), make(chan struct{})
	then = func(w http.ResponseWriter, forward func(http.ResponseWriter)) {
		close(reached)
		<-sent
		forward(w)
	}
	return then, func(t *testing.T, cmd *exec.Cmd, sig os.Signal) {
		t.Helper()
		<-reached
		err := cmd.Process.Signal(sig)
		close(sent)
		if err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
}

// bodies are all messages of a thread as text.
func bodies(t *testing.T, c *client.Client, thread string) []string {
	t.Helper()
	var all []string
	for m, err := range c.Messages(t.Context(), thread, "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bodyText(m.Body))
	}
	return all
}

// manyLines is a text of 1,500 lines, many of them equal.
func manyLines() (text string, lines []string) {
	for i := range 1500 {
		line := "the same line"
		if i%3 == 0 {
			line = fmt.Sprint("line ", i)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n") + "\n", lines
}

func TestAnInterruptedMessageImportIsFinishedWithoutDoubles(t *testing.T) {
	text, want := manyLines()
	for name, signal := range map[string]syscall.Signal{"Ctrl-C": syscall.SIGINT, "kill -9": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			s := keyfoldtest.Start(t)
			sh := newShell(t, s)
			thread := sh.run("thread", "create")
			file := writeTemp(t, "talk.txt", text)
			then, interrupt := interrupts()
			sh.env["KEYFOLD_URL"] = newProxy(t, s, 700, then)
			cmd, output := sh.start("message", "import", thread, "--plain", "--file", file)
			interrupt(t, cmd, signal)
			if code := cmd.ProcessState.ExitCode(); signal == syscall.SIGINT && (code != 1 || !strings.Contains(output.String(), "interrupted with")) {
				t.Errorf("exit %d: %s", code, output)
			}
			sh.env["KEYFOLD_URL"] = s.URL
			if n := len(bodies(t, sh.client(), thread)); n == 0 || n == len(want) {
				t.Fatalf("the interrupt came too early or too late: %d messages", n)
			}
			summary := sh.run("message", "import", thread, "--plain", "--file", file)
			if strings.HasSuffix(summary, " 0 already there") {
				t.Errorf("nothing was found again: %s", summary)
			}
			equal(t, bodies(t, sh.client(), thread), want)
		})
	}
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("message %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func TestAPostWhoseAnswerIsLostIsNotPostedTwice(t *testing.T) {
	text, want := manyLines()
	s := keyfoldtest.Start(t)
	sh := newShell(t, s)
	thread := sh.run("thread", "create")
	file := writeTemp(t, "talk.txt", text)
	sh.env["KEYFOLD_URL"] = newProxy(t, s, 100, func(w http.ResponseWriter, forward func(http.ResponseWriter)) {
		forward(httptest.NewRecorder()) // it is stored
		panic(http.ErrAbortHandler)     // and nobody hears of it
	})
	sh.run("message", "import", thread, "--plain", "--file", file) // it asks again, under the same Idempotency-Key
	equal(t, bodies(t, sh.client(), thread), want)
}

func TestAnInterruptedSecretImportIsFinishedByTheSameCommand(t *testing.T) {
	dir := t.TempDir()
	for i := range 200 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d", i)), []byte{byte(i), 0xff}, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := keyfoldtest.Start(t)
	sh := newShell(t, s)
	vault := sh.run("vault", "create", "v")
	then, interrupt := interrupts()
	sh.env["KEYFOLD_URL"] = newProxy(t, s, 50, then)
	cmd, output := sh.start("secret", "import", vault, "--dir", dir)
	interrupt(t, cmd, syscall.SIGINT)
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(output.String(), "interrupted with") {
		t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), output)
	}
	sh.env["KEYFOLD_URL"] = s.URL
	if out := sh.run("secret", "import", vault, "--dir", dir); strings.HasPrefix(out, "0 written") || strings.Contains(out, " 0 unchanged") {
		t.Errorf("the second run: %s", out)
	}
	if out := sh.run("secret", "import", vault, "--dir", dir); !strings.HasPrefix(out, "0 written, 200 unchanged") {
		t.Errorf("the third run: %s", out)
	}
	if versions := sh.run("secret", "versions", vault, "file-7", "--json"); strings.Contains(versions, `"version": 2`) {
		t.Error("a value was written twice")
	}
}

func TestAnImportStopsWhenTheServerIsAway(t *testing.T) {
	s := keyfoldtest.Start(t)
	sh := newShell(t, s)
	vault, thread := sh.run("vault", "create", "v"), sh.run("thread", "create")
	s.SetKMSDown(true)
	file := writeTemp(t, "a.env", "A=1\nB=2\n")
	code, out, stderr := sh.try("", "secret", "import", vault, "--env-file", file)
	if code != 1 || !strings.Contains(stderr, "stopped with 2 left") || !strings.Contains(out, "0 written") {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
	code, out, stderr = sh.try("", "message", "import", thread, "--plain", "--file", file)
	if code != 1 || !strings.Contains(stderr, "stopped with 2 left") || !strings.Contains(out, "0 written") {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
	s.SetKMSDown(false)
	sh.run("secret", "import", vault, "--env-file", file)
	sh.run("message", "import", thread, "--plain", "--file", file)
	equal(t, bodies(t, sh.client(), thread), []string{"A=1", "B=2"})
}
