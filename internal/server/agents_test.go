package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/token"
)

// plainTokens issues one token and verifies none.
type plainTokens struct{}

func (plainTokens) Issue(_ context.Context, c token.Claims) (string, time.Time, error) {
	return "a.b.c", c.Expires, nil
}

func (plainTokens) Verify(context.Context, string) (token.Claims, error) {
	return token.Claims{}, context.Canceled
}

type noTrail struct{}

func (noTrail) Record(context.Context, access.Event) error { return nil }

type noPatterns struct{}

func (noPatterns) Patterns(context.Context, access.Kind, string) ([]string, error) { return nil, nil }

// withOwner is an org's owner, and a key of his, in s.
func withOwner(t *testing.T, s store.Store) (ids *identity.Service, owner identity.User, key string) {
	t.Helper()
	ids = identity.New(identity.Config{Store: s, Gate: new(accesstest.Gate), Recorder: noTrail{}, Tokens: plainTokens{}, Patterns: noPatterns{}})
	org, err := ids.CreateOrg(t.Context(), "Org", access.Enterprise)
	if err != nil {
		t.Fatal(err)
	}
	if owner, err = ids.CreateUser(t.Context(), org.ID, "owner@example.com"); err != nil {
		t.Fatal(err)
	}
	if key, err = ids.CreateAPIKey(t.Context(), owner.ID); err != nil {
		t.Fatal(err)
	}
	return ids, owner, key
}

// agentsWorld is the routes of agents, keys and signing secrets, and a user's key.
func agentsWorld(t *testing.T) (call func(method, path, bearer, agent, body string) (int, string), key string) {
	ids, _, key := withOwner(t, memstore.New())
	rows := append(agents{ids}.rows(), append(keys{ids}.rows(), signing{ids}.rows()...)...)
	return calls(httpx.New(httpx.Config{Rows: rows, Authenticate: ids.Authenticate, EndUsers: ids.EndUser})), key
}

func TestATokensAnswerNamesTheAgentToThoseAloneWhoDidNot(t *testing.T) {
	call, key := agentsWorld(t)
	status, body := call("POST", "/v1/agents", key, "", `{"name":"robot","effect":"ignored","tx_daily_limit_eth":"1"}`)
	var made api.AgentCreated
	if err := json.Unmarshal([]byte(body), &made, json.RejectUnknownMembers(true)); err != nil || status != 201 {
		t.Fatal(status, body, err)
	}
	bare := `{"access_token":"a.b.c","token_type":"Bearer","expires_in":3600`
	named := `,"agent_id":"` + made.Agent.ID + `","vault_ids":[]`
	byKey, byBoth := `{"api_key":"`+made.APIKey+`"}`, `{"api_key":"`+made.APIKey+`","agent_id":"`+made.Agent.ID+`"}`
	for _, c := range []struct{ body, agent, want string }{
		{byKey, "", bare + named + "}"}, {byKey, "node", bare + named + "}"}, {byKey, "OpenAPI-Generator/1.0.0/go", bare + "}"},
		{byBoth, "", bare + "}"}, {byBoth, "OpenAPI-Generator/1.0.0/go", bare + "}"},
	} {
		// A stale credential that comes along is not looked at.
		if status, got := call("POST", "/v1/auth/agent-token", "stale", c.agent, c.body); status != 200 || cmp.Diff(c.want, got) != "" {
			t.Error(c.agent, status, cmp.Diff(c.want, got))
		}
	}
	if status, got := call("POST", "/v1/auth/agent-token", "", "", `{"api_key":"plt_x"}`); status != 401 || strings.Contains(got, "agent_id") {
		t.Error(status, got)
	}
}

func TestTheRoutesOfAgentsAndKeysAnswerAsTheContractSays(t *testing.T) {
	call, key := agentsWorld(t)
	_, body := call("POST", "/v1/agents", key, "", `{"name":"robot"}`)
	var agent api.AgentCreated
	json.Unmarshal([]byte(body), &agent)
	_, body = call("POST", "/v1/auth/api-keys", key, "", `{"name":"k","role":"backend"}`)
	var back api.APIKeyCreated
	json.Unmarshal([]byte(body), &back)
	one := "/v1/agents/" + agent.Agent.ID
	for _, c := range []struct {
		call, bearer, body string
		status             int
		has                string
	}{
		{"POST /v1/agents", key, ``, 400, `"detail"`},
		{"POST /v1/agents", key, `{"name":""}`, 400, `"detail"`},
		{"GET /v1/agents", key, ``, 200, `{"agents":[{"id":"` + agent.Agent.ID},
		{"GET /v1/agents?limit=1&cursor=" + agent.Agent.ID, key, ``, 200, `{"agents":[]}`},
		{"GET /v1/agents?limit=x", key, ``, 400, `limit`},
		{"GET /v1/agents/me", key, ``, 403, `agents`},
		{"GET " + one, key, ``, 200, `"name":"robot"`},
		{"PATCH " + one, key, `{"name":"new","expires_at":null}`, 200, `"name":"new"`},
		{"POST " + one + "/rotate-key", key, ``, 200, `{"api_key":"ocv_`},
		{"POST " + one + "/rotate-key", key, `{}`, 200, `{"api_key":"ocv_`},
		{"POST /v1/agents/enroll", "stale", `{"name":"x"}`, 201, `"agent_id":"00000000-0000-0000-0000-000000000000"`},
		{"POST /v1/agents/batch-delete", key, `{"agent_ids":["x"]}`, 200, `{"deleted":0,"failed":1,"errors":[{"id":"x","reason":"`},
		{"DELETE " + one, key, ``, 204, ``},
		{"GET " + one, key, ``, 404, `"about:blank"`},
		{"GET /v1/auth/api-keys", key, ``, 200, `"role":"backend"`},
		{"POST /v1/auth/api-key-token", "stale", `{"api_key":"` + key + `"}`, 200, `{"access_token":"a.b.c","token_type":"Bearer","expires_in":900}`},
		{"POST /admin/keys", key, `{"name":"n"}`, 403, `admin key`},
		{"POST /v1/_sign", key, `{"userId":"a"}`, 403, `backend`},
		{"GET /v1/agents", back.APIKey, ``, 403, `threads`},
		{"POST /v1/_sign", back.APIKey, `{"userId":""}`, 400, `user ID`},
		{"GET /v1/org/signing-keys", key, ``, 200, `{"signing_keys":[]}`},
		{"DELETE /v1/auth/api-keys/" + back.Key.ID, key, ``, 204, ``},
		{"POST /v1/_sign", back.APIKey, `{"userId":"a"}`, 401, `"error"`},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		if status, got := call(method, path, c.bearer, "", c.body); status != c.status || !strings.Contains(got, c.has) {
			t.Errorf("%s %s: %d %s", c.call, c.body, status, got)
		}
	}
}
