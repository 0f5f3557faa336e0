package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/device"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/passkey"
	"github.com/keyfold/keyfold/internal/share"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/token"
	"github.com/keyfold/keyfold/internal/vault"
)

// seams is everything that shares, devices and passkeys need of others.
type seams struct{}

const secretID = "01900000-0000-7000-8000-000000000003"

var user = access.Principal{Kind: access.User, ID: "01900000-0000-7000-8000-00000000000a", OrgID: "01900000-0000-7000-8000-000000000001"}

func (seams) Check(_ context.Context, p access.Principal, a access.Action, r access.Resource) error {
	return access.Allow(p, a, r, nil, time.Now())
}
func (seams) Filter(context.Context, access.Principal, access.Action, access.Resource) (func(string) bool, error) {
	return func(string) bool { return true }, nil
}
func (seams) Record(context.Context, access.Event) error                { return nil }
func (seams) Wait(string) time.Duration                                 { return 0 }
func (seams) Undo(string)                                               {}
func (seams) Hash(_ context.Context, text string) (string, error)       { return text, nil }
func (seams) Member(context.Context, string) (access.Principal, error)  { return user, nil }
func (seams) Verify(_ context.Context, h, s string) (bool, bool, error) { return h == s, false, nil }
func (seams) Locate(_ context.Context, org, _ string) (vault.Located, error) {
	return vault.Located{OrgID: org, OwnerID: user.ID, VaultID: secretID, Path: "a"}, nil
}
func (seams) ReadShared(_ context.Context, _ vault.Shared, count func() error) (vault.Read, error) {
	return vault.Read{Secret: api.Secret{Value: "x"}}, count()
}
func (seams) Recipient(_ context.Context, _ string, _ access.Kind, id string) (string, string, error) {
	return id, "ann@example.com", nil
}
func (seams) Proved(context.Context, access.Principal) (time.Time, error) {
	return time.Time{}, nil
}
func (seams) SignedIn(context.Context, identity.From, string, string, time.Time) (api.Token, error) {
	return api.Token{AccessToken: "t", TokenType: "Bearer", ExpiresIn: 86400}, nil
}

// authenticate knows one live credential.
func authenticate(_ context.Context, bearer string) (access.Principal, error) {
	if bearer != "live" {
		return access.Principal{}, fault.New(fault.Unauthenticated, "no")
	}
	return user, nil
}

// newCaller returns what makes calls to a server of shares, devices and passkeys.
func newCaller(t *testing.T) func(method, path, body string, status int, header ...string) map[string]any {
	s := memstore.New()
	challenges := token.New(token.Config{Store: s})
	keys, err := passkey.New(passkey.Config{Store: s, Gate: seams{}, Recorder: seams{}, Challenges: challenges, People: seams{}, RPID: "localhost", Origins: []string{"https://localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	rows := shares{share.New(share.Config{Store: s, Gate: seams{}, Recorder: seams{}, Vault: seams{}, People: seams{}, Passwords: seams{}})}.rows()
	rows = append(rows, devices{device.New(device.Config{Challenges: challenges, People: seams{}, Gate: seams{}, Recorder: seams{}, Guesses: seams{}})}.rows()...)
	rows = append(rows, passkeys{keys}.rows()...)
	mux := httpx.New(httpx.Config{Rows: rows, Authenticate: authenticate})
	return func(method, path, body string, status int, header ...string) (out map[string]any) {
		t.Helper()
		w := answered(mux, method, path, body, header...)
		if w.Code != status {
			t.Fatalf("%s %s: %d %s, want %d", method, path, w.Code, w.Body, status)
		}
		if status != http.StatusNoContent {
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
				t.Fatalf("%s %s: %v: %s", method, path, err, w.Body)
			}
		}
		return out
	}
}

var live = []string{"Authorization", "Bearer live"}

func TestASharesLinkOpensWhateverCredentialComesAlong(t *testing.T) {
	call := newCaller(t)
	made := call("POST", "/v1/secrets/"+secretID+"/share", `{"recipient_type":"anyone_with_link","expires_at":"2999-01-01T00:00:00Z","passphrase":"sesame","max_access_count":5}`, 201, live...)
	id, link := made["id"].(string), made["share_url"].(string)
	if !strings.HasPrefix(link, "/v1/share/"+id+".") || made["max_access_count"] != 5.0 || made["recipient_type"] != "anyone_with_link" {
		t.Errorf("created: %v", made)
	}
	for _, header := range [][]string{nil, {"Authorization", "Bearer stale"}, {"Authorization", "Basic x"}, live} {
		got := call("GET", link, "", 200, append([]string{api.HeaderSharePassphrase, "sesame"}, header...)...)
		if got["value"] != "x" || got["path"] != "a" || got["id"] != id {
			t.Errorf("opened with %v: %v", header, got)
		}
	}
	call("HEAD", link, "", 405, api.HeaderSharePassphrase, "sesame") // which nobody would see
	call("GET", link, "", 400, api.HeaderSharePassphrase, "")
	if got := call("POST", link, `{"passphrase":"sesame"}`, 200); got["access_count"] != 5.0 {
		t.Errorf("opened: %v", got)
	}
	call("POST", link, `{"passphrase":"sesame"}`, 404)
	call("GET", "/v1/share/"+id, "", 404)
	if list := call("GET", "/v1/shares/outbound", "", 200, live...)["shares"].([]any); len(list) != 1 || list[0].(map[string]any)["is_expired"] != true {
		t.Errorf("outbound: %v", list)
	}
	call("DELETE", "/v1/share/"+id, "", 204, live...)
	call("DELETE", "/v1/share/"+id, "", 404, live...)
}

func TestAShareForAPrincipalIsAcceptedOrDeclined(t *testing.T) {
	call := newCaller(t)
	made := call("POST", "/v1/secrets/"+secretID+"/share", `{"recipient_type":"creator","expires_at":"2999-01-01T00:00:00Z"}`, 201, live...)
	at := "/v1/shares/" + made["id"].(string)
	call("GET", made["share_url"].(string), "", 404)
	call("GET", made["share_url"].(string), "", 200, live...)
	call("POST", at+"/accept", "", 204, live...)
	if list := call("GET", "/v1/shares/inbound", "", 200, live...)["shares"].([]any); list[0].(map[string]any)["is_accepted"] != true {
		t.Errorf("inbound: %v", list)
	}
	call("POST", at+"/decline", "", 204, live...)
	call("GET", made["share_url"].(string), "", 404, live...)
}

func TestADevicesProblemHasItsWordInErrorBesideTheOtherMembers(t *testing.T) {
	call := newCaller(t)
	code := call("POST", "/v1/auth/device/code", `{"client_id":"keyfold-cli"}`, 200, "Authorization", "Bearer stale")
	poll := `{"grant_type":"` + api.DeviceGrant + `","device_code":"` + code["device_code"].(string) + `"}`
	p := call("POST", "/v1/auth/device/token", poll, 400)
	if p["error"] != "authorization_pending" || p["type"] != "authorization_pending" || p["detail"] == "" || p["title"] != "Bad Request" {
		t.Errorf("problem: %v", p)
	}
	at := "/v1/auth/device/code/" + code["user_code"].(string)
	call("GET", at, "", 401)
	if got := call("GET", at, "", 200, live...); got["client_id"] != "keyfold-cli" {
		t.Errorf("looked: %v", got)
	}
	call("POST", at+"/approve", "", 204, live...)
	call("POST", at+"/deny", "", 404, live...)
	if got := call("POST", "/v1/auth/device/token", poll, 200); got["access_token"] != "t" || got["email"] != "ann@example.com" || got["user_id"] != user.ID || got["org_id"] != user.OrgID {
		t.Errorf("token: %v", got)
	}
	if p := call("POST", "/v1/auth/device/token", poll, 400); p["error"] != "expired_token" {
		t.Errorf("problem: %v", p)
	}
}

func TestPasskeysRoutes(t *testing.T) {
	call := newCaller(t)
	c := call("POST", "/v1/auth/passkeys/login/begin", "", 200)
	if c["challenge_id"] == "" || c["options"].(map[string]any)["publicKey"].(map[string]any)["userVerification"] != "required" {
		t.Errorf("challenge: %v", c)
	}
	for _, body := range []string{`{}`, `{"challenge_id":"x"}`, `{"challenge_id":"` + c["challenge_id"].(string) + `","credential":{"id":1}}`} {
		call("POST", "/v1/auth/passkeys/login/finish", body, 401)
	}
	call("POST", "/v1/auth/passkeys/register/begin", "", 401)
	c = call("POST", "/v1/auth/passkeys/register/begin", "", 200, live...)
	call("POST", "/v1/auth/passkeys/register/finish", `{"challenge_id":"`+c["challenge_id"].(string)+`","credential":null}`, 400, live...)
	if got := call("GET", "/v1/auth/passkeys", "", 200, live...); len(got["passkeys"].([]any)) != 0 {
		t.Errorf("list: %v", got)
	}
	call("DELETE", "/v1/auth/passkeys/x", "", 404, live...)
}
