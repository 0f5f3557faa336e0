package keyfoldtest_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/throttle"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// answer is the body of a call that must succeed.
func answer(t *testing.T, s *keyfoldtest.Server, key, method, path, body string) map[string]any {
	t.Helper()
	status, text := call(t, s, key, method, path, body)
	if status >= 300 {
		t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	out := map[string]any{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// What is taken away on one server is refused on the one beside it, whose caches are
// warm, at the very next call.
func TestWhatIsRevokedOnOneServerIsRefusedOnTheOther(t *testing.T) {
	a := keyfoldtest.Start(t, keyfoldtest.Shared())
	b := keyfoldtest.Beside(t, a)
	mate := a.NewUser(a.Owner.OrgID)
	str := func(m map[string]any, name string) string {
		v, _ := m[name].(string)
		if v == "" {
			t.Fatalf("no %s in %v", name, m)
		}
		return v
	}
	vaultID := makeVault(t, a, a.APIKey)
	secret := "/v1/vaults/" + vaultID + "/secrets/db/x"
	answer(t, a, a.APIKey, "PUT", secret, `{"value":"v"}`)
	thread := "/v1/threads/" + str(answer(t, a, a.APIKey, "POST", "/v1/threads", `{"title":"t"}`), "id")
	policy := func() string {
		return "/v1/vaults/" + vaultID + "/policies/" + str(answer(t, a, a.APIKey, "POST", "/v1/vaults/"+vaultID+"/policies",
			`{"secret_path_pattern":"db/**","principal_type":"user","principal_id":"`+mate.ID+`","permissions":["read"]}`), "id")
	}
	gone := policy()
	part := thread + "/participants/" + mate.ID
	answer(t, a, a.APIKey, "PUT", part, `{"part":"read"}`)
	agent := answer(t, a, a.APIKey, "POST", "/v1/agents", `{"name":"robot"}`)
	agentID := str(agent["agent"].(map[string]any), "id")
	apiKey := answer(t, a, a.APIKey, "POST", "/v1/auth/api-keys", `{"name":"k"}`)
	signed := answer(t, a, "", "POST", "/v1/auth/signup", `{"email":"new@example.com","password":"Correct-Horse-Battery-9"}`)
	token := func(path, body string) string { return str(answer(t, a, "", "POST", path, body), "access_token") }
	byKey := token("/v1/auth/api-key-token", `{"api_key":"`+a.APIKey+`"}`)
	agentToken := token("/v1/auth/agent-token", `{"agent_id":"`+agentID+`","api_key":"`+str(agent, "api_key")+`"}`)
	session := str(signed, "access_token")
	for _, c := range []struct{ what, key, method, path, doer, revoke, at, body string }{
		{"an API key", str(apiKey, "api_key"), "GET", "/v1/vaults", a.APIKey, "DELETE", "/v1/auth/api-keys/" + keyID(apiKey), ""},
		{"an access token", byKey, "GET", "/v1/vaults", byKey, "DELETE", "/v1/auth/token", ""},
		{"all tokens of a user", session, "GET", "/v1/vaults", session, "DELETE", "/v1/auth/tokens", ""},
		{"an agent", agentToken, "GET", "/v1/agents/me", a.APIKey, "PATCH", "/v1/agents/" + agentID, `{"is_active":false}`},
		{"a policy", mate.APIKey, "GET", secret, a.APIKey, "DELETE", gone, ""},
		{"a participant", mate.APIKey, "GET", thread + "/messages", a.APIKey, "DELETE", part, ""},
		{"a member", mate.APIKey, "GET", "/v1/auth/me", a.APIKey, "DELETE", "/v1/org/members/" + mate.ID, ""},
		{"a secret", a.APIKey, "GET", secret, a.APIKey, "DELETE", secret, ""},
		{"a thread", a.APIKey, "GET", thread + "/messages", a.APIKey, "DELETE", thread, ""},
	} {
		for range 3 { // warm
			if status, body := call(t, b, c.key, c.method, c.path, ""); status != 200 {
				t.Fatalf("%s: before, %d %s", c.what, status, body)
			}
		}
		if status, body := call(t, a, c.doer, c.revoke, c.at, c.body); status >= 300 {
			t.Fatalf("%s: %s %s: %d %s", c.what, c.revoke, c.at, status, body)
		}
		if status, body := call(t, b, c.key, c.method, c.path, ""); status < 400 || status >= 500 {
			t.Errorf("%s: after it was revoked on the other server, %d %s", c.what, status, body)
		}
	}
}

// A server that does not reach the key process cannot open the key that replaces the
// one that signed. It believes the latter no longer than the others do: a second.
func TestATokenOfAReplacedKeyIsRefusedWhereTheKMSDoesNotAnswer(t *testing.T) {
	a := keyfoldtest.Start(t, keyfoldtest.Shared())
	b := keyfoldtest.Beside(t, a)
	in := `{"email":"new@example.com","password":"Correct-Horse-Battery-9"}`
	token := func(path string) string {
		text, _ := answer(t, a, "", "POST", path, in)["access_token"].(string)
		return text
	}
	old := token("/v1/auth/signup")
	answer(t, b, old, "GET", "/v1/auth/me", "")
	b.SetKMSDown(true) // for b alone
	answer(t, b, old, "GET", "/v1/auth/me", "")
	answer(t, a, a.NewAdminKey(), "POST", "/admin/token-keys/rotate", `{"replace":true}`)
	young := token("/v1/auth/token")
	b.Advance(time.Second)
	for what, c := range map[string]struct {
		text string
		want int
	}{"the old key": {old, 401}, "the new key": {young, 503}} {
		if status, body := call(t, b, c.text, "GET", "/v1/auth/me", ""); status != c.want {
			t.Errorf("a token of %s: %d %s, want %d", what, status, body, c.want)
		}
	}
	b.SetKMSDown(false)
	b.Advance(time.Second)
	answer(t, b, young, "GET", "/v1/auth/me", "")
}

// What is changed on one server holds on the one beside it, which has just answered by
// what held before, at the very next call.
func TestWhatChangesOnOneServerHoldsOnTheOther(t *testing.T) {
	a := keyfoldtest.Start(t, keyfoldtest.Shared())
	b := keyfoldtest.Beside(t, a)
	mate := a.NewUser(a.Owner.OrgID)
	str := func(m map[string]any, name string) string { v, _ := m[name].(string); return v }
	vault := "/v1/vaults/" + makeVault(t, a, a.APIKey)
	share := answer(t, a, a.APIKey, "POST", "/v1/secrets/"+str(answer(t, a, a.APIKey, "PUT", vault+"/secrets/x", `{"value":"v"}`), "id")+"/share",
		`{"recipient_type":"anyone_with_link","expires_at":"2100-01-01T00:00:00Z"}`)
	_, link, _ := strings.Cut(str(share, "share_url"), "/v1/share/")
	thread := "/v1/threads/" + str(answer(t, a, a.APIKey, "POST", "/v1/threads", `{"title":"t"}`), "id")
	device := answer(t, a, "", "POST", "/v1/auth/device/code", `{"client_id":"c"}`)
	poll := `{"device_code":"` + str(device, "device_code") + `","grant_type":"` + api.DeviceGrant + `"}`
	signIn := `{"email":"new@example.com","password":"Correct-Horse-Battery-9"}`
	user := str(answer(t, a, "", "POST", "/v1/auth/signup", signIn), "access_token")
	begun := answer(t, a, user, "POST", "/v1/auth/mfa/totp", `{"password":"Correct-Horse-Battery-9"}`)
	var recovery api.RecoveryCodes
	member := "/v1/org/members/" + mate.ID
	for _, c := range []struct {
		what, key, method, path, body string // the call of the other server
		was                           int    // its status before
		doer, by, at                  string // the change
		with                          func() string
		is                            int    // its status after
		text                          string // in the answer after
	}{
		{"a share is revoked", "", "GET", "/v1/share/" + link, "", 200, a.APIKey, "DELETE", "/v1/share/" + str(share, "id"), nil, 404, ""},
		{"a member becomes an admin", mate.APIKey, "GET", "/v1/org/invitations", "", 403, a.APIKey, "PATCH", member, func() string { return `{"role":"admin"}` }, 200, ""},
		{"and a member again", mate.APIKey, "GET", "/v1/org/invitations", "", 200, a.APIKey, "PATCH", member, func() string { return `{"role":"member"}` }, 403, ""},
		{"a thread is held", a.APIKey, "GET", thread + "/hold", "", 404, a.APIKey, "PUT", thread + "/hold", nil, 200, ""},
		{"and released", a.APIKey, "GET", thread + "/hold", "", 200, a.APIKey, "DELETE", thread + "/hold", nil, 404, ""},
		{"a device is refused", "", "POST", "/v1/auth/device/token", poll, 400, a.APIKey, "POST", "/v1/auth/device/code/" + str(device, "user_code") + "/deny", nil, 400, api.DeviceDenied},
		{"a vault is sealed", a.APIKey, "PUT", vault + "/secrets/x", `{"value":"in clear"}`, 201, a.APIKey, "POST", vault + "/cmek", func() string { return `{"fingerprint":"` + strings.Repeat("a", 64) + `"}` }, 400, "cmek_blob_required"},
		{"and no longer", a.APIKey, "PUT", vault + "/secrets/x", `{"value":"in clear"}`, 400, a.APIKey, "DELETE", vault + "/cmek", nil, 201, ""},
		{"a second factor is set", "", "POST", "/v1/auth/token", signIn, 200, user, "POST", "/v1/auth/mfa/totp/confirm", func() string { return `{"code":"` + appCode(t, str(begun, "secret"), a.Now()) + `"}` }, 200, `"mfa_required":true`},
		{"and removed", "", "POST", "/v1/auth/token", signIn, 200, user, "DELETE", "/v1/auth/mfa/totp", func() string { return `{"code":"` + recovery.RecoveryCodes[0] + `"}` }, 200, `"access_token":"e`},
		{"a password is changed", "", "POST", "/v1/auth/token", signIn, 200, user, "POST", "/v1/auth/change-password", func() string {
			return `{"current_password":"Correct-Horse-Battery-9","new_password":"Correct-Horse-Battery-10"}`
		}, 401, ""},
	} {
		for range 2 { // warm
			if status, body := call(t, b, c.key, c.method, c.path, c.body); status != c.was {
				t.Fatalf("%s: before, %d %s", c.what, status, body)
			}
		}
		body := ""
		if c.with != nil {
			body = c.with()
		}
		status, text := call(t, a, c.doer, c.by, c.at, body)
		if status >= 300 {
			t.Fatalf("%s: %s %s: %d %s", c.what, c.by, c.at, status, text)
		}
		_ = json.Unmarshal([]byte(text), &recovery) // of the one that has them
		if status, text = call(t, b, c.key, c.method, c.path, c.body); status != c.is || !strings.Contains(text, c.text) {
			t.Errorf("%s: at the other server, %d %s, want %d %s", c.what, status, text, c.is, c.text)
		}
	}
}

// appCode is the code of an authenticator app (RFC 6238).
func appCode(t *testing.T, secret string, now time.Time) string {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	m := hmac.New(sha1.New, key)
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(now.Unix()/30)))
	sum := m.Sum(nil)
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[sum[19]&0xf:])&0x7fffffff)%1_000_000)
}

func keyID(created map[string]any) string {
	for _, v := range []any{created["id"], created["key"]} {
		if id, ok := v.(string); ok {
			return id
		}
		if m, ok := v.(map[string]any); ok {
			id, _ := m["id"].(string)
			return id
		}
	}
	return ""
}

// Who has used up his calls at one server is told to wait by the other, which he has
// hardly called.
func TestLimitsOfCallsHoldOverServers(t *testing.T) {
	a := keyfoldtest.Start(t, keyfoldtest.Shared(), keyfoldtest.Configure(func(cfg *allinone.Config) {
		r := throttle.Rate{PerSecond: 0.01, Burst: 400}
		cfg.Limits = httpx.Limits{Principal: r, Address: r}
	}))
	b := keyfoldtest.Beside(t, a)
	for _, c := range []struct{ who, key, path string }{{"a principal", a.APIKey, "/v1/auth/me"}, {"an address", "", "/v1/health"}} {
		status, calls := 0, 0
		for ; status != 429 && calls < 1000; calls++ {
			status, _ = call(t, a, c.key, "GET", c.path, "")
		}
		if calls < 400 || calls > 410 {
			t.Fatalf("%s: %d calls at one server", c.who, calls)
		}
		for status, calls = 0, 0; status != 429; calls++ {
			if calls == 300 {
				t.Fatalf("%s: %d calls more at the other", c.who, calls)
			}
			time.Sleep(50 * time.Millisecond) // for the limits to be told; it takes half a second
			status, _ = call(t, b, c.key, "GET", c.path, "")
		}
		t.Logf("%s: %d calls more at the other", c.who, calls)
	}
}

// far is a store that is some way off, so that calls meet between a read and its commit.
type far struct{ store.Store }

func (f far) Under() store.Store { return f.Store }

func (f far) Get(ctx context.Context, key string) (store.Record, error) {
	rec, err := f.Store.Get(ctx, key)
	time.Sleep(time.Millisecond)
	return rec, err
}

// What may be had so many times is had so many times, by many at once at two servers:
// neither once more nor once less.
func TestReadLimitsAreExactOverServers(t *testing.T) {
	a := keyfoldtest.Start(t, keyfoldtest.Shared(), keyfoldtest.Configure(func(cfg *allinone.Config) { cfg.Parts.Store = far{cfg.Parts.Store} }))
	servers := []*keyfoldtest.Server{a, keyfoldtest.Beside(t, a)}
	secrets := "/v1/vaults/" + makeVault(t, a, a.APIKey) + "/secrets/"
	answer(t, a, a.APIKey, "PUT", secrets+"read", `{"value":"v","max_access_count":3}`)
	limited, _ := answer(t, a, a.APIKey, "PUT", secrets+"both", `{"value":"v","max_access_count":3}`)["id"].(string)
	free, _ := answer(t, a, a.APIKey, "PUT", secrets+"free", `{"value":"v"}`)["id"].(string)
	link := func(secret, more string) string {
		url, _ := answer(t, a, a.APIKey, "POST", "/v1/secrets/"+secret+"/share", `{"recipient_type":"anyone_with_link","expires_at":"2100-01-01T00:00:00Z"`+more+`}`)["share_url"].(string)
		_, text, _ := strings.Cut(url, "/v1/share/")
		return "/v1/share/" + text
	}
	guess := link(free, `,"passphrase":"right horse"`)
	for _, c := range []struct {
		what, first, second, phrase string // the paths of even and of odd calls
		calls                       int
		want                        map[int]int // calls by their status
	}{
		{"a secret", secrets + "read", "", "", 20, map[int]int{200: 3, 410: 17}},
		{"a share", link(free, `,"max_access_count":3`), "", "", 20, map[int]int{200: 3, 404: 17}},
		{"a secret and its share", secrets + "both", link(limited, ""), "", 20, map[int]int{200: 3, 404: 17}},
		{"wrong passphrases of a share", guess, "", "wrong", 40, map[int]int{403: 20, 404: 20}},
	} {
		paths := [2]string{c.first, cmp.Or(c.second, c.first)}
		var mu sync.Mutex
		var reading sync.WaitGroup
		count := map[int]int{}
		for i := range c.calls {
			reading.Go(func() {
				r, _ := http.NewRequest("GET", servers[i/2%2].URL+paths[i%2], nil)
				r.Header.Set("Authorization", "Bearer "+a.APIKey)
				if c.phrase != "" {
					r.Header.Set(api.HeaderSharePassphrase, c.phrase)
				}
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
				mu.Lock()
				defer mu.Unlock()
				count[res.StatusCode]++
			})
		}
		reading.Wait()
		if c.second != "" { // who is late hears of a secret something else than of a share
			count[404] += count[410]
			delete(count, 410)
		}
		if !maps.Equal(count, c.want) {
			t.Errorf("%s: answers %v, want %v", c.what, count, c.want)
		}
	}
}

// Who follows a thread at one server gets what is posted at the other, and the stream
// ends when the thread is deleted there.
func TestWhoFollowsAtOneServerSeesWhatIsPostedAtTheOther(t *testing.T) {
	a := keyfoldtest.Start(t, keyfoldtest.Shared())
	b := keyfoldtest.Beside(t, a)
	id, _ := answer(t, a, a.APIKey, "POST", "/v1/threads", `{"title":"t"}`)["id"].(string)
	r, _ := http.NewRequestWithContext(t.Context(), "GET", b.URL+"/v1/threads/"+id+"/events", nil)
	r.Header.Set("Authorization", "Bearer "+a.APIKey)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got := make(chan string, 16)
	go func() {
		defer close(got)
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data:"); ok {
				got <- data
			}
		}
	}()
	wait := func(text string) {
		t.Helper()
		deadline := time.After(time.Minute)
		for {
			select {
			case data, open := <-got:
				if text == "" && !open {
					return
				}
				if !open {
					t.Fatalf("the stream ended before %q", text)
				}
				if text != "" && strings.Contains(data, text) {
					return
				}
			case <-deadline:
				t.Fatalf("%q did not come in a minute", text)
			}
		}
	}
	answer(t, a, a.APIKey, "POST", "/v1/threads/"+id+"/messages", `{"body":"from the other server"}`)
	wait("from the other server")
	answer(t, a, a.APIKey, "DELETE", "/v1/threads/"+id, "")
	wait("")
}
