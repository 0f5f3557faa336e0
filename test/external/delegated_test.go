package external

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"github.com/keyfold/keyfold/test/programs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/keyfold/keyfold/client/kmskey"
	"github.com/keyfold/keyfold/cmek"
)

// custody is a customer's own key process, on TCP with a CA of its own, and the
// directory of all that is the customer's.
type custody struct {
	t   *testing.T
	dir string
	end func(syscall.Signal)
}

// agents are whom the customer lists; which of them may use a key is for grants.
var agents = []string{"owner", "agent-7", "agent-8"}

func newCustody(t *testing.T) *custody {
	t.Helper()
	c := &custody{t: t, dir: shortDir(t)}
	must(t, c.cmd("init", "--tls", "--agent", strings.Join(agents, ","), "--endpoint", freePort(t)))
	c.end = serveKMS(t, c.dir, "--config", filepath.Join(c.dir, "kms.yaml"))
	c.await()
	return c
}

// cmd is a command of the customer's operator.
func (c *custody) cmd(args ...string) *exec.Cmd {
	return kmsCommand(c.t, c.dir, append(args, "--config", filepath.Join(c.dir, "kms.yaml"))...)
}

func (c *custody) await() {
	c.t.Helper()
	(&server{t: c.t}).await("the customer's key process", func() bool { return c.cmd("status").Run() == nil })
}

var endpointLine = regexp.MustCompile(`endpoint: "([^"]+)"`)

func (c *custody) endpoint() string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "kms.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	return "https://" + endpointLine.FindStringSubmatch(string(text))[1]
}

func (c *custody) file(name string) string { return filepath.Join(c.dir, "tls", name) }

// as is the key process for a Go program of an agent's.
func (c *custody) as(name string) *kmskey.KMS {
	c.t.Helper()
	k, err := kmskey.New(kmskey.Config{Endpoint: c.endpoint(), Cert: c.file(name + ".crt"), Key: c.file(name + ".key"), CA: c.file("ca.crt")})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(k.Close)
	return k
}

// use is what the customer's audit says of one use of a key.
type use struct {
	Actor, Action, Target, Outcome string
	Detail                         struct{ Vault, Path string }
}

// uses verifies the customer's audit and returns the uses of keys in it.
func (c *custody) uses() (all []use) {
	c.t.Helper()
	key := strings.TrimSpace(must(c.t, c.cmd("audit", "key")))
	must(c.t, c.cmd("audit", "verify", "--public-key", key))
	files, _ := filepath.Glob(filepath.Join(c.dir, "kms.audit", "*.jsonl"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			c.t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var u use
			if err := json.Unmarshal(line, &u); err != nil {
				c.t.Fatal(err)
			}
			if strings.HasPrefix(u.Action, "cmek.") {
				all = append(all, u)
			}
		}
	}
	return all
}

// cli runs `keyfold` for an agent, with its own certificate to the customer's
// key process and none of the customer's files otherwise.
func (c *custody) cli(s *server, agent, stdin string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(programs.Dir(c.t), "keyfold"), args...)
	cmd.Env = []string{
		"HOME=" + s.dir, "KEYFOLD_URL=" + s.url, "KEYFOLD_API_KEY=" + s.key, "KEYFOLD_CMEK_KMS=" + c.endpoint(),
		"KEYFOLD_CMEK_KMS_CERT=" + c.file(agent+".crt"), "KEYFOLD_CMEK_KMS_KEY=" + c.file(agent+".key"), "KEYFOLD_CMEK_KMS_CA=" + c.file("ca.crt"),
	}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *custody) run(s *server, agent, stdin string, args ...string) string {
	c.t.Helper()
	out, err := c.cli(s, agent, stdin, args...)
	if err != nil {
		c.t.Fatalf("%s: keyfold %v: %v: %s", agent, args, err, out)
	}
	return out
}

// denied runs what the key process must refuse.
func (c *custody) denied(s *server, agent string, args ...string) {
	c.t.Helper()
	if out, err := c.cli(s, agent, canary, args...); err == nil || !strings.Contains(out, "no grant for this CMEK key") || !strings.Contains(out, "hint: ask the owner of the key process") || strings.Contains(out, canary) {
		c.t.Errorf("%s: keyfold %v: %v: %s", agent, args, err, out)
	}
}

// Two key processes of two owners. The operator's server and key process hold
// every value of a vault whose key the customer's process keeps; the agents hold
// none, and are let in and cut off one by one.
func TestAVaultsKeyStaysInTheCustomersOwnKeyProcess(t *testing.T) {
	c := newCustody(t)
	s := dev(t, shortDir(t), nil, "--kms", "external") // the operator's, with a key process of its own
	raw := cmek.Generate()
	keyFile := filepath.Join(c.dir, "present.key")
	if err := cmek.WriteKeyFile(keyFile, raw, cmek.KeyFileInfo{}); err != nil {
		t.Fatal(err)
	}
	present := strings.TrimSpace(must(t, quiet(c.cmd("cmek", "import", keyFile, "--name", "present"))))
	next := strings.TrimSpace(must(t, quiet(c.cmd("cmek", "create", "--name", "next"))))
	for _, agent := range []string{"owner", "agent-7"} {
		must(t, c.cmd("cmek", "grant", "present", "--caller", "cert:"+agent))
	}

	// The owner moves the vault's present key in; one agent writes, another reads.
	vaults := map[string]string{}
	for name, bound := range map[string]string{"plain": "--bound=false", "bound": "--bound"} {
		id := strings.TrimPrefix(s.vault(), "/v1/vaults/")
		vaults[name] = id
		c.denied(s, "agent-8", "cmek", "enable", id, bound, "--cmek-key-file", "kms:"+present)
		c.run(s, "owner", "", "cmek", "enable", id, bound, "--cmek-key-file", "kms:"+present)
		c.run(s, "agent-7", canary, "secret", "put", id, "a/b")
		c.denied(s, "agent-8", "secret", "get", id, "a/b")
		c.denied(s, "agent-8", "secret", "put", id, "a/c")
		if got := c.run(s, "agent-7", "", "secret", "get", id, "a/b"); got != canary {
			t.Errorf("%s: agent-7 reads %q", name, got)
		}
		if status, _ := s.call("GET", "/v1/vaults/"+id+"/secrets/a/c", ""); status != 404 {
			t.Errorf("%s: a denied write was stored: %d", name, status)
		}
	}

	// An agent is cut off, also on the connection that it has: the other is not.
	must(t, c.cmd("cmek", "grant", "present", "--caller", "cert:agent-8"))
	at := cmek.Context{VaultID: vaults["bound"], Path: "a/b"}
	seven, eight := c.as("agent-7").Key(present), c.as("agent-8").Key(present)
	value, err := seven.Seal(t.Context(), at, 2, []byte(canary))
	if err == nil {
		_, err = eight.Open(t.Context(), at, value)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := len(c.uses())
	must(t, c.cmd("cmek", "revoke", "--all", "--caller", "cert:agent-7"))
	if _, err := seven.Open(t.Context(), at, value); !errors.Is(err, kmskey.ErrDenied) {
		t.Errorf("after the revoke: %v", err)
	}
	c.denied(s, "agent-7", "secret", "get", vaults["bound"], "a/b")
	if got, err := eight.Open(t.Context(), at, value); err != nil || string(got) != canary {
		t.Errorf("the other agent: %q, %v", got, err)
	}
	if got := c.run(s, "agent-8", "", "secret", "get", vaults["plain"], "a/b"); got != canary {
		t.Errorf("the other agent reads %q", got)
	}
	if n := len(c.uses()) - before; n != 4 && n != 3 { // two denials may be of one second, and so of one record
		t.Errorf("%d uses were recorded, want 2 and 2 denials", n)
	}

	// The customer sees who did what with which key, vault and path.
	said := map[string]bool{}
	for _, u := range c.uses() {
		said[strings.TrimSpace(fmt.Sprint(u.Actor, " ", u.Action, " ", u.Target[:8], " ", u.Detail.Vault, " ", u.Detail.Path, " ", u.Outcome))] = true
	}
	for _, id := range vaults {
		for _, line := range []string{
			"cert:owner cmek.seal " + present[:8] + " " + id + " trial",
			"cert:agent-7 cmek.seal " + present[:8] + " " + id + " a/b",
			"cert:agent-7 cmek.open " + present[:8] + " " + id + " a/b",
		} {
			if !said[line] {
				t.Errorf("the customer's audit lacks %q: %v", line, said)
			}
		}
	}

	denials := must(t, c.cmd("cmek", "uses", "--caller", "cert:agent-7", "--fingerprint", present[:12], "--outcome", "denied"))
	if n := strings.Count(denials, "\n"); n < 2 || strings.Count(denials, "cert:agent-7 ") != n-1 || !strings.Contains(denials, " denied ") {
		t.Errorf("what agent-7 was denied is shown as %s", denials)
	}

	// The vault goes over to a key that was made in the key process: client-side.
	must(t, c.cmd("cmek", "grant", "next", "--caller", "cert:owner"))
	must(t, c.cmd("cmek", "grant", "next", "--caller", "cert:agent-8"))
	for _, id := range vaults {
		if out, err := c.cli(s, "owner", "", "cmek", "rotate", id, "--old-key-file", "kms:"+present, "--new-key-file", "kms:"+next); err == nil || !strings.Contains(out, "--client-side") {
			t.Errorf("a server rotates with keys that it cannot have: %v %s", err, out)
		}
		c.run(s, "owner", "", "cmek", "rotate", id, "--client-side", "--all", "--old-key-file", "kms:"+present, "--new-key-file", "kms:"+next)
		if got := c.run(s, "agent-8", "", "secret", "get", id, "a/b"); got != canary {
			t.Errorf("after the rotation: %q", got)
		}
		if out := c.run(s, "owner", "", "cmek", "status", id, "--json"); strings.Contains(out, `"`+present) || !strings.Contains(out, next) {
			t.Errorf("after the rotation: %s", out)
		}
	}
	for _, agent := range []string{"owner", "agent-8"} {
		must(t, c.cmd("cmek", "revoke", "present", "--caller", "cert:"+agent))
	}
	must(t, c.cmd("cmek", "delete", "present", "--yes"))
	if got := c.run(s, "agent-8", "", "secret", "get", vaults["plain"], "a/b"); got != canary {
		t.Errorf("without the old key: %q", got)
	}

	// A key process that ends takes its keys with it, and brings them back.
	c.end(syscall.SIGKILL)
	if out, err := c.cli(s, "agent-8", "", "secret", "get", vaults["plain"], "a/b"); err == nil || !strings.Contains(out, "does not answer") || !strings.Contains(out, "hint: is it running") {
		t.Errorf("without the key process: %v %s", err, out)
	}
	c.end = serveKMS(t, c.dir, "--config", filepath.Join(c.dir, "kms.yaml"))
	c.await()
	if got := c.run(s, "agent-8", "", "secret", "get", vaults["bound"], "a/b"); got != canary {
		t.Errorf("with the key process again: %q", got)
	}

	// Neither of the operator's processes has a value or a key, in memory or on
	// disk; the customer's disk has none either.
	operators := map[string]int{"server": s.cmd.Process.Pid, "key process": s.kms()}
	t.Run("memory", func(t *testing.T) {
		for whose, pid := range operators {
			var scan scanner
			scan.add("value", []byte(canary))
			scan.addKey("customer's key", raw.Bytes())
			if scan.count(look(t, pid)) > 0 || scan.bytes == 0 {
				t.Errorf("the memory of the operator's %s, %d bytes, holds %v", whose, scan.bytes, scan.found)
			}
		}
	})
	log := filepath.Join(t.TempDir(), "log")
	s.stop()
	c.end(syscall.SIGTERM)
	if err := os.WriteFile(log, []byte(s.output.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	search := &customer{server: &server{t: t}}
	secrets := []string{canary, string(raw.Bytes())}
	search.find("the operator's files", false, secrets, "-store", filepath.Join(s.dir, "server"), "-store", filepath.Join(s.dir, "kms"), s.dir, log)
	search.find("the customer's key store", false, secrets, "-store", filepath.Join(c.dir, "kms"), filepath.Join(c.dir, "kms"), filepath.Join(c.dir, "kms.audit"))
}

// quiet is cmd without what it says to people.
func quiet(cmd *exec.Cmd) *exec.Cmd {
	cmd.Args = append([]string{"/bin/sh", "-c", `"$0" "$@" 2>/dev/null`}, cmd.Args...)
	cmd.Path = "/bin/sh"
	return cmd
}
