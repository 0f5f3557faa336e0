package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// caller is somebody who calls: with a credential, perhaps headers, from here.
type caller struct {
	bearer string // "": none
	header []string
}

const (
	here     = "203.0.113.%d"    // where all calls come from, each from another: what one does wrong slows down no other
	elseways = "198.51.100.0/24" // where none comes from

	password = "Quiet-horse-7-battery!"
)

// cast is a server whose home org has a principal of every kind, and a second
// org abroad. All is made through the API, and called without a network.
type cast struct {
	*keyfoldtest.Server
	t            *testing.T
	home, abroad *org
	vault        string // at home: where the policies are
	emails       int    // that newEmail made
	calls        int
	callers      map[string]caller
	heard        *listener
}

// org makes things of its owner's on demand.
type org struct {
	c     *cast
	id    string
	owner caller
	names map[string]string // what was made, by name
}

// call makes one request and holds the answer to the ground rules.
func (c *cast) call(who caller, call, body string) answer {
	c.t.Helper()
	method, target, _ := strings.Cut(call, " ")
	ctx, leave := context.WithCancel(c.t.Context())
	defer leave()
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	c.calls++
	r.RemoteAddr = fmt.Sprintf(here+":4711", c.calls%250)
	if who.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+who.bearer)
	}
	for i := 0; i < len(who.header); i += 2 {
		r.Header.Set(who.header[i], who.header[i+1])
	}
	w := leaver{httptest.NewRecorder(), leave}
	c.Node().Handler.ServeHTTP(w, r)
	a := answer{w.Code, w.Result().Header, w.Body.String()}
	c.heard.hear(r, body, a)
	if strings.HasPrefix(a.header.Get("Cache-Control"), "public,") && isPublic(target) {
		a.header.Set("Cache-Control", "no-store") // which is for all else
	}
	if !strings.HasPrefix(a.header.Get("Content-Type"), "text/") && a.header.Get("Content-Type") != "application/octet-stream" && target != "/v1/auth/device/token" { // metrics, rows as they lie, and what has OAuth's form
		checkForm(c.t, call, answer{a.status, a.header, firstLine(a)})
	}
	return a
}

// leaver is a client that leaves when something is sent before the end.
type leaver struct {
	*httptest.ResponseRecorder
	leave context.CancelFunc
}

func (l leaver) Flush() { l.leave() }

// isPublic reports whether target shows what anybody may keep for a while.
func isPublic(target string) bool {
	return strings.HasPrefix(target, "/.well-known/") || target == "/v1/auth/jwt-public-key" || target == "/v1/openapi.json"
}

// firstLine is the first line of an export, and all of any other answer.
func firstLine(a answer) string {
	if a.header.Get("Content-Type") != "application/x-ndjson" {
		return a.body
	}
	a.header.Set("Content-Type", "application/json")
	line, _, _ := strings.Cut(a.body, "\n")
	return line
}

// made makes a call that must succeed and returns member of its answer: "id",
// or "agent.id".
func (c *cast) made(who caller, call, body, member string) string {
	c.t.Helper()
	a := c.call(who, call, body)
	if a.status >= 300 {
		c.t.Fatalf("%s %s = %d %s", call, body, a.status, a.body)
	}
	if member == "" {
		return ""
	}
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		c.t.Fatalf("%s: %v", call, err)
	}
	for name := range strings.SplitSeq(member, ".") {
		of, _ := v.(map[string]any)
		v = of[name]
	}
	text, ok := v.(string)
	if !ok || text == "" {
		c.t.Fatalf("%s answers no %s: %s", call, member, a.body)
	}
	return text
}

// makers make a thing of each kind that a route or a body names, as the org's
// owner, and return how a request names it.
var makers map[string]func(o *org) string

func init() { // for makers may need what others make
	makers = map[string]func(o *org) string{
		"{vault}": func(o *org) string { return o.make("POST /v1/vaults", `{"name":"v"}`, "id") },
		"{sealed}": func(o *org) string { // a vault with CMEK
			id := o.make("POST /v1/vaults", `{"name":"v"}`, "id")
			o.make("POST /v1/vaults/"+id+"/cmek", `{"fingerprint":"`+fingerprint+`"}`, "")
			return id
		},
		"{path...}": func(o *org) string { // a path, and a path with a version
			for _, path := range []string{"db/1", "db"} {
				o.make("PUT "+o.fill("/v1/vaults/{vault}/secrets/")+path, `{"value":"`+canary+`"}`, "")
			}
			return "db/1"
		},
		"{secret}": func(o *org) string {
			return o.make("PUT "+o.fill("/v1/vaults/{vault}/secrets/db/shared"), `{"value":"`+canary+`"}`, "id")
		},
		"{policy}": func(o *org) string {
			return o.make("POST "+o.fill("/v1/vaults/{vault}/policies"), o.fill(`{"secret_path_pattern":"x/**","principal_type":"agent","principal_id":"{agent}","permissions":["read"]}`), "id")
		},
		"{agent}":   func(o *org) string { return o.make("POST /v1/agents", `{"name":"a"}`, "agent.id") },
		"{apikey}":  func(o *org) string { return o.make("POST /v1/auth/api-keys", `{"name":"k"}`, "key.id") },
		"{signing}": func(o *org) string { return o.make("POST /v1/org/signing-keys", ``, "signing_key.id") },
		"{user}":    func(o *org) string { return o.c.newMember(o).id },
		"{invitation}": func(o *org) string {
			return o.make("POST /v1/org/invitations", `{"email":"`+o.c.newEmail()+`"}`, "invitation.id")
		},
		"{share}": func(o *org) string {
			return o.make(o.fill("POST /v1/secrets/{secret}/share"), `{"recipient_type":"creator","expires_at":"`+o.c.in(24*time.Hour)+`"}`, "id")
		},
		"{link}": func(o *org) string {
			url := o.make(o.fill("POST /v1/secrets/{secret}/share"), `{"recipient_type":"anyone_with_link","expires_at":"`+o.c.in(24*time.Hour)+`"}`, "share_url")
			return url[strings.LastIndexByte(url, '/')+1:]
		},
		"{code}": func(o *org) string {
			return o.make("POST /v1/auth/device/code", `{"client_id":"test"}`, "user_code")
		},
		"{thread}": func(o *org) string { return o.make("POST /v1/threads", `{"title":"T"}`, "id") },
		"{message}": func(o *org) string {
			return o.make("POST "+o.fill("/v1/threads/{thread}/messages"), `{"body":"`+canary+`"}`, "id")
		},
		"{identity}": func(o *org) string {
			o.make("POST "+o.fill("/v1/threads/{thread}/messages/{message}/reactions"), `{"reaction":"+"}`, "")
			return o.make("GET /v1/auth/me", "", "id")
		},
		"{participant}": func(o *org) string {
			id := o.c.newMember(o).id
			o.make("PUT "+o.fill("/v1/threads/{thread}/participants/")+id, `{"part":"read"}`, "")
			return id
		},
		"{owner}":   func(o *org) string { return o.make("GET /v1/auth/me", "", "id") },
		"{name...}": func(o *org) string { return "thread:" + o.fill("{thread}") + ":meta" },
		"{passkey}": func(*org) string { return "01900000-0000-7000-8000-000000000000" }, // nobody has one: that takes an authenticator
		"{job}": func(o *org) string {
			a := o.c.call(o.c.callers["operator"], "POST /admin/encryption/rewrap", `{"threads":true}`)
			return decode[api.Jobs](o.c.t, a).Jobs[0].ID
		},
		"{org}":     func(o *org) string { return o.id },
		"{soon}":    func(o *org) string { return o.c.in(time.Hour) },
		"{email}":   func(o *org) string { return o.c.newEmail() },
		"{account}": func(o *org) string { return o.c.newAccount() },
		"{refresh}": func(o *org) string {
			return o.make("POST /v1/auth/token", o.fill(`{"email":"{account}","password":"`+password+`"}`), "refresh_token")
		},
		"{bearer}":   func(o *org) string { return o.owner.bearer },
		"{agentkey}": func(o *org) string { return o.make("POST /v1/agents", `{"name":"a"}`, "api_key") },
	}
}

func (o *org) make(call, body, member string) string {
	o.c.t.Helper()
	return o.c.made(o.owner, call, body, member)
}

var placeholder = regexp.MustCompile(`\{[a-z_]+(\.\.\.)?\}`)

// renames are for patterns in which the same name means another thing.
var renames = strings.NewReplacer("/api-keys/{key}", "/api-keys/{apikey}", "/signing-keys/{key}", "/signing-keys/{signing}")

// fill puts o's things in the place of their names in text. What is missing is
// made.
func (o *org) fill(text string) string {
	o.c.t.Helper()
	return placeholder.ReplaceAllStringFunc(renames.Replace(text), func(name string) string {
		if made, ok := o.names[name]; ok {
			return made
		}
		maker := makers[name]
		if maker == nil {
			o.c.t.Fatalf("nobody makes %s, of %s", name, text)
		}
		o.names[name] = maker(o)
		return o.names[name]
	})
}

func (c *cast) newEmail() string {
	c.emails++
	return fmt.Sprintf("person%d@example.com", c.emails)
}

// newAccount makes a user with a password, in an org of his own, and returns
// his email.
func (c *cast) newAccount() string {
	c.t.Helper()
	email := c.newEmail()
	c.made(caller{}, "POST /v1/auth/signup", fmt.Sprintf(`{"email":%q,"password":%q}`, email, password), "access_token")
	return email
}

// in is the time from now as a request has it.
func (c *cast) in(d time.Duration) string { return c.Now().Add(d).UTC().Format(time.RFC3339) }

// member is a user of an org's, with a key that is the member alone.
type member struct {
	id string
	caller
}

func (c *cast) newMember(o *org) member {
	c.t.Helper()
	u := c.NewUser(o.id)
	c.made(o.owner, "PATCH /v1/org/members/"+u.ID, `{"role":"member"}`, "")
	return member{u.ID, caller{bearer: u.APIKey}}
}

// grant makes a policy on the vault that has policies.
func (c *cast) grant(kind, id, more string, permissions ...string) {
	c.t.Helper()
	body := fmt.Sprintf(`{"secret_path_pattern":"db/**","principal_type":%q,"principal_id":%q,"permissions":["%s"]%s}`, kind, id, strings.Join(permissions, `","`), more)
	c.made(c.home.owner, "POST /v1/vaults/"+c.vault+"/policies", body, "")
}

// newAgent makes an agent at home, with a policy that grants it everything under
// db, and returns its ID and key.
func (c *cast) newAgent(members, conditions string) (id, key string) {
	c.t.Helper()
	a := c.call(c.home.owner, "POST /v1/agents", `{"name":"a"`+members+`}`)
	made := decode[api.AgentCreated](c.t, a)
	if a.status != 201 {
		c.t.Fatalf("an agent = %d %s", a.status, a.body)
	}
	c.grant("agent", made.Agent.ID, conditions, "read", "write", "delete", "rotate")
	return made.Agent.ID, made.APIKey
}

func (c *cast) session(o caller) caller {
	c.t.Helper()
	return caller{bearer: c.made(caller{}, "POST /v1/auth/api-key-token", `{"api_key":"`+o.bearer+`"}`, "access_token")}
}

func newOrg(c *cast, owner keyfoldtest.User) *org {
	return &org{c: c, id: owner.OrgID, owner: caller{bearer: owner.APIKey}, names: map[string]string{}}
}

func newCast(t *testing.T) *cast {
	t.Helper()
	s := keyfoldtest.Start(t)
	c := &cast{Server: s, t: t, callers: map[string]caller{}, heard: newListener(t)}
	c.home, c.abroad = newOrg(c, s.Owner), newOrg(c, s.NewOrg("enterprise"))
	c.vault = c.home.fill("{vault}")
	c.home.fill("{path...}")
	c.people()
	c.agents()
	c.keys()
	for _, who := range c.callers { // so that it is noted that they are in use
		c.call(who, "GET /v1/vaults", "")
	}
	t.Cleanup(func() { s.MustNotHold(t, canary, s.APIKey) })
	return c
}

// people are users of the home org, and one who is not.
func (c *cast) people() {
	c.t.Helper()
	c.callers["none"], c.callers["bad"] = caller{}, caller{bearer: "1ck_" + strings.Repeat("A", 43)}
	c.callers["owner"], c.callers["other"] = c.home.owner, c.abroad.owner
	for name, permission := range map[string]string{"mate": "", "reader": "read", "writer": "write", "admin": ""} {
		m := c.newMember(c.home)
		if permission != "" {
			c.grant("user", m.id, "", permission)
		}
		if name == "admin" {
			c.made(c.home.owner, "PATCH /v1/org/members/"+m.id, `{"role":"admin"}`, "")
		}
		c.callers[name] = m.caller
	}
}

// agents are the home org's, each with what holds it back. Time passes here:
// what is short-lived ends.
func (c *cast) agents() {
	c.t.Helper()
	second := c.home.make("POST /v1/vaults", `{"name":"second"}`, "id")
	late := c.Now().UTC().Add(25 * time.Minute).Hour() // after the advance below
	keys := map[string]string{}
	for name, held := range map[string]struct{ members, conditions string }{
		"agent":     {`,"scopes":["**"]`, ``},
		"elsewhere": {`,"scopes":["**"],"vault_ids":["` + second + `"]`, ``},
		"scope":     {`,"scopes":["other/**"]`, ``},
		"denied":    {`,"scopes":["**"]`, ``},
		"lapsed":    {`,"scopes":["**"]`, `,"expires_at":"` + c.in(10*time.Minute) + `"`},
		"addr":      {`,"scopes":["**"]`, `,"conditions":{"ip_allowlist":["` + elseways + `"]}`},
		"hours":     {`,"scopes":["**"]`, fmt.Sprintf(`,"conditions":{"time_window":{"after":"%02d:00","before":"%02d:00"}}`, (late+3)%24, (late+4)%24)},
		"inactive":  {`,"scopes":["**"]`, ``},
	} {
		id, key := c.newAgent(held.members, held.conditions)
		if keys[name] = key; name == "denied" {
			c.grant("agent", id, `,"effect":"deny","priority":1`, "read", "write", "delete", "rotate")
		}
		if name == "inactive" {
			defer c.made(c.home.owner, "PATCH /v1/agents/"+id, `{"is_active":false}`, "")
		}
	}
	c.callers["expired"] = c.session(c.home.owner)
	c.Advance(20 * time.Minute) // the life of a user's token is 15
	c.callers["revoked"] = c.session(c.home.owner)
	c.made(c.callers["revoked"], "DELETE /v1/auth/token", "", "")
	for name, key := range keys {
		c.callers[name] = caller{bearer: c.made(caller{}, "POST /v1/auth/agent-token", `{"api_key":"`+key+`"}`, "access_token")}
	}
}

// keys are those of no user: the home org's product's, and the operator's.
func (c *cast) keys() {
	c.t.Helper()
	for _, role := range []string{"frontend", "backend"} {
		key := c.made(c.home.owner, "POST /v1/auth/api-keys", `{"name":"k","role":"`+role+`"}`, "api_key")
		c.callers[role] = caller{bearer: key, header: []string{"X-User-Id", "end-user"}}
	}
	signature := c.made(caller{bearer: c.callers["backend"].bearer}, "POST /v1/_sign", `{"userId":"end-user"}`, "signature")
	f := c.callers["frontend"]
	c.callers["frontend"] = caller{f.bearer, append(f.header, "X-User-Signature", signature)}
	c.callers["operator"] = caller{bearer: c.NewAdminKey()}
}

// settle waits for the jobs that calls started.
func (c *cast) settle() {
	c.t.Helper()
	jobs, err := c.Node().Jobs.List(c.t.Context())
	for _, j := range jobs {
		if err == nil {
			_, err = c.Node().Jobs.Wait(c.t.Context(), j.ID)
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// unchanged runs do and fails when it wrote anything but the trail.
func (c *cast) unchanged(do func()) {
	c.t.Helper()
	c.settle()
	(&world{Server: c.Server, t: c.t}).unchanged(do)
}
