package server_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
)

// Facts of the contract: the fingerprint of the key 00 01 .. 1f, and a blob
// under it (the base64 form).
const (
	fingerprint = "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"
	otherPrint  = "af9613760f72635fbdb44a5a0a63c39f12af30f950a6ee5c971be188e89c4051"
	blob        = "AQECAwQFBgcICQoLDGiTd6aJ94LjOI8VJnxmj7xT6QmJI/izlA7zW+fshR0="
)

func TestAVaultsLife(t *testing.T) {
	w := newWorld(t)
	a := w.do(scenario{call: "POST /v1/vaults", body: `{"name":"Prod ключ","description":"","mpc_custody":null,"x":1}`, status: 201,
		want: []string{`"name":"Prod ключ"`, `"cmek_enabled":false`, `"created_by_type":"user"`}})
	v := decode[api.Vault](t, a)
	if v.CreatedBy != w.Owner.ID || len(v.ID) != 36 || v.CreatedAt.IsZero() {
		t.Errorf("vault is %+v", v)
	}
	path := "/v1/vaults/" + v.ID
	w.do(scenario{call: "GET /v1/vaults", status: 200, want: []string{`{"vaults":[{"id":"` + v.ID}})
	w.do(scenario{call: "GET " + path, status: 200, want: []string{v.ID}, header: []string{"Content-Type", "application/json"}})
	w.do(scenario{call: "DELETE " + path, status: 204})
	w.do(scenario{call: "GET " + path, status: 404})
	w.do(scenario{call: "DELETE " + path, status: 404})
	w.do(scenario{call: "GET /v1/vaults", status: 200, want: []string{`{"vaults":[]}`}})
	for _, id := range []string{"x", "a%2Fb", "..x", strings.Repeat("a", 5000), "%F0%9F%94%91", "x:head:y"} {
		w.do(scenario{call: "GET /v1/vaults/" + id, status: 404})
	}
}

func TestCMEKGoesOnAndOff(t *testing.T) {
	w := newWorld(t)
	path := w.vault(false)
	on := scenario{call: "POST " + path + "/cmek", body: `{"fingerprint":"` + fingerprint + `"}`}
	for _, c := range []scenario{
		{call: "DELETE " + path + "/cmek", status: 400},
		{call: on.call, body: `{"fingerprint":"abc"}`, status: 400},
		{call: on.call, body: `{"fingerprint":7}`, status: 400},
		{call: on.call, body: `{}`, status: 400},
		{call: on.call, body: ``, status: 400},
		{call: on.call, body: on.body, status: 200, want: []string{`"cmek_enabled":true`, `"cmek_fingerprint":"` + fingerprint}},
		{call: on.call, body: on.body, status: 400},
		{call: "GET " + path, status: 200, want: []string{`"cmek_enabled":true`}},
		{call: "DELETE " + path + "/cmek", status: 200, want: []string{`"cmek_enabled":false`}, forbid: []string{"cmek_fingerprint"}},
	} {
		w.do(c)
	}
	free := w.NewOrg("free").APIKey
	theirs := decode[api.Vault](t, w.do(scenario{key: free, call: "POST /v1/vaults", body: `{"name":"f"}`, status: 201}))
	w.do(scenario{key: free, call: "POST /v1/vaults/" + theirs.ID + "/cmek", body: on.body, status: 403, want: []string{"plan"}})
}

// A published client refuses a body with a member too many.
func TestStrictBodiesHoldExactlyTheirMembers(t *testing.T) {
	w := newWorld(t)
	path := w.vault(true)
	put := scenario{call: "PUT " + path + "/secrets/a", status: 201, body: `{"value":"` + blob + `","metadata":{},"expires_at":"2099-01-01T00:00:00Z","max_access_count":9}`}
	put.body = strings.Replace(put.body, `"metadata":{}`, `"metadata":{"b":2,"a":{}}`, 1)
	for _, c := range []struct {
		scenario
		optional string
		required string
	}{
		{scenario{call: "GET " + path, status: 200}, "description created_by created_by_type cmek_enabled cmek_fingerprint", "id name created_at"},
		{put, "metadata expires_at", "id path type version created_at"},
		{scenario{call: "GET " + path + "/secrets/a", status: 200}, "metadata created_by expires_at cmek_encrypted", "id path type value version created_at"},
		{scenario{call: "GET " + path + "/secret-version/a/1", status: 200}, "metadata created_by expires_at cmek_encrypted", "id path type value version created_at"},
	} {
		got := object(t, w.do(c.scenario))
		for _, name := range strings.Fields(c.required) {
			if _, ok := got[name]; !ok {
				t.Errorf("%s lacks %s", c.call, name)
			}
		}
		for name := range got {
			if !slices.Contains(strings.Fields(c.required+" "+c.optional), name) {
				t.Errorf("%s has %s, which a strict client refuses", c.call, name)
			}
		}
	}
	for call, list := range map[string]string{"GET " + path + "/secrets": "secrets", "GET " + path + "/secret-versions/a": "versions"} {
		entry := object(t, w.do(scenario{call: call, status: 200}))[list].([]any)[0].(map[string]any)
		_, disabled := entry["is_disabled"]
		if _, sealed := entry["cmek_encrypted"]; sealed || disabled != (list == "versions") {
			t.Errorf("%s: entry is %v", call, entry)
		}
	}
}
