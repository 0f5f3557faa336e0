package server_test

import (
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/server"
)

// What every route answers to every kind of principal. The things in a path or
// body are the home org's owner's, who has a policy for some:
//
//	dead    no credential at all, a key that nobody has, an expired session, one
//	        that was signed out, a token of an agent that was deactivated; all answer alike
//	people  other: the owner of another org; then of this org a mate without a
//	        policy, a reader and a writer by policy, an admin, the owner
//	agents  each with a policy for everything under db, which each but the first
//	        is held back from: bound elsewhere, of other scopes, denied by a policy
//	        that goes first, whose policy expired, is for other addresses, for other hours
//	keys    frontend and backend, for an end user of the org's; the operator's
//
// A status is that of each, in this order. One alone is everybody's.
type row struct {
	call, body string
	fresh      string // what is made anew for each call that is let in; "{a}={b}": a {b} in place of {a}
	dead       string
	people     string
	agents     string
	keys       string
}

var (
	deadOnes = []string{"none", "bad", "expired", "revoked", "inactive"}
	folks    = []string{"other", "mate", "reader", "writer", "admin", "owner"}
	robots   = []string{"agent", "elsewhere", "scope", "denied", "lapsed", "addr", "hours"}
	keyKinds = []string{"frontend", "backend", "operator"}
)

// The statuses of groups that are alike on most rows.
const (
	dead  = "401"
	none  = "403"
	admin = "404 403 403 403 200 200" // who runs the org
)

var matrix = []row{
	// call, body, fresh, dead, people: other mate reader writer admin owner, agents: agent elsewhere scope denied lapsed addr hours, keys: frontend backend operator
	{"GET /healthz", "", "", "200", "200", "200", "200"},
	{"GET /readyz", "", "", "200", "200", "200", "200"},
	{"GET /v1/health", "", "", "200", "200", "200", "200"},
	{"GET /v1/health/hsm", "", "", "200", "200", "200", "200"},
	{"GET /v1/openapi.json", "", "", "200", "200", "200", "200"},
	{"GET /.well-known/jwks.json", "", "", "200", "200", "200", "200"},
	{"GET /.well-known/keyfold-audit.json", "", "", "200", "200", "200", "200"},
	{"GET /v1/auth/jwt-public-key", "", "", "200", "200", "200", "200"},

	{"POST /v1/auth/api-key-token", `{"api_key":"{bearer}"}`, "", "200", "200", "200", "200"},
	{"POST /v1/auth/agent-token", `{"api_key":"{agentkey}"}`, "", "200", "200", "200", "200"},
	{"POST /v1/agents/enroll", `{"name":"n"}`, "", "201", "201", "201", "201"},
	{"POST /v1/auth/signup", `{"email":"{email}","password":"` + password + `"}`, "{email}", "200", "200", "200", "200"},
	{"POST /v1/auth/token", `{"email":"{account}","password":"` + password + `"}`, "", "200", "200", "200", "200"},
	{"POST /v1/auth/refresh", `{"refresh_token":"{refresh}"}`, "{refresh}", "200", "200", "200", "200"},
	{"POST /v1/auth/mfa/verify", `{"mfa_token":"x","code":"123456"}`, "", "401", "401", "401", "401"},
	{"POST /v1/auth/passkeys/login/begin", "", "", "200", "200", "200", "200"},
	{"POST /v1/auth/passkeys/login/finish", `{"challenge_id":"` + nobodys + `","credential":{}}`, "", "401", "401", "401", "401"},
	{"POST /v1/auth/device/code", `{"client_id":"c"}`, "", "200", "200", "200", "200"},
	{"POST /v1/auth/device/token", `{"device_code":"x","grant_type":"` + api.DeviceGrant + `"}`, "", "400", "400", "400", "400"},
	{"GET /v1/share/{share}", "", "", "404", "404 404 404 404 404 200", "404", "404"}, // for its maker
	{"POST /v1/share/{share}", "", "{share}={link}", "200", "200", "200", "200"},      // for who has the link

	{"GET /v1/auth/me", "", "", dead, "200", none, none},
	{"PATCH /v1/auth/me", `{"display_name":"d"}`, "", dead, "200", none, none},
	{"POST /v1/auth/change-password", `{"current_password":"x","new_password":"` + password + `"}`, "", dead, "401", none, none}, // they have none
	{"POST /v1/auth/mfa/totp", `{"password":"x"}`, "", dead, "401", none, none},
	{"POST /v1/auth/mfa/totp/confirm", `{"code":"123456"}`, "", dead, "404", none, none},
	{"DELETE /v1/auth/mfa/totp", `{"code":"123456"}`, "", dead, "404", none, none},
	{"POST /v1/auth/passkeys/register/begin", "", "", dead, "200", none, none},
	{"POST /v1/auth/passkeys/register/finish", `{"challenge_id":"` + nobodys + `","credential":{}}`, "", dead, "400", none, none},
	{"GET /v1/auth/passkeys", "", "", dead, "200", none, none},
	{"DELETE /v1/auth/passkeys/{passkey}", "", "", dead, "404", none, none},
	{"GET /v1/auth/device/code/{code}", "", "", dead, "200", none, none},
	{"POST /v1/auth/device/code/{code}/approve", "", "{code}", dead, "204", none, none},
	{"POST /v1/auth/device/code/{code}/deny", "", "{code}", dead, "204", none, none},

	{"GET /v1/org", "", "", dead, "200", none, none},
	{"GET /v1/org/members", "", "", dead, "200", none, none},
	{"PATCH /v1/org/members/{user}", `{"role":"member"}`, "", dead, admin, none, none},
	{"DELETE /v1/org/members/{user}", "", "{user}", dead, "404 403 403 403 204 204", none, none},
	{"POST /v1/org/invitations", `{"email":"{email}"}`, "{email}", dead, "201 403 403 403 201 201", none, none},
	{"GET /v1/org/invitations", "", "", dead, "200 403 403 403 200 200", none, none},
	{"DELETE /v1/org/invitations/{invitation}", "", "{invitation}", dead, "404 403 403 403 204 204", none, none},

	{"POST /v1/secrets/{secret}/share", `{"recipient_type":"creator","expires_at":"{soon}"}`, "", dead, "404 403 201 403 403 201", none, none},
	{"DELETE /v1/share/{share}", "", "{share}", dead, "404 404 404 404 404 204", "404", none},
	{"GET /v1/shares/outbound", "", "", dead, "200", "200", none},
	{"GET /v1/shares/inbound", "", "", dead, "200", "200", none},
	{"POST /v1/shares/{share}/accept", "", "{share}", dead, "404 404 404 404 404 204", "404", none},
	{"POST /v1/shares/{share}/decline", "", "{share}", dead, "404 404 404 404 404 204", "404", none},

	{"POST /v1/auth/api-keys", `{"name":"n"}`, "", dead, "201", none, none},
	{"GET /v1/auth/api-keys", "", "", dead, "200", none, none},
	{"DELETE /v1/auth/api-keys/{key}", "", "{apikey}", dead, "404 404 404 404 404 204", none, none},

	{"POST /v1/vaults", `{"name":"n"}`, "", dead, "201", none, none},
	{"GET /v1/vaults", "", "", dead, "200", "200", none},
	{"GET /v1/vaults/{vault}", "", "", dead, "404 403 200 200 200 200", "200 403 200 200 403 403 403", none},
	{"DELETE /v1/vaults/{vault}", "", "{vault}", dead, "404 403 403 403 403 204", none, none},
	{"POST /v1/vaults/{vault}/cmek", `{"fingerprint":"` + fingerprint + `"}`, "{vault}", dead, "404 403 403 403 403 200", none, none},
	{"DELETE /v1/vaults/{vault}/cmek", "", "{vault}={sealed}", dead, "404 403 403 403 403 200", none, none},
	{"GET /v1/vaults/{vault}/cmek", "", "", dead, "404 403 200 200 200 200", "200 403 200 200 403 403 403", none},
	{"POST /v1/vaults/{vault}/cmek-rotate", `{"new_fingerprint":"` + fingerprint + `"}`, "", dead, "404 403 403 403 403 400", none, none}, // without CMEK
	{"GET /v1/vaults/{vault}/cmek-rotate-key", "", "{vault}={sealed}", dead, "404 403 403 403 403 200", none, none},
	{"GET /v1/vaults/{vault}/cmek-rotations", "", "", dead, "404 403 403 403 403 200", none, none},
	{"GET /v1/vaults/{vault}/cmek-rotate/{job}", "", "", dead, "404 403 403 403 403 404", none, none}, // another's job
	{"DELETE /v1/vaults/{vault}/cmek-rotate/{job}", "", "", dead, "404 403 403 403 403 404", none, none},

	{"GET /v1/vaults/{vault}/secrets", "", "", dead, "404 403 200 403 403 200", "200 403 200 200 403 403 403", none},
	{"PUT /v1/vaults/{vault}/secrets/{path...}", `{"value":"v"}`, "", dead, "404 403 403 201 403 201", "201 403 403 403 403 403 403", none},
	{"GET /v1/vaults/{vault}/secrets/{path...}", "", "", dead, "404 403 200 403 403 200", "200 403 403 403 403 403 403", none},
	{"GET /v1/vaults/{vault}/secret-versions/{path...}", "", "", dead, "404 403 200 403 403 200", "200 403 403 403 403 403 403", none},
	{"GET /v1/vaults/{vault}/secret-version/{path...}", "", "", dead, "404 403 200 403 403 200", "200 403 403 403 403 403 403", none},
	{"POST /v1/vaults/{vault}/secret-rotate/{path...}", "", "", dead, "404 403 403 201 403 201", "201 403 403 403 403 403 403", none},
	{"DELETE /v1/vaults/{vault}/secrets/{path...}", "", "{path...}", dead, "404 403 403 204 403 204", "204 403 403 403 403 403 403", none},
	// A vault's creator is let in, and has sealed nothing there.
	{"GET /v1/vaults/{vault}/cmek-versions", "", "", dead, "404 403 403 403 403 400", none, none},
	{"PUT /v1/vaults/{vault}/secret-version/{path...}", `{"value":"v","old_fingerprint":"x","new_fingerprint":"y"}`, "", dead, "404 403 403 403 403 400", none, none},
	{"POST /v1/vaults/{vault}/secret-version-disable/{path...}", "", "", dead, "404 403 403 204 403 204", "204 403 403 403 403 403 403", none},

	{"POST /v1/vaults/{vault}/policies", `{"secret_path_pattern":"x","principal_type":"agent","principal_id":"{agent}","permissions":["read"]}`, "", dead, "404 403 403 403 201 201", none, none},
	{"GET /v1/vaults/{vault}/policies", "", "", dead, admin, none, none},
	{"PUT /v1/vaults/{vault}/policies/{policy}", `{"permissions":["read"]}`, "", dead, admin, none, none},
	{"DELETE /v1/vaults/{vault}/policies/{policy}", "", "{policy}", dead, "404 403 403 403 204 204", none, none},

	{"POST /v1/agents", `{"name":"n"}`, "", dead, "201", none, none},
	{"GET /v1/agents", "", "", dead, "200", none, none},
	{"GET /v1/agents/me", "", "", dead, none, "200", none},
	{"GET /v1/agents/{agent}", "", "", dead, admin, none, none},
	{"PATCH /v1/agents/{agent}", `{"description":"d"}`, "", dead, admin, none, none},
	{"POST /v1/agents/{agent}/rotate-key", "", "", dead, admin, none, none},
	{"DELETE /v1/agents/{agent}", "", "{agent}", dead, "404 403 403 403 204 204", none, none},
	{"POST /v1/agents/batch-delete", `{"agent_ids":["{agent}"]}`, "{agent}", dead, "200", none, none}, // each for itself: see TestABatchDeletesNoAgentOfAnothers

	{"POST /v1/_sign", `{"userId":"u"}`, "", dead, none, none, "403 200 403"},
	{"POST /v1/org/signing-keys", "", "", dead, "201 403 403 403 201 201", none, none},
	{"GET /v1/org/signing-keys", "", "", dead, "200 403 403 403 200 200", none, none},
	{"DELETE /v1/org/signing-keys/{key}", "", "{signing}", dead, "404 403 403 403 204 204", none, none},

	{"GET /v1/audit/events", "", "", dead, "200", none, none},
	{"GET /v1/audit", "", "", dead, "200", none, none},
	{"GET /v1/audit/verify", "", "", dead, "200 403 403 403 200 200", none, none},
	{"GET /v1/audit/export", "", "", dead, "200 403 403 403 200 200", none, none},
	{"GET /admin/audit/events", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/audit/verify", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/audit/export", "", "", dead, none, none, "403 403 200"},

	{"GET /v1/billing/subscription", "", "", dead, "200 403 403 403 200 200", none, none},
	{"GET /v1/billing/usage", "", "", dead, "200 403 403 403 200 200", none, none},
	{"POST /admin/token-keys/rotate", "", "", dead, none, none, "403 403 204"},
	{"PUT /v1/admin/orgs/{org}/billing-tier", `{"tier":"enterprise"}`, "", dead, none, none, "403 403 200"},

	{"GET /v1/retention", "", "", dead, "200 403 403 403 200 200", none, none},
	{"PUT /v1/retention", `{"deleted_days":30}`, "", dead, "200 403 403 403 200 200", none, none},
	{"GET /v1/retention/preview", "", "", dead, "200 403 403 403 200 200", none, none},
	{"PUT /v1/threads/{thread}/hold", `{"reason":"r"}`, "", dead, admin, none, none},
	{"GET /v1/threads/{thread}/hold", "", "", dead, admin, none, none},
	{"DELETE /v1/threads/{thread}/hold", "", "", dead, "404 403 403 403 204 204", none, none},

	{"POST /v1/threads", `{"title":"t"}`, "", dead, "200", "200", "200 200 403"},
	{"GET /v1/threads", "", "", dead, "200", "200", "200 200 403"},
	{"GET /v1/threads/{thread}", "", "", dead, "404 403 403 403 403 200", none, none},
	{"POST /v1/threads/{thread}/messages", `{"body":1}`, "", dead, "404 403 403 403 403 200", none, none},
	{"GET /v1/threads/{thread}/messages", "", "", dead, "404 403 403 403 403 200", none, none},
	{"GET /v1/threads/{thread}/messages/{message}", "", "", dead, "404 403 403 403 403 200", none, none},
	{"GET /v1/threads/{thread}/events", "", "", dead, "404 403 403 403 403 200", none, none},
	{"GET /v1/threads/{thread}/export", "", "", dead, "404 403 403 403 403 200", none, none},
	{"POST /v1/threads/{thread}/import", `{"ts":1,"body":1}`, "", dead, "404 403 403 403 403 200", none, none},
	{"PUT /v1/threads/{thread}", `{"title":"t"}`, "", dead, "404 403 403 403 403 200", none, none},
	{"PUT /v1/threads/{thread}/messages/{message}", `{"body":2}`, "", dead, "404 403 403 403 403 200", none, none},
	{"DELETE /v1/threads/{thread}/messages/{message}", "", "{message}", dead, "404 403 403 403 403 204", none, none},
	{"GET /v1/threads/{thread}/messages/{message}/versions", "", "", dead, "404 403 403 403 403 200", none, none},
	{"GET /v1/threads/{thread}/messages/{message}/reactions", "", "", dead, "404 403 403 403 403 200", none, none},
	{"POST /v1/threads/{thread}/messages/{message}/reactions", `{"reaction":"+"}`, "", dead, "404 403 403 403 403 200", none, none},
	{"DELETE /v1/threads/{thread}/messages/{message}/reactions/{identity}", "", "{message} {identity}", dead, "404 403 403 403 403 204", none, none},
	{"GET /v1/threads/{thread}/participants", "", "", dead, "404 403 403 403 403 200", none, none},
	{"PUT /v1/threads/{thread}/participants/{participant}", `{"part":"write"}`, "", dead, "404 403 403 403 403 200", none, none},
	{"DELETE /v1/threads/{thread}/participants/{participant}", "", "{participant}", dead, "404 403 403 403 403 204", none, none},
	{"POST /v1/messages", `{"thread":"{thread}","body":1}`, "", dead, "404 403 403 403 403 200", none, none},
	{"GET /v1/messages", "", "", dead, "400", "400", "400 400 403"}, // which names no thread
	{"DELETE /v1/threads/{thread}", "", "{thread}", dead, "404 403 403 403 403 204", none, none},

	{"POST /admin/encryption/rotate-kek", `{"threads":true}`, "", dead, none, none, "403 403 202"},
	{"GET /admin/encryption/keys", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/encryption/deks", "", "", dead, none, none, "403 403 400"}, // which names no thread
	{"POST /admin/encryption/rewrap", `{"threads":true}`, "", dead, none, none, "403 403 202"},
	{"POST /admin/encryption/encrypt-existing", `{"all":true}`, "", dead, none, none, "403 403 200"},
	{"POST /admin/encryption/encrypt-threads", `{}`, "", dead, none, none, "403 403 200"},
	{"GET /admin/health", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/stats", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/threads", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/users", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/users/{owner}/threads", "", "{thread}", dead, none, none, "403 403 200"},
	{"GET /admin/users/{owner}/threads/{thread}/messages", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/users/{owner}/threads/{thread}/messages/{message}", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/keys", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/keys/{name...}", "", "", dead, none, none, "403 403 200"},
	{"POST /admin/encryption/rotate-thread-dek", `{"thread_id":"{thread}"}`, "{thread}", dead, none, none, "403 403 200"},
	{"POST /admin/encryption/rewrap-deks", `{"thread_ids":["{thread}"]}`, "", dead, none, none, "403 403 200"},
	{"POST /admin/encryption/generate-kek", "", "", dead, none, none, "403 403 404"},
	{"POST /admin/keys", `{"name":"n"}`, "", dead, none, none, "403 403 201"},
	{"POST /admin/jobs/purge", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/jobs", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/jobs/{job}", "", "", dead, none, none, "403 403 200"},
	{"DELETE /admin/jobs/{job}", "", "", dead, none, none, "403 403 200"},
	{"GET /admin/debug/prometheus", "", "", dead, none, none, "403 403 200"},

	// The last, since sessions end here. An API key is no session.
	{"DELETE /v1/auth/tokens", "", "", dead, "204", none, none},
	{"DELETE /v1/auth/token", "", "", dead, "400", "204", none},
}

// want is the row's status for everybody.
func (r row) want(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, group := range []struct {
		who      []string
		statuses string
	}{{deadOnes, r.dead}, {folks, r.people}, {robots, r.agents}, {keyKinds, r.keys}} {
		each := strings.Fields(group.statuses)
		if len(each) != 1 && len(each) != len(group.who) {
			t.Fatalf("%s: %q are not the statuses of %v", r.call, group.statuses, group.who)
		}
		for i, who := range group.who {
			status, err := strconv.Atoi(each[min(i, len(each)-1)])
			if err != nil {
				t.Fatal(err)
			}
			out[who] = status
		}
	}
	return out
}

func TestEveryRouteIsInTheMatrix(t *testing.T) {
	missing := map[string]bool{}
	for _, r := range server.Rows() {
		missing[r.Method+" "+r.Pattern] = true
	}
	for _, r := range matrix {
		if !missing[r.call] {
			t.Errorf("%s is in the matrix twice, or is no route", r.call)
		}
		delete(missing, r.call)
	}
	for call := range maps.Keys(missing) {
		t.Errorf("%s is a route, and the matrix does not say who may call it", call)
	}
}

// Those who are refused come first and must leave everything as it is.
func TestEveryRouteAnswersEveryPrincipalAsTheMatrixSays(t *testing.T) {
	if testing.Short() {
		t.Skip("tens of thousands of calls, one after another: in the run without -short")
	}
	t.Parallel()
	c := newCast(t)
	for _, r := range matrix {
		t.Run(r.call, func(t *testing.T) {
			c.t = t
			want := r.want(t)
			call, body := c.home.fill(r.call), c.home.fill(r.body)
			got := map[string]int{}
			c.unchanged(func() {
				for who, status := range want {
					if status >= 400 {
						got[who] = c.call(c.callers[who], call, body).status
					}
				}
			})
			for who, status := range want {
				if status < 400 {
					o := c.home.with(r.fresh)
					got[who] = c.call(c.callers[who], o.fill(r.call), o.fill(r.body)).status
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the matrix is -, the answers are +:\n%s", diff)
			}
		})
	}
	c.t = t
}

// with is o, with other things in place of those that fresh names.
func (o *org) with(fresh string) *org {
	if fresh == "" {
		return o
	}
	out := *o
	out.names = maps.Clone(o.names)
	for name := range strings.FieldsSeq(fresh) {
		name, other, renamed := strings.Cut(name, "=")
		delete(out.names, name)
		if renamed {
			delete(out.names, other)
			out.names[name] = out.fill(other)
		}
	}
	return &out
}
