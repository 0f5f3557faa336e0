package server_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/store"
)

// twice makes a call, and then again as a client does that did not hear the answer.
func (w *world) twice(sc scenario) (first, again answer) {
	w.t.Helper()
	sc.header = append(sc.header, api.HeaderIdempotencyKey, "once "+sc.call)
	first = w.do(sc)
	if got := first.header.Get(api.HeaderIdempotencyReplayed); got != "" {
		w.t.Errorf("%s: the first answer is said to be a replay: %q", sc.call, got)
	}
	again = w.quiet(cmp.Or(sc.key, w.APIKey), sc.call, sc.body, sc.header...)
	return first, again
}

// replayed fails the test unless the second answer is the first.
func (w *world) replayed(call string, first, again answer) {
	w.t.Helper()
	if again.status != first.status || again.body != first.body || again.header.Get(api.HeaderIdempotencyReplayed) != "true" {
		w.t.Errorf("%s: the first answer is %d %s, the second %d %s", call, first.status, first.body, again.status, again.body)
	}
}

func TestAPasswordThatIsChangedAgain(t *testing.T) {
	w := newWorld(t)
	up := decode[api.SignedUp](t, w.do(scenario{key: "-", call: "POST /v1/auth/signup", body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`, status: 200}))
	change := scenario{key: up.AccessToken, call: "POST /v1/auth/change-password", body: fmt.Sprintf(`{"current_password":%q,"new_password":%q}`, annsPassword, newPassword), status: 204}
	first, again := w.twice(change)
	w.replayed(change.call, first, again)
	w.do(signIn("ann@example.com", newPassword))
}

func TestASecondFactorIsMadeOnce(t *testing.T) {
	w := newWorld(t)
	up := decode[api.SignedUp](t, w.do(scenario{key: "-", call: "POST /v1/auth/signup", body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`, status: 200}))
	begin := scenario{key: up.AccessToken, call: "POST /v1/auth/mfa/totp", body: `{"password":"` + annsPassword + `"}`, status: 200}
	first, again := w.twice(begin)
	w.replayed(begin.call, first, again)
	secret := decode[api.TOTP](t, first).Secret
	confirm := scenario{key: up.AccessToken, call: "POST /v1/auth/mfa/totp/confirm", body: `{"code":"` + w.totpNow(secret) + `"}`, status: 200}
	first, again = w.twice(confirm)
	w.replayed(confirm.call, first, again)
	remove := scenario{key: up.AccessToken, call: "DELETE /v1/auth/mfa/totp", body: `{"code":"` + decode[api.RecoveryCodes](t, first).RecoveryCodes[0] + `"}`, status: 204}
	first, again = w.twice(remove)
	w.replayed(remove.call, first, again)
	w.do(scenario{key: up.AccessToken, call: "GET /v1/auth/me", status: 200, want: []string{`"totp_enabled":false`}})
}

// A code that is sent again was used up by the first request, which is no guess.
func TestACodeThatIsSentAgainIsNoWrongGuess(t *testing.T) {
	w := newWorld(t)
	up := decode[api.SignedUp](t, w.do(scenario{key: "-", call: "POST /v1/auth/signup", body: `{"email":"ann@example.com","password":"` + annsPassword + `"}`, status: 200}))
	secret := decode[api.TOTP](t, w.do(scenario{key: up.AccessToken, call: "POST /v1/auth/mfa/totp", body: `{"password":"` + annsPassword + `"}`, status: 200})).Secret
	confirm := scenario{key: up.AccessToken, call: "POST /v1/auth/mfa/totp/confirm", body: `{"code":"` + w.totpNow(secret) + `"}`, header: []string{api.HeaderIdempotencyKey, "k"}, status: 200}
	first := w.do(confirm)
	for range 10 {
		w.replayed(confirm.call, first, w.do(confirm))
	}
	w.do(scenario{key: up.AccessToken, call: "GET /v1/audit/events", status: 200, want: []string{"request.replayed"}, forbid: []string{"auth.failure"}})
}

func TestARotationIsBegunOnce(t *testing.T) {
	w := newTurning(t)
	w.fill(3)
	begin := scenario{call: "POST " + w.vault + "/cmek-rotate", header: w.headers(), body: w.body(), status: 202, forbid: w.canaries}
	first, again := w.twice(begin)
	if id := decode[api.CMEKRotationJob](t, first).ID; again.status != 202 || decode[api.CMEKRotationJob](t, again).ID != id {
		t.Errorf("the rotation %s was begun again: %d %s", id, again.status, again.body)
	}
	w.ends(first)
	w.readsUnder(w.fresh)
	if all := w.do(scenario{call: "GET " + w.vault + "/cmek-rotations", status: 200}); strings.Count(all.body, `"new_fingerprint"`) != 1 {
		t.Errorf("there is more than one rotation: %s", all.body)
	}
}

func TestAVersionIsReencryptedOnce(t *testing.T) {
	w := newTurning(t)
	w.fill(1)
	blob, err := cmek.EncryptValue(w.fresh, []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	w.do(scenario{call: "POST " + w.vault + "/cmek", body: fmt.Sprintf(`{"fingerprint":%q,"replaces":%q}`, w.fresh.Fingerprint(), w.old.Fingerprint()), status: 200})
	put := scenario{call: "PUT " + w.vault + "/secret-version/p0/1", status: 200,
		body: fmt.Sprintf(`{"value":%q,"old_fingerprint":%q,"new_fingerprint":%q}`, blob, w.old.Fingerprint(), w.fresh.Fingerprint())}
	first, again := w.twice(put)
	w.replayed(put.call, first, again)
}

// Of a message that makes its thread no copy is kept but the thread's own, and the key
// is good for no other body.
func TestAFirstMessageIsKeptUnderItsThreadsDEKAlone(t *testing.T) {
	w := newWorld(t)
	post := scenario{call: "POST /v1/messages", body: `{"body":"` + canary + `"}`, status: 200, reads: true}
	first, again := w.twice(post)
	if again.status != 200 || decode[api.Message](t, again).ID != decode[api.Message](t, first).ID {
		t.Errorf("the first answer is %s, the second %d %s", first.body, again.status, again.body)
	}
	for rec, err := range store.All(t.Context(), w.Node().Store, store.Prefix("sealed:idem:")) {
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("the answer is kept as %s", rec.Key)
	}
	other := w.quiet(w.APIKey, post.call, `{"body":"another"}`, api.HeaderIdempotencyKey, "once "+post.call)
	if other.status != 422 {
		t.Errorf("the same key with another body = %d %s", other.status, other.body)
	}
}
