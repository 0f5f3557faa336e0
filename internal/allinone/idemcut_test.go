package allinone

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// answered is the named member of an answer.
func (r *onceRig) answered(w *httptest.ResponseRecorder, member string) string {
	r.t.Helper()
	var out map[string]any
	err := json.Unmarshal(w.Body.Bytes(), &out)
	text, _ := out[member].(string)
	if err != nil || text == "" || w.Code >= 300 {
		r.t.Fatalf("no %s in %d %s", member, w.Code, w.Body)
	}
	return text
}

// by is call of who has another credential than the owner's API key.
func (r *onceRig) by(credential string, n *Node, call, body, key string) *httptest.ResponseRecorder {
	defer func(key string) { r.key = key }(r.key)
	r.key = credential
	return r.call(n, call, body, key)
}

// A backend key says by X-Identity whose a reaction is: another's is another request.
func TestAReactionOfAnotherIdentityIsAnotherRequest(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	n := r.server(r.copied(false))
	backend := r.answered(r.call(n, "POST /v1/auth/api-keys", `{"name":"b","role":"backend"}`, ""), "api_key")
	send := func(method, path, body string, headers ...string) *httptest.ResponseRecorder {
		q := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		for i := 0; i < len(headers); i += 2 {
			q.Header.Set(headers[i], headers[i+1])
		}
		q.Header.Set("Authorization", "Bearer "+backend)
		q.Header.Set("X-User-Id", "the app")
		w := httptest.NewRecorder()
		n.Handler.ServeHTTP(w, q)
		return w
	}
	th := "/v1/threads/" + r.answered(send("POST", "/v1/threads", `{}`), "id")
	m := th + "/messages/" + r.answered(send("POST", th+"/messages", `{"body":1}`), "id")
	react := func(who string) *httptest.ResponseRecorder {
		return send("POST", m+"/reactions", `{"reaction":"+"}`, "X-Identity", who, api.HeaderIdempotencyKey, "k")
	}
	if w := react("ann"); w.Code != 200 || w.Header().Get(api.HeaderIdempotencyReplayed) != "" {
		t.Errorf("ann: %d %s", w.Code, w.Body)
	}
	if w := react("bob"); w.Code != 422 || !strings.Contains(w.Body.String(), api.ProblemIdempotencyKeyReused) {
		t.Errorf("bob with the key of ann's: %d %s", w.Code, w.Body)
	}
	if w := react("ann"); w.Code != 200 || w.Header().Get(api.HeaderIdempotencyReplayed) != "true" {
		t.Errorf("ann again: %d %s", w.Code, w.Body)
	}
}

// A change of password that is sent again shows the password of before, which is no guess.
func TestAChangeOfPasswordThatIsSentAgainIsNoWrongGuess(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	const was, is = "Correct-Horse-Battery-9", "Correct-Horse-Battery-10"
	n := r.server(r.base)
	if err := n.Identity.SetPassword(t.Context(), r.owner, was); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		w := r.call(n, "POST /v1/auth/change-password", `{"current_password":"`+was+`","new_password":"`+is+`"}`, "k")
		if w.Code != 204 || (w.Header().Get(api.HeaderIdempotencyReplayed) == "true") != (i > 0) {
			t.Errorf("try %d: %d %s", i, w.Code, w.Body)
		}
	}
	if w := r.call(n, "POST /v1/auth/token", `{"email":"a@example.com","password":"`+is+`"}`, ""); w.Code != 200 {
		t.Errorf("signing in with the new password: %d %s", w.Code, w.Body)
	}
	if n := r.failures(n); n != 0 {
		t.Errorf("%d failed sign-ins are recorded", n)
	}
}

// failures is how many failed sign-ins the trail has.
func (r *onceRig) failures(n *Node) int {
	r.t.Helper()
	w := r.call(n, "GET /v1/audit/events", "", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "request.replayed") {
		r.t.Fatalf("%d %s", w.Code, w.Body)
	}
	return strings.Count(w.Body.String(), "auth.failure")
}

// hooked is a store that runs hook before its next commit of a row under prefix, and
// dies right after that many of these.
type hooked struct {
	store.Store
	prefix string
	hook   atomic.Pointer[func()]
	left   atomic.Int64
	dead   atomic.Bool
}

func (h *hooked) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if h.dead.Load() {
		return 0, store.ErrClosed
	}
	if !slices.ContainsFunc(b.Writes, func(w store.Write) bool { return strings.HasPrefix(w.Key, h.prefix) }) {
		return h.Store.Commit(ctx, b)
	}
	if hook := h.hook.Swap(nil); hook != nil {
		(*hook)()
	}
	rev, err := h.Store.Commit(ctx, b)
	if err == nil && h.left.Add(-1) == 0 {
		h.dead.Store(true)
	}
	return rev, err
}

func (h *hooked) Close() error { return nil }

// A server dies between the two commits that end an agent's tokens, and an exchange had
// slipped in before the first. Sent again the request is answered with the same key, and
// the token is dead; sent once more it leaves the tokens alone that were made since.
func TestARotationThatWasCutOffEndsTheTokensWhenItIsSentAgain(t *testing.T) {
	t.Parallel()
	for call, body := range map[string]string{
		"POST /v1/agents/{agent}/rotate-key": "",
		"PATCH /v1/agents/{agent}":           `{"scopes":["a/*"]}`,
	} {
		t.Run(call, func(t *testing.T) {
			r := newOnceRig(t)
			b := r.server(r.base)
			key := r.answered(r.call(b, "POST /v1/agents/{agent}/rotate-key", "", ""), "api_key")
			exchange := func() string {
				return r.answered(r.call(b, "POST /v1/auth/agent-token", `{"agent_id":"{agent}","api_key":"`+key+`"}`, ""), "access_token")
			}
			lives := func(token string) bool { return r.by(token, b, "GET /v1/agents/me", "", "").Code == 200 }
			var slipped string
			h := &hooked{Store: r.base, prefix: "agent:"}
			a := r.server(h)
			slip := func() { // NotBefore is taken, 5 s ahead, and not stored
				r.clock.Add(int64(5 * time.Second))
				slipped = exchange()
			}
			h.left.Store(1)
			h.hook.Store(&slip)
			if w := r.call(a, call, body, "k"); !h.dead.Load() || w.Code < 500 {
				t.Fatalf("it was not cut off: %d %s", w.Code, w.Body)
			}
			if !lives(slipped) {
				t.Fatal("the token is dead before the second commit: this shows nothing")
			}
			first := r.call(b, call, body, "k")
			if first.Code != 200 || first.Header().Get(api.HeaderIdempotencyReplayed) != "true" {
				t.Errorf("sent again: %d %s", first.Code, first.Body)
			}
			if lives(slipped) {
				t.Error("it was answered as done, and a token of before lives")
			}
			if strings.HasSuffix(call, "rotate-key") {
				key = r.answered(first, "api_key")
			}
			r.clock.Add(int64(time.Second))
			fresh := exchange()
			if again := r.call(b, call, body, "k"); again.Body.String() != first.Body.String() {
				t.Errorf("%s\n%s", first.Body, again.Body)
			}
			if !lives(fresh) {
				t.Error("a request that was done ends tokens when it is sent once more")
			}
		})
	}
}

// Another change of the agent ends the tokens as well that one left that was cut off.
func TestTheNextChangeOfAnAgentEndsWhatOneLeftThatWasCutOff(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	b := r.server(r.base)
	key := r.answered(r.call(b, "POST /v1/agents/{agent}/rotate-key", "", ""), "api_key")
	var slipped string
	h := &hooked{Store: r.base, prefix: "agent:"}
	slip := func() {
		r.clock.Add(int64(5 * time.Second))
		slipped = r.answered(r.call(b, "POST /v1/auth/agent-token", `{"agent_id":"{agent}","api_key":"`+key+`"}`, ""), "access_token")
	}
	a := r.server(h)
	h.left.Store(1)
	h.hook.Store(&slip)
	r.call(a, "POST /v1/agents/{agent}/rotate-key", "", "")
	if w := r.call(b, "PATCH /v1/agents/{agent}", `{"description":"d"}`, ""); w.Code != 200 || !h.dead.Load() {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w := r.by(slipped, b, "GET /v1/agents/me", "", ""); w.Code != 401 {
		t.Errorf("a token of the old key: %d %s", w.Code, w.Body)
	}
}

// A member is removed by a server that dies between two commits: sent again, the request
// leaves nothing of him.
func TestAMemberWhoseRemovalWasCutOffLeavesNothingWhenItIsSentAgain(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	const call = "DELETE /v1/org/members/{member}"
	id := r.names.Replace("{member}")
	n := r.server(r.base)
	for range 2 {
		if _, err := n.Identity.CreateAPIKey(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	one := r.copied(false)
	if w := r.call(r.server(one), call, "", "k"); w.Code != 204 {
		t.Fatal(w.Code, w.Body)
	}
	want := r.shape(one)
	commits := 0
	for at, died := 1, true; died; at++ {
		m := &mortal{Store: r.copied(false)}
		n := r.server(m)
		m.dying.Store(&storetest.DyingStore{Store: m.Store, At: at, Takes: true})
		first := r.call(n, call, "", "k")
		if died = m.dying.Load().Dead(); !died {
			break
		}
		commits = at
		if second := r.call(r.server(m.Store), call, "", "k"); second.Code != 204 {
			t.Errorf("killed at commit %d: %d, then %d %s", at, first.Code, second.Code, second.Body)
		}
		if diff := cmp.Diff(want, r.shape(m.Store)); diff != "" {
			t.Errorf("killed at commit %d: made once is -, this is +:\n%s", at, diff)
		}
	}
	if commits < 3 {
		t.Errorf("it was killed at %d commits", commits)
	}
}

// A server dies after each move of the time from which sessions count, and somebody had
// signed in before the first, unseen. While the session that asks for it lives the
// request can be sent again; when it does not, all others are over.
func TestTheEndOfAllSessionsThatWasCutOffIsMadeWhenItIsSentAgain(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	const password, call = "Correct-Horse-Battery-9", "DELETE /v1/auth/tokens"
	n := r.server(r.base)
	if err := n.Identity.SetPassword(t.Context(), r.owner, password); err != nil {
		t.Fatal(err)
	}
	signIn := func(n *Node) string {
		return r.answered(r.call(n, "POST /v1/auth/token", `{"email":"a@example.com","password":"`+password+`"}`, ""), "access_token")
	}
	mine := signIn(n)
	for _, c := range []struct {
		moves int64
		by    string
		again int
	}{{1, mine, 204}, {2, mine, 204}, {3, mine, 401}, {1, r.key, 204}, {2, r.key, 204}, {3, r.key, 204}} {
		base := r.copied(false)
		b := r.server(base)
		h := &hooked{Store: base, prefix: layout.User("")}
		a := r.server(h)
		var slipped string
		slip := func() { // as above
			r.clock.Add(int64(5 * time.Second))
			slipped = signIn(b)
		}
		h.left.Store(c.moves)
		h.hook.Store(&slip)
		if w := r.by(c.by, a, call, "", "k"); !h.dead.Load() || w.Code < 500 {
			t.Fatalf("it was not cut off after move %d: %d %s", c.moves, w.Code, w.Body)
		}
		if w := r.by(c.by, b, call, "", "k"); w.Code != c.again {
			t.Errorf("cut off after move %d, sent again: %d %s", c.moves, w.Code, w.Body)
		}
		for whose, token := range map[string]string{"who signed in unseen": slipped, "who asked": mine} {
			if w := r.by(token, b, "GET /v1/auth/me", "", ""); w.Code != 401 {
				t.Errorf("cut off after move %d: the session of %s lives: %d", c.moves, whose, w.Code)
			}
		}
	}
}
