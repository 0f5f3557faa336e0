package external

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"github.com/keyfold/keyfold/test/programs"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// confidant uses a server as all kinds of callers do, and keeps what it learns
// and says that nobody else may know.
type confidant struct {
	*server
	traces  *output           // what a collector got of both processes
	rows    string            // the directory of a Pebble store with the server's rows
	files   []string          // other directories in which no secret may be
	out     string            // a directory for trails, metrics, refusals, traces and the log
	secrets map[string]string // by what they are
	codes   map[string]string // those of a few characters
	said    strings.Builder   // requests, and answers that are no refusals
	refused strings.Builder   // answers that are
}

// ask makes a request as key, whose headers are "Name: value".
func (c *confidant) ask(key, method, path, body string, headers ...string) (status int, answer string) {
	c.t.Helper()
	req, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode > 499 {
		c.t.Errorf("%s %s = %d", method, path, res.StatusCode)
	}
	c.said.WriteString(strings.Join(append(headers, key, path, body), "\n") + "\n")
	to := &c.said
	if res.StatusCode > 299 {
		to = &c.refused
	}
	fmt.Fprintf(to, "%s\n%v\n", text, res.Header)
	return res.StatusCode, string(text)
}

// get is ask for what succeeds.
func (c *confidant) get(key, method, path, body string, headers ...string) map[string]any {
	c.t.Helper()
	status, text := c.ask(key, method, path, body, headers...)
	if status < 200 || status > 299 {
		c.t.Fatalf("%s %s = %d %s", method, path, status, text)
	}
	out := map[string]any{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			c.t.Fatalf("%s %s: %s", method, path, text)
		}
	}
	return out
}

// keep notes a secret and returns it.
func (c *confidant) keep(what string, v any) string {
	c.t.Helper()
	text, _ := v.(string)
	if len(text) < 12 {
		c.t.Fatalf("%s is %q", what, text)
	}
	c.secrets[fmt.Sprint(len(c.secrets), " ", what)] = text
	return text
}

// session signs in and keeps what that gives.
func (c *confidant) session(email, password string) string {
	c.t.Helper()
	v := c.get("", "POST", "/v1/auth/token", `{"email":"`+email+`","password":"`+password+`"}`)
	c.keep("a refresh token", v["refresh_token"])
	return c.keep("an access token", v["access_token"])
}

// code is the code of a TOTP secret now.
func code(t testing.TB, secret string) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha1.New, key)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(time.Now().Unix()/30)))
	sum := mac.Sum(nil)
	at := sum[19] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}

const (
	password      = "Correct-horse-battery-9!"
	otherPassword = "Another-staple-battery-7?"
	signUpBody    = `{"email":"carol@example.com","password":"` + password + `"}`
	otherBody     = `{"email":"dave@example.com","password":"` + otherPassword + `","invitation":"%s"}`
	wrong         = "a-wrong-Password-that-somebody-typed-1"
	weak          = "weakweakweakweak"
	passphrase    = "open sesame and be quick"
	noPassphrase  = "open barley and be quick"
	value         = "a value of a secret that nobody logs"
	message       = "a message of a thread that nobody logs"
)

// people sign up, in and out, with all factors. It returns the token of one.
func (c *confidant) people() (token string) {
	c.t.Helper()
	c.keep("a password", password)
	c.keep("a password", otherPassword)
	c.keep("a wrong password", wrong)
	c.keep("a weak password", weak)
	c.ask("", "POST", "/v1/auth/signup", strings.Replace(signUpBody, password, weak, 1))
	c.get("", "POST", "/v1/auth/signup", signUpBody)
	c.ask("", "POST", "/v1/auth/signup", signUpBody)
	token = c.session("carol@example.com", password)
	c.ask("", "POST", "/v1/auth/token", `{"email":"nobody@example.com","password":"`+wrong+`"}`)
	c.ask("", "POST", "/v1/auth/token", `{"email":"carol@example.com","password":["`+wrong+`"]}`)
	c.ask("", "POST", "/v1/auth/token", wrong)

	v := c.get("", "POST", "/v1/auth/token", signUpBody)
	used := c.keep("a refresh token", v["refresh_token"])
	v = c.get("", "POST", "/v1/auth/refresh", `{"refresh_token":"`+used+`"}`)
	c.keep("an access token", v["access_token"])
	c.keep("a refresh token", v["refresh_token"])
	c.ask("", "POST", "/v1/auth/refresh", `{"refresh_token":"`+used[:len(used)-2]+`"}`)
	c.get(v["access_token"].(string), "DELETE", "/v1/auth/token", `{"refresh_token":"`+v["refresh_token"].(string)+`"}`)
	c.ask(v["access_token"].(string), "GET", "/v1/auth/me", "")

	v = c.get(token, "POST", "/v1/auth/api-keys", `{"name":"k"}`)
	key := c.keep("a user's key", v["api_key"])
	v = c.get("", "POST", "/v1/auth/api-key-token", `{"api_key":"`+key+`"}`)
	c.keep("an access token", v["access_token"])
	c.ask("", "POST", "/v1/auth/api-key-token", `{"api_key":"`+key+`x"}`)
	c.ask(key+"x", "GET", "/v1/vaults", "")
	c.ask("", "GET", "/v1/vaults?api_key="+key+"&access_token="+token, "", "X-API-Key: "+key+"x")

	v = c.get(token, "POST", "/v1/org/invitations", `{"email":"dave@example.com"}`)
	invitation := c.keep("an invitation", v["text"])
	c.ask("", "POST", "/v1/auth/signup", strings.Replace(fmt.Sprintf(otherBody, invitation), "dave", "eve", 1))
	c.get("", "POST", "/v1/auth/signup", fmt.Sprintf(otherBody, invitation))
	c.ask("", "POST", "/v1/auth/signup", fmt.Sprintf(otherBody, invitation))

	v = c.get("", "POST", "/v1/auth/device/code", `{"client_id":"test"}`)
	device, user := c.keep("a device code", v["device_code"]), v["user_code"].(string)
	c.codes["a user code"] = user
	c.ask("", "POST", "/v1/auth/device/token", `{"device_code":"`+device+`","grant_type":"urn:ietf:params:oauth:grant-type:device_code"}`)
	c.get(token, "GET", "/v1/auth/device/code/"+user, "")
	c.get(token, "POST", "/v1/auth/device/code/"+user+"/approve", "")
	c.ask(token, "GET", "/v1/auth/device/code/"+user, "")
	c.ask("", "POST", "/v1/auth/device/token", `{"device_code":"`+device+`x","grant_type":"urn:ietf:params:oauth:grant-type:device_code"}`)
	c.factors(token)
	// Guesses come last: they slow carol down.
	c.ask("", "POST", "/v1/auth/token", `{"email":"carol@example.com","password":"`+wrong+`"}`)
	c.ask(token, "POST", "/v1/auth/change-password", `{"current_password":"`+wrong+`","new_password":"`+weak+`"}`)
	return token
}

// factors gives carol a second factor and signs in with it.
func (c *confidant) factors(token string) {
	c.t.Helper()
	v := c.get(token, "POST", "/v1/auth/mfa/totp", `{"password":"`+password+`"}`)
	secret := c.keep("a TOTP secret", v["secret"])
	c.codes["a TOTP code"] = code(c.t, secret)
	c.ask(token, "POST", "/v1/auth/mfa/totp/confirm", `{"code":"000000"}`)
	v = c.get(token, "POST", "/v1/auth/mfa/totp/confirm", `{"code":"`+c.codes["a TOTP code"]+`"}`)
	recovery := v["recovery_codes"].([]any)
	for i, text := range recovery {
		c.codes[fmt.Sprint("recovery code ", i)] = text.(string)
	}
	v = c.get("", "POST", "/v1/auth/token", signUpBody)
	mfa := c.keep("a token between two factors", v["mfa_token"])
	v = c.get("", "POST", "/v1/auth/mfa/verify", `{"mfa_token":"`+mfa+`","code":"`+recovery[0].(string)+`"}`)
	c.keep("an access token", v["access_token"])
	c.keep("a refresh token", v["refresh_token"])
	v = c.get("", "POST", "/v1/auth/token", signUpBody)
	mfa = c.keep("a token between two factors", v["mfa_token"])
	c.ask("", "POST", "/v1/auth/mfa/verify", `{"mfa_token":"`+mfa+`x","code":"000000"}`)
	c.ask("", "POST", "/v1/auth/mfa/verify", `{"mfa_token":"`+mfa+`","code":"`+c.codes["a TOTP code"]+`"}`) // used
}

// machines use the keys of agents, backends and the operator; data is secrets,
// sealed and not, shares and messages.
func (c *confidant) machines(admin string) {
	c.t.Helper()
	v := c.get(c.key, "POST", "/v1/agents", `{"name":"bot"}`)
	agent := c.keep("an agent's key", v["api_key"])
	id := v["agent"].(map[string]any)["id"].(string)
	v = c.get("", "POST", "/v1/auth/agent-token", `{"api_key":"`+agent+`","agent_id":"`+id+`"}`)
	bot := c.keep("an agent's token", v["access_token"])
	c.ask(bot, "GET", "/v1/agents", "")
	v = c.get(c.key, "POST", "/v1/agents/"+id+"/rotate-key", "")
	c.keep("an agent's key", v["api_key"])
	c.ask("", "POST", "/v1/auth/agent-token", `{"api_key":"`+agent+`"}`)
	c.ask(bot, "GET", "/v1/agents/me", "")
	for _, role := range []string{"backend", "frontend"} {
		v = c.get(c.key, "POST", "/v1/auth/api-keys", `{"name":"k","role":"`+role+`"}`)
		key := c.keep("a key of role "+role, v["api_key"])
		c.ask(key, "GET", "/v1/vaults", "")
		c.ask(key, "POST", "/v1/threads", `{}`, "X-User-ID: u", "X-User-Signature: "+strings.Repeat("0", 64))
		if role == "backend" {
			v = c.get(c.key, "POST", "/v1/org/signing-keys", "")
			c.keep("a signing secret", v["secret"])
			v = c.get(key, "POST", "/v1/_sign", `{"userId":"u"}`)
			c.keep("a signature", v["signature"])
			v = c.get(key, "POST", "/v1/threads", `{"title":"t"}`, "X-User-ID: u")
			thread := "/v1/threads/" + v["id"].(string) + "/messages"
			c.get(key, "POST", thread, `{"body":"`+c.keep("a message", message)+`"}`, "X-User-ID: u")
			c.ask(key, "POST", thread, `{"body":"`+message+`","role":7}`, "X-User-ID: u")
		}
	}
	v = c.get(admin, "POST", "/admin/keys", `{"name":"k"}`)
	c.ask(c.keep("an admin's key", v["api_key"]), "GET", "/v1/vaults", "")
	c.data()
}

func (c *confidant) data() {
	c.t.Helper()
	vault := c.vault()
	v := c.get(c.key, "PUT", vault+"/secrets/db/password", `{"value":"`+c.keep("a value", value)+`"}`)
	c.ask(c.key, "PUT", vault+"/secrets/db/password", `{"value":"`+value+`","type":"no such type"}`)
	c.ask(c.key, "PUT", vault+"/secrets/db//password", `{"value":"`+value+`"}`)
	c.keep("a passphrase", passphrase)
	c.keep("a wrong passphrase", noPassphrase)
	body := `{"recipient_type":"anyone_with_link","expires_at":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `","passphrase":"` + passphrase + `"}`
	shared := c.get(c.key, "POST", "/v1/secrets/"+v["id"].(string)+"/share", body)
	_, link, _ := strings.Cut(shared["share_url"].(string), "/v1/share/")
	c.keep("the end of a share's link", link)
	c.ask("", "GET", "/v1/share/"+link, "")
	c.ask("", "GET", "/v1/share/"+link+"x", "")
	c.ask(c.key, "DELETE", "/v1/share/"+link, "")
	c.ask("", "POST", "/v1/share/"+link, `{"passphrase":"`+noPassphrase+`"}`)
	c.ask("", "GET", "/v1/share/"+link, "", "X-Share-Passphrase: "+noPassphrase)
	c.get("", "POST", "/v1/share/"+link, `{"passphrase":"`+passphrase+`"}`)

	key := cmek.Generate()
	b64 := c.keep("a CMEK key", base64.StdEncoding.EncodeToString(key.Bytes()))
	sealed := c.vault()
	c.get(c.key, "POST", sealed+"/cmek", `{"fingerprint":"`+key.Fingerprint()+`"}`)
	c.ask(c.key, "PUT", sealed+"/secrets/a", `{"value":"`+value+`"}`)
	blob, err := cmek.EncryptValue(key, []byte(value))
	if err != nil {
		c.t.Fatal(err)
	}
	c.get(c.key, "PUT", sealed+"/secrets/a", `{"value":"`+blob+`"}`)
	c.ask(c.key, "POST", sealed+"/cmek-rotate", `{}`, "X-Cmek-Old-Key: "+b64, "X-Cmek-New-Key: "+b64)
	c.ask(c.key, "PUT", sealed+"/secrets/a", `{"value":"`+b64+`","type":"x"}`, "X-Cmek-Old-Key: "+b64)
	c.ask(c.key, "POST", sealed+"/cmek", `{"fingerprint":"`+b64+`"}`)
}

// canaries writes the secrets as scripts/canary reads them: each as it is and,
// where it is a prefix and an encoding, what it encodes.
func (c *confidant) canaries(file string, decoded bool) {
	c.t.Helper()
	var b bytes.Buffer
	for _, text := range c.secrets {
		fmt.Fprintf(&b, "%x\n", text)
		tail := text[strings.LastIndexAny(text, "_.")+1:]
		for _, decode := range []func(string) ([]byte, error){base64.RawURLEncoding.DecodeString, base64.StdEncoding.DecodeString,
			base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString, hex.DecodeString} {
			if raw, err := decode(tail); decoded && err == nil && len(raw) >= 16 {
				fmt.Fprintf(&b, "%x\n", raw)
			}
		}
	}
	c.write(file, b.String())
}

func (c *confidant) write(file, text string) {
	c.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// trail is a trail, as the export and the list at path show it.
func (c *confidant) trail(key, path string) string {
	c.t.Helper()
	status, export := c.ask(key, "GET", path+"/export", "")
	status2, list := c.ask(key, "GET", path+"/events?limit=1000", "")
	if status != 200 || status2 != 200 || strings.Count(export, "\n") < 5 {
		c.t.Fatalf("the trail: %d %d %s", status, status2, export)
	}
	return export + list
}

// search fails the test when a secret is in a file or row of the server that has
// ended or in a file of out, or when it finds nothing where all secrets are.
func (c *confidant) search() {
	c.t.Helper()
	c.write(filepath.Join(c.out, "refusals"), c.refused.String())
	c.write(filepath.Join(c.out, "log"), c.output.String())
	spans := c.traces.String()
	for _, name := range []string{`"keyfold-kms"`, `"POST /v1/auth/token"`, `"POST /encrypt"`, `"store commit"`} {
		if !strings.Contains(spans, name) {
			c.t.Errorf("the traces lack %s", name)
		}
	}
	c.write(filepath.Join(c.out, "traces"), spans)
	dir := c.t.TempDir()
	all, texts, said := filepath.Join(dir, "all"), filepath.Join(dir, "texts"), filepath.Join(dir, "said")
	c.canaries(all, true)
	c.canaries(texts, false)
	c.write(said, c.said.String())
	for _, args := range [][]string{
		{"search", "-canaries", texts, "-all", said},
		append([]string{"search", "-canaries", all, "-store", c.rows, "-store", filepath.Join(c.dir, "kms"), c.dir, c.out}, c.files...),
	} {
		answer, err := exec.Command(filepath.Join(programs.Dir(c.t), "canary"), args...).CombinedOutput()
		if c.t.Logf("%s", answer); err != nil {
			c.t.Errorf("canary %s: %v", args[3], err)
		}
	}
	c.searchCodes()
}

// searchCodes is search for codes that are too short to be looked for in bytes
// of chance: digits that are part of a number are none.
func (c *confidant) searchCodes() {
	c.t.Helper()
	for what, code := range c.codes {
		shape := regexp.MustCompile(`(^|[^0-9A-Za-z.])` + regexp.QuoteMeta(code) + `($|[^0-9A-Za-z])`)
		for _, name := range []string{"trails", "metrics", "refusals", "traces", "log"} {
			text, err := os.ReadFile(filepath.Join(c.out, name))
			if err != nil {
				c.t.Fatal(err)
			}
			if shape.Match(text) {
				c.t.Errorf("%s holds %s", name, what)
			}
		}
		if !shape.MatchString(c.said.String()) {
			c.t.Errorf("%s is not found where it is", what)
		}
	}
	for _, rec := range readRows(c.t, c.rows) {
		for what, code := range c.codes {
			if len(code) > 6 && (bytes.Contains(rec.Value, []byte(code)) || strings.Contains(rec.Key, code)) {
				c.t.Errorf("the row %s holds %s", rec.Key, what)
			}
		}
	}
}

// collector gets traces, as the environment env makes processes send them.
func collector(t *testing.T) (got *output, env []string) {
	got = new(output)
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(got, r.Body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(sink.Close)
	return got, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + sink.URL, "OTEL_BSP_SCHEDULE_DELAY=50"}
}

// newConfidant starts a server with a key process of its own, and env.
func newConfidant(t *testing.T, env ...string) *confidant {
	t.Helper()
	traces, sink := collector(t)
	s := dev(t, shortDir(t), append(sink, env...), "--kms", "external")
	return &confidant{server: s, traces: traces, rows: filepath.Join(s.dir, "server"), out: t.TempDir(), secrets: map[string]string{}, codes: map[string]string{}}
}

// Of passwords, tokens, keys, codes, links and values, none is in a file or a
// row of the server or its key process, in what they log when they log all, in a
// refusal, in the trail, in the metrics or in the traces: neither as it is, nor in hex, nor in
// base64. Their hashes may be.
func TestNothingThatOpensIsStoredLoggedOrToldToOthers(t *testing.T) {
	c := newConfidant(t)
	c.confide(t)
	c.stop()
	c.search()
}

// The same with the rows in PostgreSQL, which logs every statement with what it is
// given: none is in a file of the database, its logs among them, and neither is the
// password of the database anywhere, though the database went away and came back.
func TestADatabaseHoldsAndLogsNothingThatOpens(t *testing.T) {
	db := pgtest.New(t, "log_statement = 'all'", "log_connections = on", "log_min_error_statement = error")
	const password = "a-password-of-the-database-that-nobody-logs"
	url := strings.Replace(db.Database(t), "postgres@", "postgres:"+password+"@", 1)
	c := newConfidant(t, "KEYFOLD_STORE="+url)
	c.rows, c.files = filepath.Join(t.TempDir(), "copy"), []string{db.Dir}
	c.said.WriteString(url)
	c.keep("the password of the database", password)
	c.confide(t)
	db.Stop(t)
	if status, text := c.call("GET", "/v1/vaults", ""); status != http.StatusServiceUnavailable { // after 10 to 20 s: docs/postgres.md
		t.Errorf("without its database a server answers %d %s", status, text)
	} else {
		c.refused.WriteString(text)
	}
	db.Start(t)
	c.await("an answer", func() bool { status, _ := c.call("GET", "/v1/vaults", ""); return status == http.StatusOK })
	c.stop()
	copied := exec.Command(filepath.Join(programs.Dir(t), "keyfold"), "store", "copy", "--to", "pebble:"+c.rows)
	copied.Env = append(os.Environ(), "KEYFOLD_COPY_FROM="+url)
	c.said.WriteString(must(t, copied))
	if log := db.Log(t); !strings.Contains(log, "INSERT") || !strings.Contains(log, "parameters: $1 =") {
		t.Errorf("the database logged no statements: %s", log)
	}
	db.Stop(t)
	c.search()
}

// confide uses the server as everybody does, and keeps what it tells.
func (c *confidant) confide(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "dev.json"))
	if err != nil {
		t.Fatal(err)
	}
	var known map[string]any
	if err := json.Unmarshal(text, &known); err != nil {
		t.Fatal(err)
	}
	c.said.Write(text)
	for _, name := range []string{"password", "api_key", "backend_key", "frontend_key", "admin_key", "signing_key"} {
		c.keep(name+" of dev.json", known[name])
	}
	admin := known["admin_key"].(string)
	c.session(known["email"].(string), known["password"].(string))
	carol := c.people()
	c.machines(admin)
	c.write(filepath.Join(c.out, "trails"), c.trail(carol, "/v1/audit")+c.trail(c.key, "/v1/audit")+c.trail(admin, "/admin/audit"))
	c.get(admin, "POST", "/admin/encryption/rotate-kek", `{"all":true}`)
	status, metrics := c.ask(admin, "GET", "/admin/debug/prometheus", "")
	if status != 200 || !strings.Contains(metrics, "keyfold_jobs") {
		t.Fatalf("metrics: %d %s", status, metrics)
	}
	c.write(filepath.Join(c.out, "metrics"), metrics)
}
