package kmsserver

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	customer "github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

const (
	agentUID = 1006 // of the role cmek alone
	otherUID = 1007 // as that
)

func (f *fakeKMS) CMEKSeal(_ context.Context, caller string, items []kmsapi.CMEKSealItem) ([]kmsapi.CMEKSealResult, error) {
	out := make([]kmsapi.CMEKSealResult, len(items))
	for i, item := range items {
		f.saw(item.Plaintext)
		out[i] = kmsapi.CMEKSealResult{Value: caller, Err: f.item(i, item.Fingerprint)}
	}
	return out, f.note("CMEKSeal")
}

func (f *fakeKMS) CMEKOpen(_ context.Context, _ string, items []kmsapi.CMEKOpenItem) ([]kmsapi.CMEKOpenResult, error) {
	out := make([]kmsapi.CMEKOpenResult, len(items))
	for i, item := range items {
		if out[i].Err = f.item(i, item.Fingerprint); out[i].Err == nil {
			out[i].Plaintext = []byte(canary)
			f.saw(out[i].Plaintext)
		}
	}
	return out, f.note("CMEKOpen")
}

func (f *fakeKMS) CreateCMEKKey(_ context.Context, name string) (kmsapi.CMEKKey, error) {
	return kmsapi.CMEKKey{Name: name}, f.note("CreateCMEKKey")
}

func (f *fakeKMS) ImportCMEKKey(_ context.Context, name string, raw []byte) (kmsapi.CMEKKey, error) {
	f.saw(raw)
	return kmsapi.CMEKKey{Name: name, Imported: true}, f.note("ImportCMEKKey")
}

func (f *fakeKMS) CMEKKeys(context.Context, string) (kmsapi.CMEKKeys, error) {
	return kmsapi.CMEKKeys{}, f.note("CMEKKeys")
}

func (f *fakeKMS) GrantCMEKKey(context.Context, string, string) error {
	return f.note("GrantCMEKKey")
}

func (f *fakeKMS) RevokeCMEKKey(context.Context, string, string) error {
	return f.note("RevokeCMEKKey")
}

func (f *fakeKMS) DeleteCMEKKey(context.Context, string) error { return f.note("DeleteCMEKKey") }

func init() {
	for name, s := range map[string]sample{
		"POST /cmek_seal":                 {"cmek", "POST /cmek_seal", `{"fingerprint":"f","vault":"v","path":"p","version":1,"plaintext":"AA=="}`, "CMEKSeal"},
		"POST /cmek_open":                 {"cmek", "POST /cmek_open", `{"fingerprint":"f","vault":"v","path":"p","value":"x"}`, "CMEKOpen"},
		"GET /cmek_keys":                  {"admin", "GET /cmek_keys", ``, "CMEKKeys"},
		"POST /cmek_keys":                 {"admin", "POST /cmek_keys", `{}`, "CreateCMEKKey"},
		"DELETE /cmek_keys/{fingerprint}": {"admin", "DELETE /cmek_keys/f", ``, "DeleteCMEKKey"},
		"POST /cmek_grant":                {"admin", "POST /cmek_grant", `{"fingerprint":"f","caller":"uid:1006"}`, "GrantCMEKKey"},
		"POST /cmek_revoke":               {"admin", "POST /cmek_revoke", `{"fingerprint":"f","caller":"uid:1"}`, "RevokeCMEKKey"},
	} {
		samples[name] = s
	}
}

// custody is a server over real keys with callers of the role cmek.
type custody struct {
	*rig
	admin *http.Client
}

func newCustody(t *testing.T) custody {
	r, _ := newReal(t)
	return custody{r, r.client(adminUID)}
}

// want makes a call and returns its answer, of that status.
func (c custody) want(status int, client *http.Client, call, body string) string {
	c.Helper()
	a := c.do(client, call, "", body)
	if a.status != status {
		c.Fatalf("%s %s: %d %s, want %d", call, body, a.status, a.body, status)
	}
	return a.body
}

func (c custody) create() string {
	c.Helper()
	var key kmsapi.CMEKKey
	if err := json.Unmarshal([]byte(c.want(200, c.admin, "POST /cmek_keys", `{"name":"payroll"}`)), &key); err != nil {
		c.Fatal(err)
	}
	return key.Fingerprint
}

func grantBody(fingerprint, caller string) string {
	return fmt.Sprintf(`{"fingerprint":%q,"caller":%q}`, fingerprint, caller)
}

func sealBody(fingerprint string) string {
	return fmt.Sprintf(`{"fingerprint":%q,"vault":"v","path":"a/b","version":2,"plaintext":%q}`, fingerprint, base64.StdEncoding.EncodeToString([]byte(canary)))
}

// The agents' connections stay open all the while.
func TestARevokedCallerIsRefusedAtTheNextCallOnTheSameConnection(t *testing.T) {
	c := newCustody(t)
	fingerprint := c.create()
	agent, other := c.client(agentUID), c.client(otherUID)
	c.want(403, agent, "POST /cmek_seal", sealBody(fingerprint))
	c.want(403, c.admin, "POST /cmek_seal", sealBody(fingerprint))
	for _, who := range []string{"uid:1006", "uid:1007"} {
		c.want(200, c.admin, "POST /cmek_grant", grantBody(fingerprint, who))
	}
	var sealed kmsapi.CMEKSealResult
	if err := json.Unmarshal([]byte(c.want(200, agent, "POST /cmek_seal", sealBody(fingerprint))), &sealed); err != nil {
		t.Fatal(err)
	}
	open := fmt.Sprintf(`{"fingerprint":%q,"vault":"v","path":"a/b","value":%q}`, fingerprint, sealed.Value)
	want := `{"plaintext":"` + base64.StdEncoding.EncodeToString([]byte(canary)) + `"}`
	for _, client := range []*http.Client{agent, other} {
		if got := c.want(200, client, "POST /cmek_open", open); strings.TrimSpace(got) != want {
			t.Errorf("%s", got)
		}
	}
	c.want(200, c.admin, "POST /cmek_revoke", grantBody(fingerprint, "uid:1006"))
	for _, call := range []string{"POST /cmek_open", "POST /cmek_seal"} {
		body := open
		if call == "POST /cmek_seal" {
			body = sealBody(fingerprint)
		}
		if text := c.want(403, agent, call, body); !strings.Contains(text, kmsapi.TypeCMEKNotGranted) {
			t.Errorf("%s: %s", call, text)
		}
	}
	c.want(200, other, "POST /cmek_open", open)
}

// A missing key and one of others: one answer, byte for byte.
func TestWhoHasNoGrantCannotTellWhetherThereIsAKey(t *testing.T) {
	c := newCustody(t)
	agent := c.client(agentUID)
	there := c.want(403, agent, "POST /cmek_seal", sealBody(c.create()))
	if missing := c.want(403, agent, "POST /cmek_seal", sealBody(strings.Repeat("0", 64))); missing != there {
		t.Errorf("%s\n%s", there, missing)
	}
}

func TestAGrantIsForAListedCallerOfTheRoleAlone(t *testing.T) {
	c := newCustody(t)
	fingerprint := c.create()
	for _, who := range []string{"uid:4711", "uid:1001", "cert:admin", "cert:nobody", "uid:", "agent", "uid:01006"} {
		if text := c.want(400, c.admin, "POST /cmek_grant", grantBody(fingerprint, who)); !strings.Contains(text, "role cmek") {
			t.Errorf("%s: %s", who, text)
		}
		c.want(200, c.admin, "POST /cmek_revoke", grantBody(fingerprint, who)) // never refused
	}
	c.want(400, c.admin, "POST /cmek_grant", `{"fingerprint":"x"}`)
	c.want(404, c.admin, "POST /cmek_grant", grantBody(strings.Repeat("0", 64), "uid:1006"))
}

// All that an admin can ask of a key is searched for the key.
func TestNoCallGivesARawKeyOut(t *testing.T) {
	c := newCustody(t)
	key := customer.Generate()
	raw := key.Bytes()
	var all strings.Builder
	all.WriteString(c.want(200, c.admin, "POST /cmek_keys", `{"name":"n","key":"`+base64.StdEncoding.EncodeToString(raw)+`"}`))
	all.WriteString(c.want(409, c.admin, "POST /cmek_keys", `{"key":"`+base64.StdEncoding.EncodeToString(raw)+`"}`))
	all.WriteString(c.want(400, c.admin, "POST /cmek_keys", `{"key":"`+base64.StdEncoding.EncodeToString(raw[:31])+`"}`))
	c.want(200, c.admin, "POST /cmek_grant", grantBody(key.Fingerprint(), "uid:1006"))
	for _, call := range []string{"GET /cmek_keys", "GET /keys", "GET /keys?deks=true", "GET /status", "GET /jobs"} {
		all.WriteString(c.want(200, c.admin, call, ""))
	}
	all.WriteString(c.want(409, c.admin, "DELETE /cmek_keys/"+key.Fingerprint(), ""))
	all.WriteString(c.want(200, c.client(agentUID), "POST /cmek_seal", sealBody(key.Fingerprint())))
	all.WriteString(c.log.String())
	for _, form := range []string{string(raw), base64.StdEncoding.EncodeToString(raw)[:40], fmt.Sprintf("%x", raw)[:60]} {
		if strings.Contains(all.String(), form) {
			t.Errorf("the key came out as %q", form)
		}
	}
}

// What went in and out is overwritten once it is answered.
func TestPlaintextsAndRawKeysAreWiped(t *testing.T) {
	r := newRig(t)
	var seen [][]byte
	r.kms.seen = func(b ...[]byte) { seen = append(seen, b...) }
	r.do(r.client(agentUID), "POST /cmek_seal", "", samples["POST /cmek_seal"].body)
	r.do(r.client(agentUID), "POST /cmek_open", "", samples["POST /cmek_open"].body)
	r.do(r.client(adminUID), "POST /cmek_keys", "", `{"key":"AQID"}`)
	if len(seen) != 3 {
		t.Fatalf("%d were seen", len(seen))
	}
	r.do(r.client(adminUID), "GET /healthz", "", "") // after the answers' last deferred calls
	for i, b := range seen {
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("%d is still %q", i, b)
		}
	}
}
