package server_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// The bodies that generated clients read strictly: one member more than these,
// or one of the required ones less, and the whole call fails there. The
// required come before the bar.
var strictBodies = map[string]string{
	"Vault":          "id name created_at | description created_by created_by_type cmek_enabled cmek_fingerprint",
	"Secret":         "id path type value version created_at | metadata created_by expires_at cmek_encrypted",
	"SecretMetadata": "id path type version created_at | metadata expires_at",
	"Token":          "access_token token_type | expires_in refresh_token",
	"Agent": "id name auth_method is_active intents_api_enabled shroud_enabled created_at | description scopes tx_to_allowlist tx_max_value_eth " +
		"tx_daily_limit_eth tx_allowed_chains token_ttl_seconds vault_ids client_cert_fingerprint oidc_issuer oidc_client_id ssh_public_key " +
		"ecdh_public_key shroud_config expires_at last_active_at smart_accounts",
	"AgentCreated":    "agent | api_key",
	"Policy":          "id vault_id secret_path_pattern principal_type principal_id permissions created_at | conditions expires_at created_by created_by_type",
	"PublicKey":       "alg public_key_base64 |",
	"CMEKRotationJob": "id vault_id status total_secrets processed created_at | old_fingerprint new_fingerprint error started_at completed_at",
}

// generated is how generated clients call themselves unless told otherwise.
var generated = []string{"User-Agent", "OpenAPI-Generator/1.0.0/go"}

// strictCalls are the calls of the owner that answer such a body: "[x]" of each
// in the list x, "x." within the member x.
var strictCalls = []struct{ call, body, shape string }{
	{"POST /v1/vaults", `{"name":"n","description":"d"}`, "Vault"},
	{"GET /v1/vaults", "", "[vaults]Vault"},
	{"GET /v1/vaults/{vault}", "", "Vault"},
	{"GET /v1/vaults/{sealed}", "", "Vault"},
	{"PUT /v1/vaults/{vault}/secrets/full", `{"value":"v","type":"password","metadata":{"a":1},"expires_at":"{soon}","max_access_count":3}`, "SecretMetadata"},
	{"GET /v1/vaults/{vault}/secrets/full", "", "Secret"},
	{"GET /v1/vaults/{vault}/secret-version/full/1", "", "Secret"},
	{"GET /v1/vaults/{vault}/secrets", "", "[secrets]SecretMetadata"},
	{"POST /v1/vaults/{vault}/secret-rotate/full", "", "SecretMetadata"},
	{"POST /v1/vaults/{vault}/cmek", `{"fingerprint":"` + fingerprint + `"}`, "Vault"},
	{"DELETE /v1/vaults/{vault}/cmek", "", "Vault"},
	{"POST /v1/auth/api-key-token", `{"api_key":"{bearer}"}`, "Token"},
	{"POST /v1/auth/agent-token", `{"api_key":"{agentkey}"}`, "Token"},
	{"GET /v1/auth/jwt-public-key", "", "PublicKey"},
	{"POST /v1/agents", `{"name":"n","description":"d","scopes":["a/**"],"vault_ids":["{vault}"],"expires_at":"{soon}","api_key_expires_at":"{soon}","token_ttl_seconds":600}`, "AgentCreated"},
	{"POST /v1/agents", `{"name":"n"}`, "agent.Agent"},
	{"GET /v1/agents", "", "[agents]Agent"},
	{"GET /v1/agents/{agent}", "", "Agent"},
	{"PATCH /v1/agents/{agent}", `{"is_active":false}`, "Agent"},
	{"POST /v1/vaults/{vault}/policies", `{"secret_path_pattern":"x","principal_type":"agent","principal_id":"{agent}","permissions":["read"],"expires_at":"{soon}","conditions":{"ip_allowlist":["10.0.0.0/8"]}}`, "Policy"},
	{"POST /v1/vaults/{vault}/policies", `{"secret_path_pattern":"x","principal_type":"agent","principal_id":"{agent}","permissions":["read"],"effect":"deny","priority":3}`, "Policy"},
	{"GET /v1/vaults/{vault}/policies", "", "[policies]Policy"},
	{"PUT /v1/vaults/{vault}/policies/{policy}", `{"permissions":["read","write"],"effect":"deny"}`, "Policy"},
}

func TestStrictBodiesHaveTheirMembersAndNoOther(t *testing.T) {
	c := newCast(t)
	owner := caller{c.home.owner.bearer, generated}
	for _, s := range strictCalls {
		a := c.call(owner, c.home.fill(s.call), c.home.fill(s.body))
		if a.status >= 300 {
			t.Errorf("%s = %d %s", s.call, a.status, a.body)
			continue
		}
		for _, o := range objects(t, a.body, &s.shape) {
			checkMembers(t, s.call, s.shape, o)
		}
	}
}

// Others see what generated clients must not.
func TestTheExtraMembersAreThereForOthers(t *testing.T) {
	c := newCast(t)
	for call, want := range map[string]string{
		`POST /v1/auth/agent-token {"api_key":"{agentkey}"}`: `"agent_id":`,
		`POST /v1/vaults/{vault}/policies {"secret_path_pattern":"x","principal_type":"agent","principal_id":"{agent}","permissions":["read"],"effect":"deny"}`: `"effect":"deny"`,
	} {
		call, body, _ := strings.Cut(c.home.fill(call), " {")
		if a := c.call(c.home.owner, call, "{"+body); !strings.Contains(a.body, want) {
			t.Errorf("%s = %d %s, lacks %s", call, a.status, a.body, want)
		}
	}
}

// objects are the objects in body that shape is about; what says where they are
// is cut off from shape.
func objects(t *testing.T, body string, shape *string) []map[string]any {
	t.Helper()
	var of map[string]any
	if err := json.Unmarshal([]byte(body), &of); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	if list, rest, ok := strings.Cut(strings.TrimPrefix(*shape, "["), "]"); ok {
		*shape = rest
		var all []map[string]any
		for _, one := range of[list].([]any) {
			all = append(all, one.(map[string]any))
		}
		if len(all) == 0 {
			t.Errorf("%s is empty: there is nothing to look at", list)
		}
		return all
	}
	if member, rest, ok := strings.Cut(*shape, "."); ok {
		*shape = rest
		return []map[string]any{of[member].(map[string]any)}
	}
	return []map[string]any{of}
}

func checkMembers(t *testing.T, call, shape string, o map[string]any) {
	t.Helper()
	required, optional, _ := strings.Cut(strictBodies[shape], "|")
	for _, name := range strings.Fields(required) {
		if o[name] == nil {
			t.Errorf("%s: the %s has no %s: %v", call, shape, name, o)
		}
	}
	for name := range o {
		if !slices.Contains(strings.Fields(required+" "+optional), name) {
			t.Errorf("%s: the %s has the member %s, which it must not: %v", call, shape, name, o)
		}
	}
}
