package keyfoldtest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/keyfoldtest"
)

// call sends a request as the owner of key and returns status and body.
func call(t *testing.T, s *keyfoldtest.Server, key, method, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// makeVault returns the ID of a fresh vault of key's.
func makeVault(t *testing.T, s *keyfoldtest.Server, key string) string {
	t.Helper()
	status, body := call(t, s, key, "POST", "/v1/vaults", `{"name":"v"}`)
	_, rest, ok := strings.Cut(body, `"id":"`)
	if status != 201 || !ok {
		t.Fatalf("making a vault: %d %s", status, body)
	}
	return rest[:36]
}

func TestAServerIsReadyAtOnce(t *testing.T) {
	s := keyfoldtest.Start(t)
	if status, body := call(t, s, "", "GET", "/readyz", ""); status != 200 {
		t.Errorf("readyz = %d %s", status, body)
	}
	makeVault(t, s, s.APIKey)
}

func TestUsersAreOfTheOrgAndPlanThatWasAsked(t *testing.T) {
	s := keyfoldtest.Start(t)
	vault := "/v1/vaults/" + makeVault(t, s, s.APIKey)
	mate, free := s.NewUser(s.Owner.OrgID), s.NewOrg("free")
	if status, _ := call(t, s, mate.APIKey, "GET", vault, ""); status != 403 {
		t.Errorf("a mate reads the vault: %d", status)
	}
	if status, _ := call(t, s, free.APIKey, "GET", vault, ""); status != 404 {
		t.Errorf("another org reads the vault: %d", status)
	}
	status, body := call(t, s, free.APIKey, "POST", "/v1/vaults/"+makeVault(t, s, free.APIKey)+"/cmek", `{"fingerprint":"`+strings.Repeat("a", 64)+`"}`)
	if status != 403 {
		t.Errorf("CMEK on the free plan: %d %s", status, body)
	}
}

func TestTheClockIsTheServers(t *testing.T) {
	s := keyfoldtest.Start(t)
	secret := "/v1/vaults/" + makeVault(t, s, s.APIKey) + "/secrets/a"
	expires := s.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	if status, body := call(t, s, s.APIKey, "PUT", secret, `{"value":"x","expires_at":"`+expires+`"}`); status != 201 {
		t.Fatalf("put: %d %s", status, body)
	}
	if status, _ := call(t, s, s.APIKey, "GET", secret, ""); status != 200 {
		t.Errorf("before it expires: %d", status)
	}
	s.Advance(2 * time.Hour)
	if status, _ := call(t, s, s.APIKey, "GET", secret, ""); status != 410 {
		t.Errorf("after it expired: %d", status)
	}
}

func TestWithoutTheKMSNothingIsStoredOrRead(t *testing.T) {
	s := keyfoldtest.Start(t)
	secret := "/v1/vaults/" + makeVault(t, s, s.APIKey) + "/secrets/a"
	call(t, s, s.APIKey, "PUT", secret, `{"value":"canary-1"}`)
	s.SetKMSDown(true)
	for _, c := range [][3]string{{"GET", secret}, {"PUT", secret, `{"value":"canary-2"}`}, {"POST", "/v1/threads"}, {"GET", "/readyz"}} {
		if status, body := call(t, s, s.APIKey, c[0], c[1], c[2]); status != 503 {
			t.Errorf("%s %s without the KMS = %d %s", c[0], c[1], status, body)
		}
	}
	s.SetKMSDown(false)
	if _, body := call(t, s, s.APIKey, "GET", secret, ""); !strings.Contains(body, "canary-1") {
		t.Errorf("with the KMS again: %s", body)
	}
	s.MustNotHold(t, "canary-1", "canary-2", s.APIKey)
}

func TestARestartKeepsDataKeysAndAddress(t *testing.T) {
	s := keyfoldtest.Start(t, keyfoldtest.OnDisk(t.TempDir()))
	secret := "/v1/vaults/" + makeVault(t, s, s.APIKey) + "/secrets/a"
	call(t, s, s.APIKey, "PUT", secret, `{"value":"canary-1"}`)
	url := s.URL
	s.Restart()
	if status, body := call(t, s, s.APIKey, "GET", secret, ""); status != 200 || !strings.Contains(body, "canary-1") || s.URL != url {
		t.Errorf("after a restart at %s: %d %s", s.URL, status, body)
	}
	s.MustNotHold(t, "canary-1")
}

// found is a testing.TB that notes a failure instead of failing.
type found struct {
	testing.TB
	failed bool
}

func (f *found) Helper()               {}
func (f *found) Errorf(string, ...any) { f.failed = true }

func TestMustNotHoldFindsWhatIsThere(t *testing.T) {
	s := keyfoldtest.Start(t)
	call(t, s, s.APIKey, "POST", "/v1/vaults", `{"name":"in the clear"}`)
	for _, c := range []struct {
		text  string
		there bool
	}{{"in the clear", true}, {"POST", true}, {"orgvault:", true}, {"kek:", true}, {"nowhere", false}} {
		f := &found{TB: t}
		if s.MustNotHold(f, c.text); f.failed != c.there {
			t.Errorf("MustNotHold(%q) fails: %v, want %v", c.text, f.failed, c.there)
		}
	}
}

func TestCORSIsForTheOriginsAsked(t *testing.T) {
	s := keyfoldtest.Start(t, keyfoldtest.WithCORS("https://app.example.com"))
	r, _ := http.NewRequest("OPTIONS", s.URL+"/v1/vaults", nil)
	r.Header.Set("Origin", "https://app.example.com")
	r.Header.Set("Access-Control-Request-Method", "POST")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 204 || res.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("preflight = %d %v", res.StatusCode, res.Header)
	}
}
