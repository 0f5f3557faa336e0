package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// notary is a server that keeps the last request and gives one answer.
type notary struct {
	*httptest.Server
	status       int
	answer, last string // of last: method, path with query, body
	calls        int
}

func newNotary(t *testing.T) (*notary, *shell) {
	n := &notary{status: 200}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n.calls++
		n.last = strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.URL.RequestURI(), body))
		w.WriteHeader(n.status)
		io.WriteString(w, n.answer)
	}))
	t.Cleanup(n.Close)
	return n, &shell{t: t, env: map[string]string{"KEYFOLD_URL": n.URL, "KEYFOLD_API_KEY": "1ck_x", "KEYFOLD_VAULT": "v1"}}
}

const (
	anAgent  = `{"id": "g1", "name": "bot", "is_active": true, "scopes": ["prod/**"], "vault_ids": ["v1", "v2"], "token_ttl_seconds": 900, "created_at": "2026-01-02T03:04:05Z"}`
	aPolicy  = `{"id": "p1", "vault_id": "v1", "secret_path_pattern": "a/**", "principal_type": "agent", "principal_id": "g1", "permissions": ["read"], "conditions": {"ip_allowlist": ["::1"]}, "effect": "deny", "priority": 3, "created_at": "2026-01-02T03:04:05Z"}`
	aKey     = `{"id": "k1", "name": "ci", "key_prefix": "1ck_abcdefgh", "is_active": true, "role": "backend", "created_at": "2026-01-02T03:04:05Z"}`
	aMember  = `{"id": "u1", "email": "a@b.example", "role": "admin", "auth_method": "password", "created_at": "2026-01-02T03:04:05Z"}`
	anInvite = `{"id": "i1", "email": "a@b.example", "role": "member", "invited_by": "u1", "expires_at": "2026-01-02T03:04:05Z"}`
	aShare   = `{"id": "s1", "secret_path": "db/password", "recipient_type": "anyone_with_link", "access_count": 1, "max_access_count": 2, "expires_at": "2026-01-02T03:04:05Z"}`
	anEvent  = `{"id": "e1", "actor_type": "agent", "actor_id": "g1", "action": "secret.read", "outcome": "refused", "resource_type": "secret", "resource_id": "s1", "details": {"path": "db/password"}, "ip_address": "10.1.2.3", "created_at": "2026-01-02T03:04:05Z"}`
)

// Each command, what it asks of the server, and what it prints of the answer.
func TestEveryCommandAsksWhatItsFlagsSay(t *testing.T) {
	n, sh := newNotary(t)
	for _, c := range []struct {
		args, answer, sent, prints string // prints: the first words of each part that must be there, separated by |
	}{
		{"agent create bot --scope prod/** --scope a/* --vault v1 --token-ttl 15m --expires 2031-01-02T00:00:00Z --description d", `{"agent": ` + anAgent + `, "api_key": "ocv_shown"}`,
			`POST /v1/agents {"name":"bot","description":"d","scopes":["prod/**","a/*"],"expires_at":"2031-01-02T00:00:00Z","token_ttl_seconds":900,"vault_ids":["v1"]}`, "g1|API key  ocv_shown"},
		{"agent create bot", `{"agent": ` + anAgent + `, "api_key": "ocv_shown"}`, `POST /v1/agents {"name":"bot"}`, "ocv_shown"},
		{"agent list", `{"agents": [` + anAgent + `]}`, "GET /v1/agents", "ID  |LAST ACTIVE|g1  bot   active  prod/**  2 "},
		{"agent list --json", `{"agents": []}`, "GET /v1/agents", `"agents": []`},
		{"agent get g1", anAgent, "GET /v1/agents/g1", "Token TTL    15m0s|Vaults       v1 v2"},
		{"agent update g1 --active=false --scope= --name x", anAgent, `PATCH /v1/agents/g1 {"name":"x","is_active":false,"scopes":[]}`, "Name         bot"},
		{"agent update g1 --vault v1,v2 --token-ttl 60s --key-expires 2031-01-02T00:00:00Z", anAgent, `PATCH /v1/agents/g1 {"api_key_expires_at":"2031-01-02T00:00:00Z","token_ttl_seconds":60,"vault_ids":["v1","v2"]}`, "g1"},
		{"agent rotate-key g1", `{"api_key": "ocv_shown"}`, "POST /v1/agents/g1/rotate-key", "ocv_shown"},
		{"agent delete g1", "", "DELETE /v1/agents/g1", "deleted g1"},

		{"policy create --agent g1 --path a/** --permission read,write", aPolicy,
			`POST /v1/vaults/v1/policies {"secret_path_pattern":"a/**","principal_type":"agent","principal_id":"g1","permissions":["read","write"]}`, "p1"},
		{"policy create v9 --user u1 --path ** --permission delete --permission rotate --deny --priority 3 --expires 2031-01-02T00:00:00Z --ip 10.0.0.0/8,::1 --hours 22:00-06:00 --weekday mon,fri --timezone Europe/Berlin", aPolicy,
			`POST /v1/vaults/v9/policies {"secret_path_pattern":"**","principal_type":"user","principal_id":"u1","permissions":["delete","rotate"],` +
				`"conditions":{"ip_allowlist":["10.0.0.0/8","::1"],"time_window":{"after":"22:00","before":"06:00","timezone":"Europe/Berlin","weekdays":["mon","fri"]}},` +
				`"expires_at":"2031-01-02T00:00:00Z","effect":"deny","priority":3}`, "p1"},
		{"policy list", `{"policies": [` + aPolicy + `]}`, "GET /v1/vaults/v1/policies", `agent:g1   a/**  deny    read         3         from ::1    never`},
		{"policy delete p1", "", "DELETE /v1/vaults/v1/policies/p1", "deleted p1"},
		{"policy delete v9 p1 --json", "", "DELETE /v1/vaults/v9/policies/p1", `"deleted": true`},

		{"key create ci", `{"key": ` + aKey + `, "api_key": "1ck_shown"}`, `POST /v1/auth/api-keys {"name":"ci"}`, "API key  1ck_shown"},
		{"key create ci --role backend --expires 2031-01-02T00:00:00Z --json", `{"key": ` + aKey + `, "api_key": "1ck_shown"}`, `POST /v1/auth/api-keys {"name":"ci","expires_at":"2031-01-02T00:00:00Z","role":"backend"}`, `"api_key": "1ck_shown"`},
		{"key create ci --role user --scope prod/**", `{"key": ` + aKey + `, "api_key": "1ck_shown"}`, `POST /v1/auth/api-keys {"name":"ci","scopes":["prod/**"]}`, "k1"},
		{"key create ops --role admin", `{"key": ` + aKey + `, "api_key": "1ck_shown"}`, `POST /admin/keys {"name":"ops"}`, "k1"},
		{"key list", `{"keys": [` + aKey + `]}`, "GET /v1/auth/api-keys", "k1  ci    backend  1ck_abcdefgh  -       active  never    never"},
		{"key delete k1", "", "DELETE /v1/auth/api-keys/k1", "deleted k1"},

		{"member list", `{"members": [` + aMember + `]}`, "GET /v1/org/members", "u1  a@b.example  -     admin  password"},
		{"member invite a@b.example", `{"invitation": ` + anInvite + `, "text": "1inv_shown"}`, `POST /v1/org/invitations {"email":"a@b.example","role":"member"}`, "Invitation  1inv_shown"},
		{"member role u1 admin", aMember, `PATCH /v1/org/members/u1 {"role":"admin"}`, "a@b.example is admin"},
		{"member remove u1", "", "DELETE /v1/org/members/u1", "deleted u1"},
		{"member invitations", `{"invitations": [` + anInvite + `]}`, "GET /v1/org/invitations", "i1  a@b.example  member  u1"},
		{"member uninvite i1", "", "DELETE /v1/org/invitations/i1", "deleted i1"},

		{"share list", `{"shares": [` + aShare + `]}`, "GET /v1/shares/outbound", "s1  db/password  anyone_with_link  1 of 2  open"},
		{"share list --received --json", `{"shares": [` + aShare + `]}`, "GET /v1/shares/inbound", `"secret_path": "db/password"`},
		{"share revoke s1", "", "DELETE /v1/share/s1", "deleted s1"},
		{"share read s1", `{"id": "s1", "path": "a", "value": "the bytes", "version": 1}`, "GET /v1/share/s1", "the bytes"},

		{"audit list --resource v1 --actor g1 --action secret.read --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00+01:00 --limit 5", `{"events": [` + anEvent + `]}`,
			"GET /v1/audit/events?action=secret.read&actor_id=g1&from=2026-01-01T00%3A00%3A00Z&limit=5&resource_id=v1&to=2026-01-31T23%3A00%3A00Z",
			"2026-01-02T03:04:05Z  agent:g1  secret.read  refused  secret:s1  db/password  10.1.2.3"},
		{"audit list --json", `{"events": []}`, "GET /v1/audit/events?limit=100", `"count": 0`},
		{"audit keys", `{"keys": [{"id": "0011", "public_key": "AAAA"}]}`, "GET /.well-known/keyfold-audit.json", "0011  AAAA"},

		{"admin plan o1 free", `{"org_id": "o1", "tier": "free", "expires_at": null}`, `PUT /v1/admin/orgs/o1/billing-tier {"tier":"free"}`, "Plan  free|Ends  never"},
		{"admin plan o1 business --days 30", `{"org_id": "o1", "tier": "business", "expires_at": "2026-01-02T03:04:05Z"}`, `PUT /v1/admin/orgs/o1/billing-tier {"tier":"business","duration_days":30}`, "Ends  2026-01-02"},
	} {
		n.answer, n.last = c.answer, ""
		code, out, stderr := sh.try("", strings.Fields(c.args)...)
		if code != 0 || n.last != c.sent {
			t.Errorf("%s: exit %d, %s\n%s, want\n%s", c.args, code, stderr, n.last, c.sent)
		}
		for part := range strings.SplitSeq(c.prints, "|") {
			if !strings.Contains(out, part) {
				t.Errorf("%s: no %q in\n%s", c.args, part, out)
			}
		}
	}
}

func TestAWrongCommandIsToldBeforeAnythingIsSent(t *testing.T) {
	n, sh := newNotary(t)
	for args, says := range map[string]string{
		"agent create":                              "accepts 1 arg",
		"agent create a --expires soon":             "--expires wants a time",
		"agent update g1":                           "nothing is to be changed",
		"policy create --path ** --permission read": "[user agent]",
		"policy create --user u --agent g --path ** --permission read":                "[user agent]",
		"policy create --user u --path **":                                            "permission",
		"policy create --user u --permission read":                                    "path",
		"policy create --user u --path ** --permission read --hours 8-18":             "--hours wants",
		"policy create --user u --path ** --permission read --hours 08:00":            "--hours wants",
		"policy create --user u --path ** --permission read --hours 08:00-25:00":      "--hours wants",
		"policy create --user u --path ** --permission read --timezone Europe/Berlin": "--timezone is that of",
		"key create k --role root":                                                    "--role is one of user, backend, frontend, admin",
		"member role u1 king":                                                         "a role is one of",
		"member invite a@b --role king":                                               "a role is one of",
		"share create p --link":                                                       "expires",
		"share create p --expires 1h":                                                 "[user agent email link]",
		"share create p --link --user u --expires 1h":                                 "[user agent email link]",
		"share read s --json --out f":                                                 "give one",
		"audit list --limit 0":                                                        "--limit wants",
		"audit list --from soon":                                                      "--from wants a time",
		"audit verify --public-key AAAA":                                              "base64 of 32 bytes",
		"audit verify --file f --from 1h":                                             "file from",
		"admin plan o1 gold":                                                          "a plan is one of free, pro, business, enterprise",
	} {
		sh.fails(2, says, "", strings.Fields(args)...)
	}
	if n.calls > 0 {
		t.Errorf("the last of %d calls: %s", n.calls, n.last)
	}
}

func TestAThingThatIsNotThereSaysWhereToLook(t *testing.T) {
	n, sh := newNotary(t)
	n.status, n.answer = 404, `{"type": "about:blank", "detail": "there is no such thing here"}`
	for args, hint := range map[string]string{
		"agent get g1": "keyfold agent list", "agent delete g1": "keyfold agent list", "agent update g1 --name x": "keyfold agent list", "agent rotate-key g1": "keyfold agent list",
		"policy create --user u --path ** --permission read": "keyfold vault list", "policy delete p1": "keyfold policy list",
		"key delete k1": "keyfold key list", "member remove u1": "keyfold member list", "member role u1 admin": "keyfold member list", "member uninvite i1": "keyfold member invitations",
		"share revoke s1": "keyfold share list", "admin plan o1 free": "keyfold whoami", "login approve X": "keyfold login",
	} {
		sh.fails(1, "hint: ", "", strings.Fields(args)...)
		if _, _, stderr := sh.try("", strings.Fields(args)...); !strings.Contains(stderr, hint) {
			t.Errorf("%s: %s", args, stderr)
		}
	}
}

func TestAKeyGoesToItsFileOrIsShown(t *testing.T) {
	n, sh := newNotary(t)
	n.answer = `{"agent": ` + anAgent + `, "api_key": "ocv_shown"}`
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.key")
	for _, asJSON := range []string{"--json=false", "--json"} {
		os.Remove(file)
		_, out, stderr := sh.try("", "agent", "create", "bot", "--key-out", file, asJSON)
		text, err := os.ReadFile(file)
		if err != nil || string(text) != "ocv_shown\n" || strings.Contains(out+stderr, "shown") || !strings.Contains(out, "g1") {
			t.Errorf("%s: %q, %v; printed %q %q", asJSON, text, err, out, stderr)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	calls := n.calls
	sh.fails(1, "is there already", "", "agent", "create", "bot", "--key-out", file)
	sh.fails(1, "no such file", "", "agent", "rotate-key", "g1", "--key-out", filepath.Join(dir, "no", "agent.key"))
	if n.calls != calls {
		t.Error("a key was made that there is no place for")
	}
	n.status = 403
	sh.fails(1, "HTTP 403", "", "agent", "rotate-key", "g1", "--key-out", filepath.Join(dir, "other.key"))
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%v is left", left)
	}
}

// The file that the key is for appears while the key is made.
func TestAKeyThatCannotBeWrittenIsNotLost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.key")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := os.WriteFile(file, []byte("theirs"), 0o600); err != nil {
			t.Error(err)
		}
		io.WriteString(w, `{"api_key": "ocv_shown"}`)
	}))
	defer s.Close()
	sh := &shell{t: t, env: map[string]string{"KEYFOLD_URL": s.URL, "KEYFOLD_API_KEY": "1ck_x"}}
	code, out, stderr := sh.try("", "agent", "rotate-key", "g1", "--key-out", file)
	if code != 1 || !strings.Contains(out, "ocv_shown") || !strings.Contains(stderr, "so here it is") {
		t.Errorf("exit %d, %q, %q", code, out, stderr)
	}
	if text, _ := os.ReadFile(file); string(text) != "theirs" {
		t.Errorf("%q", text)
	}
}

func TestASecondFactorIsConfirmedAndShowsItsCodes(t *testing.T) {
	var bodies []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies = append(bodies, r.Method+" "+r.URL.Path+" "+strings.TrimSpace(string(body)))
		switch r.Method + r.URL.Path {
		case "POST/v1/auth/mfa/totp":
			io.WriteString(w, `{"secret": "JBSWY3DP", "otpauth_uri": "otpauth://totp/x"}`)
		case "POST/v1/auth/mfa/totp/confirm":
			io.WriteString(w, `{"recovery_codes": ["one", "two"]}`)
		default:
			w.WriteHeader(204)
		}
	}))
	defer s.Close()
	sh := &shell{t: t, env: map[string]string{"KEYFOLD_URL": s.URL, "KEYFOLD_API_KEY": "1ck_x"}}
	code, out, _ := sh.try("pw\n123456\n", "totp", "enable")
	if code != 0 || !strings.Contains(out, "Secret  JBSWY3DP") || !strings.Contains(out, "Recovery code  two") {
		t.Errorf("exit %d, %s", code, out)
	}
	if code, out, _ := sh.try("123456", "totp", "disable", "--json"); code != 0 || !strings.Contains(out, `"totp_enabled": false`) {
		t.Errorf("exit %d, %s", code, out)
	}
	want := `POST /v1/auth/mfa/totp {"password":"pw"}|POST /v1/auth/mfa/totp/confirm {"code":"123456"}|DELETE /v1/auth/mfa/totp {"code":"123456"}`
	if got := strings.Join(bodies, "|"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAShareNamesItsSecretAndIsReadWithoutASignIn(t *testing.T) {
	var bodies []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies = append(bodies, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body)))
		switch {
		case r.URL.Path == "/v1/vaults/v1":
			io.WriteString(w, `{"id": "v1", "cmek_enabled": true, "cmek_fingerprint": "ff"}`)
		case strings.HasSuffix(r.URL.Path, "/secrets"):
			io.WriteString(w, `{"secrets": [{"id": "s0", "path": "db/password2"}, {"id": "s1", "path": "db/password"}]}`)
		case r.Method == "GET":
			w.WriteHeader(403)
			io.WriteString(w, `{"type": "share_passphrase", "detail": "a passphrase is needed"}`)
		case strings.HasPrefix(r.URL.Path, "/v1/share/"):
			io.WriteString(w, `{"id": "h1", "path": "db/password", "value": "the bytes", "version": 1}`)
		default:
			io.WriteString(w, `{"id": "h1", "share_url": "http://x/v1/share/h1.token"}`)
		}
	}))
	defer s.Close()
	sh := &shell{t: t, env: map[string]string{"KEYFOLD_URL": s.URL, "KEYFOLD_API_KEY": "1ck_x", "KEYFOLD_VAULT": "v1"}}
	code, out, stderr := sh.try("open sesame\n", "share", "create", "db/password", "--link", "--expires", "2031-01-02T00:00:00Z", "--max-reads", "1", "--passphrase", "--ip", "10.0.0.0/8", "--recipient-has-key")
	want := `POST /v1/secrets/s1/share Bearer 1ck_x {"recipient_type":"anyone_with_link","expires_at":"2031-01-02T00:00:00Z","max_access_count":1,"passphrase":"open sesame","ip_allowlist":["10.0.0.0/8"],"recipient_has_key":true,"cmek_fingerprint":"ff"}`
	if code != 0 || out != "http://x/v1/share/h1.token\n" || bodies[len(bodies)-1] != want {
		t.Errorf("exit %d, %q, %q\n%s, want\n%s", code, out, stderr, bodies[len(bodies)-1], want)
	}
	sh.fails(1, "there is no secret db/passwor that you can see", "", "share", "create", "db/passwor", "--link", "--expires", "1h")

	anybody := &shell{t: t, env: map[string]string{"KEYFOLD_CONFIG_DIR": t.TempDir(), "KEYFOLD_DATA": t.TempDir()}}
	link := s.URL + "/v1/share/h1.token"
	anybody.fails(1, "give the right one with --passphrase", "", "share", "read", link)
	code, out, stderr = anybody.try(link+"\nopen sesame\n", "share", "read", "-", "--passphrase")
	if want := `POST /v1/share/h1.token  {"passphrase":"open sesame"}`; code != 0 || out != "the bytes" || bodies[len(bodies)-1] != want {
		t.Errorf("exit %d, %q, %q, %s", code, out, stderr, bodies[len(bodies)-1])
	}
	// A link of another server does not get our key.
	sh.env["KEYFOLD_URL"] = "http://127.0.0.1:1"
	code, out, stderr = sh.try("open sesame", "share", "read", link, "--passphrase")
	if last := bodies[len(bodies)-1]; code != 0 || out != "the bytes" || strings.Contains(last, "1ck_x") {
		t.Errorf("exit %d, %q, %q; sent: %s", code, out, stderr, last)
	}
}
