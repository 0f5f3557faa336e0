package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
)

// gatehouse is a server that signs in one user and one agent, and nothing else.
type gatehouse struct {
	*httptest.Server
	mu       sync.Mutex
	life     int             // of a token, in seconds
	n        int             // tokens issued
	live     map[string]bool // access tokens and keys
	refresh  string          // the one that can be redeemed
	mfa      bool
	device   []string // answers to the polls of a device, then a token
	redeemed int
	seen     []string // "method path credential", of what is not a sign-in
}

const (
	gatePassword = "canary-password-1f9d"
	gateCode     = "canary-code-77e0"
	gateUserKey  = "1ck_canary-user-key"
	gateAgentKey = "ocv_canary-agent-key"
)

func newGatehouse(t *testing.T) *gatehouse {
	g := &gatehouse{life: 900, live: map[string]bool{gateUserKey: true}}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	return g
}

func (g *gatehouse) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var in map[string]string
	_ = json.NewDecoder(r.Body).Decode(&in)
	w.Header().Set("Content-Type", "application/json")
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/auth/token":
		switch {
		case in["password"] != gatePassword:
			g.problem(w, 401, "about:blank")
		case g.mfa:
			fmt.Fprint(w, `{"access_token": "", "token_type": "Bearer", "expires_in": 300, "mfa_required": true, "mfa_token": "canary-challenge"}`)
		default:
			g.token(w)
		}
	case "POST /v1/auth/signup":
		g.when(w, in["password"] == gatePassword && in["email"] == "a@b.example" && (in["invitation"] == "1inv_canary" || in["org_name"] == "mine"))
	case "POST /v1/auth/mfa/verify":
		g.when(w, in["code"] == gateCode && in["mfa_token"] == "canary-challenge")
	case "POST /v1/auth/refresh":
		g.redeemed++
		if in["refresh_token"] != g.refresh { // reuse: the family is dead
			g.refresh = "none"
		}
		g.when(w, in["refresh_token"] == g.refresh)
	case "POST /v1/auth/agent-token":
		g.when(w, in["api_key"] == gateAgentKey)
	case "POST /v1/auth/device/code":
		fmt.Fprintf(w, `{"device_code": "canary-device", "user_code": "BCDF-GHJK", "verification_uri": "%s/device", "expires_in": 600, "interval": 0}`, g.URL)
	case "POST /v1/auth/device/token":
		if len(g.device) > 0 {
			g.problem(w, 400, g.device[0])
			g.device = g.device[1:]
			return
		}
		g.when(w, in["device_code"] == "canary-device")
	default:
		g.guarded(w, r, in)
	}
}

func (g *gatehouse) when(w http.ResponseWriter, ok bool) {
	if !ok {
		g.problem(w, 401, "about:blank")
		return
	}
	g.token(w)
}

func (g *gatehouse) token(w http.ResponseWriter) {
	g.n++
	access := fmt.Sprint("canary-access-", g.n)
	g.refresh = fmt.Sprint("canary-refresh-", g.n)
	g.live[access] = true
	fmt.Fprintf(w, `{"access_token": %q, "token_type": "Bearer", "expires_in": %d, "refresh_token": %q}`, access, g.life, g.refresh)
}

func (g *gatehouse) problem(w http.ResponseWriter, status int, kind string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type": %q, "detail": "no"}`, kind)
}

// guarded answers what needs a credential.
func (g *gatehouse) guarded(w http.ResponseWriter, r *http.Request, in map[string]string) {
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	g.seen = append(g.seen, r.Method+" "+r.URL.Path+" "+bearer)
	switch {
	case !g.live[bearer]:
		g.problem(w, 401, "about:blank")
	case r.URL.Path == "/v1/auth/tokens":
		clear(g.live)
		w.WriteHeader(204)
	case r.URL.Path == "/v1/auth/token":
		delete(g.live, bearer)
		if in["refresh_token"] == g.refresh {
			g.refresh = "none"
		}
		w.WriteHeader(204)
	case r.URL.Path == "/v1/auth/me":
		fmt.Fprint(w, `{"id": "u1", "email": "a@b.example", "role": "owner", "org_id": "o1"}`)
	case r.URL.Path == "/v1/agents/me":
		fmt.Fprint(w, `{"id": "g1", "name": "bot", "org_id": "o1"}`)
	default:
		fmt.Fprint(w, `{"vaults": []}`)
	}
}

// visitor is a shell with a config directory of its own and no credential.
func visitor(t *testing.T, g *gatehouse) *shell {
	return &shell{t: t, env: map[string]string{"KEYFOLD_URL": g.URL, "KEYFOLD_CONFIG_DIR": filepath.Join(t.TempDir(), "config"), "KEYFOLD_DATA": t.TempDir()}}
}

// fails runs a command that must fail with that code and say so.
func (sh *shell) fails(code int, says, stdin string, args ...string) {
	sh.t.Helper()
	if got, out, err := sh.try(stdin, args...); got != code || !strings.Contains(err, says) || out != "" {
		sh.t.Errorf("keyfold %s: exit %d, %q, %q; want exit %d and %q", strings.Join(args, " "), got, out, err, code, says)
	}
}

func (sh *shell) config() string { return filepath.Join(sh.env["KEYFOLD_CONFIG_DIR"], configFileName) }

// mustNotTell fails when a credential was printed.
func (sh *shell) mustNotTell() {
	sh.t.Helper()
	if strings.Contains(sh.all.String(), "canary") {
		sh.t.Errorf("a credential was printed:\n%s", &sh.all)
	}
}

func TestEveryWayToSignInLeavesACredentialForTheNextCommand(t *testing.T) {
	for name, c := range map[string]struct {
		stdin  string
		args   []string
		set    func(*gatehouse)
		who    string // in what login says
		bearer string // of the command after it
	}{
		"password":            {gatePassword + "\n", []string{"--email", "a@b.example"}, nil, "a@b.example, owner of org o1", "canary-access-1"},
		"a second factor":     {gatePassword + "\r\n" + gateCode, []string{"--email", "a@b.example"}, func(g *gatehouse) { g.mfa = true }, "a@b.example", "canary-access-1"},
		"a device code":       {"", nil, func(g *gatehouse) { g.device = nil }, "a@b.example", "canary-access-1"},
		"a user's key":        {gateUserKey + "\n", []string{"--with-key"}, nil, "a@b.example", gateUserKey},
		"an agent's key":      {gateAgentKey, []string{"--with-key"}, nil, "the agent bot of org o1", "canary-access-1"},
		"a key in a flag":     {"", []string{"--api-key", gateUserKey}, nil, "a@b.example", gateUserKey},
		"an agent's, in JSON": {gateAgentKey, []string{"--with-key", "--json"}, nil, `"kind": "agent"`, "canary-access-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGatehouse(t)
			if c.set != nil {
				c.set(g)
			}
			sh := visitor(t, g)
			code, out, stderr := sh.try(c.stdin, append([]string{"login"}, c.args...)...)
			if code != 0 || !strings.Contains(out, c.who) {
				t.Fatalf("exit %d, %q, %q", code, out, stderr)
			}
			if c.args == nil && !strings.Contains(stderr, "keyfold login approve BCDF-GHJK") {
				t.Errorf("nobody is told the code: %q", stderr)
			}
			for path, want := range map[string]os.FileMode{sh.config(): 0o600, sh.env["KEYFOLD_CONFIG_DIR"]: 0o700} {
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
					t.Errorf("%s: %v, %v", path, info.Mode(), err)
				}
			}
			sh.env["KEYFOLD_URL"] = "" // the file names it
			sh.run("vault", "list")
			if last := g.seen[len(g.seen)-1]; last != "GET /v1/vaults "+c.bearer {
				t.Errorf("then: %s", last)
			}
			sh.run("whoami")
			sh.mustNotTell()
		})
	}
}

func TestWhoSignsUpIsSignedIn(t *testing.T) {
	g := newGatehouse(t)
	for stdin, flags := range map[string]string{gatePassword + "\n1inv_canary\n": "--invited", gatePassword: "--org mine --name A"} {
		sh := visitor(t, g)
		code, out, stderr := sh.try(stdin, append([]string{"signup", "--email", "a@b.example"}, strings.Fields(flags)...)...)
		if code != 0 || !strings.Contains(out, "as a@b.example, owner of org o1") {
			t.Errorf("%s: exit %d, %q, %q", flags, code, out, stderr)
		}
		sh.run("vault", "list")
		sh.fails(2, "Invitation is missing", gatePassword, "signup", "--email", "a@b.example", "--invited")
		sh.fails(2, "email", "", "signup")
		sh.mustNotTell()
	}
}

func TestAWrongCredentialIsNotSaved(t *testing.T) {
	g := newGatehouse(t)
	g.device = []string{api.DeviceDenied}
	sh := visitor(t, g)
	sh.fails(1, "nothing was saved", "canary-wrong\n", "login", "--email", "a@b.example")
	sh.fails(1, "nothing was saved", "1ck_canary-wrong\n", "login", "--with-key")
	sh.fails(1, "nothing was saved", "ocv_canary-wrong\n", "login", "--with-key")
	sh.fails(2, "Password is missing", "", "login", "--email", "a@b.example")
	sh.fails(2, "give one", "", "login", "--with-key", "--api-key", "x")
	sh.fails(2, "email with-key", "", "login", "--with-key", "--email", "a@b.example")
	if code, _, stderr := sh.try("", "login"); code != 1 || !strings.Contains(stderr, "was denied") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	sh.env["KEYFOLD_URL"] = ""
	sh.fails(1, "keyfold login --url https://", "", "login")
	if _, err := os.Stat(sh.config()); err == nil {
		t.Error("something was saved")
	}
	sh.mustNotTell()
}

// Every command wants the token renewed; a refresh token that is redeemed twice
// ends the sign-in.
func TestCommandsAtOnceRedeemARefreshTokenOnce(t *testing.T) {
	g := newGatehouse(t)
	g.life = 30 // renewed by the next command
	sh := visitor(t, g)
	if code, _, stderr := sh.try(gatePassword, "login", "--email", "a@b.example"); code != 0 {
		t.Fatal(stderr)
	}
	g.mu.Lock()
	g.life = 900
	g.mu.Unlock()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			mine := &shell{t: t, env: sh.env}
			if code, _, stderr := mine.try("", "vault", "list"); code != 0 {
				t.Error(stderr)
			}
		})
	}
	wg.Wait()
	if g.redeemed != 1 {
		t.Errorf("redeemed %d times", g.redeemed)
	}
	saved, err := readCredential(sh.env["KEYFOLD_CONFIG_DIR"])
	if err != nil || saved.Access != "canary-access-2" || saved.Refresh != "canary-refresh-2" || time.Until(saved.Expires) < 10*time.Minute {
		t.Errorf("saved %s, %s, %v, %v", saved.Access, saved.Refresh, saved.Expires, err)
	}
}

func TestASignInThatHasEndedSaysHowToGoOn(t *testing.T) {
	g := newGatehouse(t)
	g.life = 30
	sh := visitor(t, g)
	sh.try(gatePassword, "login", "--email", "a@b.example")
	g.refresh = "another"
	sh.fails(1, "hint: sign in: keyfold login", "", "vault", "list")

	g.life = 900
	sh.try(gatePassword, "login", "--email", "a@b.example")
	clear(g.live) // revoked: it is not renewed
	redeemed := g.redeemed
	sh.fails(1, "hint: sign in: keyfold login", "", "vault", "list")
	if g.redeemed != redeemed {
		t.Error("a 401 made it renew")
	}
	sh.mustNotTell()
}

func TestLogoutEndsTheTokenAndRemovesTheFile(t *testing.T) {
	g := newGatehouse(t)
	sh := visitor(t, g)
	if out := sh.run("logout"); out != "you were not signed in" {
		t.Error(out)
	}
	sh.try(gatePassword, "login", "--email", "a@b.example")
	sh.env["KEYFOLD_API_KEY"] = gateUserKey // which logout has no part in
	if out := sh.run("logout", "--json"); !strings.Contains(out, `"revoked": true`) {
		t.Error(out)
	}
	if _, err := os.Stat(sh.config()); err == nil || g.live["canary-access-1"] || g.refresh != "none" || !g.live[gateUserKey] {
		t.Errorf("%v; live: %v, %s", err, g.live, g.refresh)
	}

	// A key is removed and lives on, unless all sessions are to end.
	delete(sh.env, "KEYFOLD_API_KEY")
	sh.try(gateUserKey, "login", "--with-key")
	if out := sh.run("logout", "--json"); !strings.Contains(out, `"revoked": false`) || !g.live[gateUserKey] {
		t.Error(out)
	}
	sh.try(gatePassword, "login", "--email", "a@b.example")
	sh.run("logout", "--everywhere")
	if len(g.live) > 0 {
		t.Errorf("live: %v", g.live)
	}

	// Without the server, the file goes too, and the user knows.
	sh.try(gatePassword, "login", "--email", "a@b.example")
	g.Close()
	sh.fails(1, "could not be told", "", "logout")
	if _, err := os.Stat(sh.config()); err == nil {
		t.Error("the file is still there")
	}
	sh.mustNotTell()
}

func TestACredentialFileThatOthersCanReadIsNotUsed(t *testing.T) {
	g := newGatehouse(t)
	sh := visitor(t, g)
	sh.try(gateUserKey, "login", "--with-key")
	for what, do := range map[string]func() error{
		"mode 0600": func() error { return os.Chmod(sh.config(), 0o640) },
		"not what":  func() error { return os.WriteFile(sh.config(), []byte(`{"url": "canary`), 0o600) },
		"is not used": func() error {
			os.Rename(sh.config(), sh.config()+".x")
			return os.Symlink(sh.config()+".x", sh.config())
		},
	} {
		os.Remove(sh.config())
		sh.try(gateUserKey, "login", "--with-key")
		if err := do(); err != nil {
			t.Fatal(err)
		}
		before := len(g.seen)
		sh.fails(1, what, "", "vault", "list")
		sh.fails(1, what, "", "whoami")
		if len(g.seen) != before {
			t.Errorf("%s: it was sent", what)
		}
	}
	os.Remove(sh.config())
	if err := os.Chmod(sh.env["KEYFOLD_CONFIG_DIR"], 0o777); err != nil {
		t.Fatal(err)
	}
	sh.fails(1, "you alone can write to", gateUserKey, "login", "--with-key")
	sh.mustNotTell()
}

// The rows are what is given of: flag or environment, the saved sign-in, the
// development server. Nothing that was saved for one server goes to another.
func TestWhereAndWhoAreChosenTogether(t *testing.T) {
	const saved, dev, other = "http://saved.test", "http://dev.test", "http://other.test"
	for name, c := range map[string]struct {
		url, key, savedURL string
		dev                bool
		admin              bool
		want               string // url, key or "saved"; or the error
	}{
		"flags alone":                             {url: other, key: "k", want: other + " k"},
		"flags win":                               {url: other, key: "k", savedURL: saved, dev: true, want: other + " k"},
		"the saved sign-in":                       {savedURL: saved, want: saved + " saved"},
		"its server is named":                     {url: saved + "/", savedURL: saved, want: saved + " saved"},
		"another server is named":                 {url: other, savedURL: saved, want: "there is a server and no API key"},
		"another server, and a development's":     {url: other, savedURL: saved, dev: true, want: "there is a server and no API key"},
		"a key for the saved server":              {key: "k", savedURL: saved, want: saved + " k"},
		"a key for nobody":                        {key: "k", dev: true, want: "no server to send it to"},
		"the development server":                  {dev: true, want: dev + " devkey"},
		"the development server is nearer":        {dev: true, savedURL: saved, want: dev + " devkey"},
		"signed in at the development server":     {dev: true, savedURL: dev, want: dev + " saved"},
		"an operator of the development server":   {dev: true, savedURL: dev, admin: true, want: dev + " devadmin"},
		"an operator elsewhere":                   {savedURL: saved, admin: true, want: saved + " saved"},
		"nothing":                                 {want: "no server is given"},
		"the development server is named, no key": {url: dev, dev: true, want: "there is a server and no API key"},
	} {
		dir, data := t.TempDir(), t.TempDir()
		env := map[string]string{"KEYFOLD_CONFIG_DIR": dir, "KEYFOLD_DATA": data, "KEYFOLD_URL": c.url, "KEYFOLD_API_KEY": c.key}
		a := &app{getenv: func(name string) string { return env[name] }}
		if c.savedURL != "" {
			if err := changeCredential(dir, func(credential) (credential, error) { return credential{URL: c.savedURL, APIKey: "s"}, nil }); err != nil {
				t.Fatal(err)
			}
		}
		if c.dev {
			if err := writeDevFile(filepath.Join(data, devFileName), devFile{URL: dev, APIKey: "devkey", AdminKey: "devadmin"}); err != nil {
				t.Fatal(err)
			}
		}
		devKey := ownersKey
		if c.admin {
			devKey = func(d devFile) string { return d.AdminKey }
		}
		who, err := a.caller(devKey)
		got := who.url + " " + who.key
		if who.dir != "" {
			got = who.url + " saved"
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestACodeIsApprovedOnceItIsLookedAt(t *testing.T) {
	var seen []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.URL.Path)
		if r.Method == "POST" {
			w.WriteHeader(204)
			return
		}
		fmt.Fprint(w, `{"user_code": "BCDF-GHJK", "client_id": "keyfold\u001b[2J", "ip_address": "10.1.2.3"}`)
	}))
	defer s.Close()
	sh := &shell{t: t, env: map[string]string{"KEYFOLD_URL": s.URL, "KEYFOLD_API_KEY": "1ck_x"}}
	if out := sh.run("login", "approve", "bcdf-ghjk"); out != "approved keyfold [2J at 10.1.2.3" {
		t.Errorf("%q", out)
	}
	sh.run("login", "deny", "BCDF-GHJK", "--json")
	want := []string{"GET /v1/auth/device/code/bcdf-ghjk", "POST /v1/auth/device/code/BCDF-GHJK/approve",
		"GET /v1/auth/device/code/BCDF-GHJK", "POST /v1/auth/device/code/BCDF-GHJK/deny"}
	if d := cmp.Diff(want, seen); d != "" {
		t.Error(d)
	}
	sh.fails(2, "accepts 1 arg", "", "login", "approve")
	sh.fails(2, "unknown command", "", "login", "aprove")
}
