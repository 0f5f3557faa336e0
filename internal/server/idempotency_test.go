package server_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/server"
	"github.com/keyfold/keyfold/internal/store"
)

// whoWrites says who makes each write, where it is not the home org's owner.
func whoWrites(call string) string {
	switch _, path, _ := strings.Cut(call, " "); {
	case strings.HasPrefix(path, "/admin/"), strings.HasPrefix(path, "/v1/admin/"):
		return "operator"
	case path == "/v1/_sign", path == "/backend/v1/sign":
		return "backend"
	}
	return "owner"
}

// changesNothing are the writes of which what the test makes is there already.
var changesNothing = map[string]bool{
	"POST /v1/_sign": true, "POST /backend/v1/sign": true, "DELETE /admin/jobs/{job}": true,
}

// unwritable are the writes with which the matrix does not succeed, or that cannot be
// made again, and where else they are tested.
var unwritable = map[string]string{ // by call: why
	"POST /v1/auth/change-password":                   "TestAPasswordThatIsChangedAgain",
	"POST /v1/auth/mfa/totp":                          "TestASecondFactorIsMadeOnce",
	"POST /v1/auth/mfa/totp/confirm":                  "TestASecondFactorIsMadeOnce",
	"DELETE /v1/auth/mfa/totp":                        "TestASecondFactorIsMadeOnce",
	"POST /v1/auth/passkeys/register/finish":          "needs an authenticator",
	"DELETE /v1/auth/passkeys/{passkey}":              "needs an authenticator",
	"POST /v1/vaults/{vault}/cmek-rotate":             "TestARotationIsBegunOnce",
	"DELETE /v1/vaults/{vault}/cmek-rotate/{job}":     "TestARotationIsBegunOnce",
	"PUT /v1/vaults/{vault}/secret-version/{path...}": "TestAVersionIsReencryptedOnce",
	"POST /admin/encryption/generate-kek":             "changes nothing",
	"DELETE /v1/auth/token":                           "ends the credential that it comes with",
	"POST /v1/auth/passkeys/register/begin":           "leaves a challenge that is over in minutes",
}

// Each write, made twice with one key, changes nothing the second time and is answered
// the same.
func TestEveryWriteThatIsSentAgainChangesNothingTwice(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	rows := map[string]row{}
	for _, r := range matrix {
		rows[r.call] = r
	}
	calls := map[string]bool{}
	for _, r := range server.Rows() {
		if call := r.Method + " " + r.Pattern; r.Method != "GET" && r.Who == httpx.Principal {
			calls[call] = true
		}
	}
	for call := range unwritable {
		if !calls[call] {
			t.Errorf("%s is no write", call)
		}
	}
	for i, call := range slices.Backward(slices.Sorted(maps.Keys(calls))) { // what is deleted is made before
		if unwritable[call] != "" {
			continue
		}
		t.Run(call, func(t *testing.T) {
			c.t = t
			r := rows[call]
			o := c.home.with(r.fresh)
			who := c.callers[whoWrites(call)]
			target, body := o.fill(r.call), o.fill(r.body)
			key := "key-" + string(rune('a'+i%26)) + call
			first := c.call(who.with(api.HeaderIdempotencyKey, key), target, body)
			if first.status >= 300 || first.header.Get(api.HeaderIdempotencyReplayed) != "" {
				t.Fatalf("%s %s = %d %s", target, body, first.status, first.body)
			}
			c.settle()
			var again answer
			c.unchanged(func() { again = c.call(who.with(api.HeaderIdempotencyKey, key), target, body) })
			if again.status != first.status || again.body != first.body || again.header.Get("Location") != first.header.Get("Location") {
				t.Errorf("the first answer is %d %s, the second %d %s", first.status, first.body, again.status, again.body)
			}
			either := call == "DELETE /admin/jobs/{job}" // it writes while the job has not ended
			if wrote := !changesNothing[call]; !either && (again.header.Get(api.HeaderIdempotencyReplayed) == "true") != wrote {
				t.Errorf("%s is %q", api.HeaderIdempotencyReplayed, again.header.Get(api.HeaderIdempotencyReplayed))
			}
			if body == "" || changesNothing[call] || strings.Contains(call, "/messages") && !strings.Contains(call, "/reactions") {
				return // to a message a member that it does not have is none
			}
			other := strings.Replace(body, "{", `{"other":1,`, 1)
			c.unchanged(func() { again = c.call(who.with(api.HeaderIdempotencyKey, key), target, other) })
			if again.status != 422 && again.status != 400 { // of a strict row
				t.Errorf("with another body: %d %s", again.status, again.body)
			}
		})
	}
	c.t = t
	checkIdemRows(t, c.Node().Store)
}

// checkIdemRows tests that rows hold nothing that looks like a secret.
func checkIdemRows(t *testing.T, s store.Store) {
	t.Helper()
	n := 0
	for rec, err := range store.All(t.Context(), s, store.Prefix("idem:")) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		for _, secret := range []string{canary, "1ck_", "ocv_", "1inv_", "share_url", `"secret"`, "key-"} {
			if strings.Contains(string(rec.Value), secret) || strings.Contains(rec.Key, secret) {
				t.Errorf("%s = %s", rec.Key, rec.Value)
			}
		}
	}
	if n == 0 {
		t.Error("there are no rows")
	}
}

func (c caller) with(header ...string) caller {
	c.header = append(slices.Clone(c.header), header...)
	return c
}
