package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// shell runs the command line in this process, with an environment of its own.
type shell struct {
	t   testing.TB
	env map[string]string
	all bytes.Buffer // all that was written to stdout and stderr
}

func newShell(t testing.TB, s *keyfoldtest.Server) *shell {
	return &shell{t: t, env: map[string]string{"KEYFOLD_URL": s.URL, "KEYFOLD_API_KEY": s.APIKey}}
}

// try returns the exit code and what was written.
func (sh *shell) try(stdin string, args ...string) (code int, stdout, stderr string) {
	sh.t.Helper()
	var out, err bytes.Buffer
	a := &app{App: cli.App{Name: "keyfold", In: strings.NewReader(stdin), Out: &out, Err: &err}, getenv: func(name string) string { return sh.env[name] }}
	code = a.run(context.Background(), args)
	sh.all.Write(out.Bytes())
	sh.all.Write(err.Bytes())
	return code, out.String(), err.String()
}

// run returns what was written to stdout, without the last line break.
func (sh *shell) run(args ...string) string {
	sh.t.Helper()
	code, out, err := sh.try("", args...)
	if code != 0 {
		sh.t.Fatalf("keyfold %s: exit %d: %s", strings.Join(args, " "), code, err)
	}
	return strings.TrimSuffix(out, "\n")
}

// start runs the command line in a process of its own.
func (sh *shell) start(args ...string) (*exec.Cmd, *bytes.Buffer) {
	sh.t.Helper()
	cmd := exec.Command("keyfold", args...) // installed by TestMain
	for name, value := range sh.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	output := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		sh.t.Fatal(err)
	}
	return cmd, output
}

func (sh *shell) client() *client.Client {
	sh.t.Helper()
	c, err := client.New(sh.env["KEYFOLD_URL"], sh.env["KEYFOLD_API_KEY"])
	if err != nil {
		sh.t.Fatal(err)
	}
	sh.t.Cleanup(c.Close)
	return c
}

func writeTemp(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
