package identity

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/token"
)

// newAPIKey makes a key of p's, or of that role.
func (r *keyRig) newAPIKey(p access.Principal, req api.CreateAPIKey) (api.APIKey, string) {
	r.t.Helper()
	if req.Name == "" {
		req.Name = "k"
	}
	made := must(r.AddAPIKey(r.t.Context(), p, req))(r.t)
	return made.Key, r.seen(made.APIKey)
}

// newAdminKey makes an admin key of the rig's org.
func (r *keyRig) newAdminKey() string {
	r.t.Helper()
	return r.seen(must(r.CreateAdminKey(r.t.Context(), r.org.ID))(r.t))
}

func TestAnAPIKeyHasTheContractsMembers(t *testing.T) {
	r := newKeyRig(t)
	r.clock.frozen = true
	now, end := r.clock.now, r.clock.now.Add(time.Hour)
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
	bare := must(r.AddAPIKey(t.Context(), r.owner, api.CreateAPIKey{Name: "ci"}))(t)
	want := `{"key":{"id":"` + bare.Key.ID + `","name":"ci","key_prefix":"` + bare.APIKey[:12] + `","scopes":[],"is_active":true,"created_at":"` + at(now) + `"},"api_key":"` + bare.APIKey + `"}`
	if diff := cmp.Diff(want, asJSON(t, bare)); diff != "" {
		t.Error(diff)
	}
	_, key := r.newAPIKey(r.owner, api.CreateAPIKey{Name: "all", Scopes: []string{"a/*", "vaults:read"}, ExpiresAt: &end})
	r.in(key)
	r.clock.add(time.Hour)
	keys := must(r.APIKeys(t.Context(), r.owner))(t).Keys
	got := keys[len(keys)-1]
	want = `{"id":"` + got.ID + `","name":"all","key_prefix":"` + key[:12] + `","scopes":["a/*","vaults:read"],"is_active":false,"created_at":"` + at(now) + `","expires_at":"` + at(end) + `","last_used_at":"` + at(now) + `"}`
	if diff := cmp.Diff(want, asJSON(t, got)); diff != "" {
		t.Error(diff)
	}
}

func TestAKeyIsItsUserWithinItsScopes(t *testing.T) {
	r := newKeyRig(t)
	k, key := r.newAPIKey(r.owner, api.CreateAPIKey{Scopes: []string{"a/*"}})
	p := r.in(key)
	if p.Kind != access.User || p.ID != r.owner.ID || p.OrgID != r.org.ID || p.Role != access.Owner || p.Plan != access.Enterprise || p.Credential != k.ID {
		t.Errorf("%+v", p)
	}
	if p.Ceiling == nil || cmp.Diff([]string{"a/*"}, p.Ceiling.Scopes) != "" {
		t.Errorf("ceiling %+v", p.Ceiling)
	}
	if r.owner.Ceiling != nil {
		t.Error("a key without scopes has a ceiling")
	}
	got := must(r.APIKeyToken(t.Context(), From{}, api.GetAPIKeyToken{APIKey: key}))(t)
	if got.ExpiresIn != 900 || got.TokenType != "Bearer" || got.RefreshToken != "" {
		t.Errorf("%+v", got)
	}
	by := r.in(got.AccessToken)
	if by.Ceiling == nil || cmp.Diff([]string{"a/*"}, by.Ceiling.Scopes) != "" || by.ID != p.ID || by.Role != access.Owner || by.Credential == k.ID {
		t.Errorf("by its token: %+v", by)
	}
	for _, limited := range []access.Principal{p, by} { // or it would lead beyond itself
		_, err := r.AddAPIKey(t.Context(), limited, api.CreateAPIKey{Name: "n"})
		wantFault(t, "a key of some paths makes a key", err, fault.Forbidden)
		_, err = r.CreateAgent(t.Context(), limited, api.CreateAgent{Name: "n"})
		wantFault(t, "a key of some paths makes an agent", err, fault.Forbidden)
	}
	_, labelled := r.newAPIKey(r.owner, api.CreateAPIKey{Scopes: []string{"vaults:read"}})
	r.newAPIKey(r.in(labelled), api.CreateAPIKey{})
}

func TestAKeyDiesByItsEndAndByItsDeletion(t *testing.T) {
	r := newKeyRig(t)
	end := r.clock.Now().Add(time.Minute)
	_, mortal := r.newAPIKey(r.owner, api.CreateAPIKey{ExpiresAt: &end})
	k, key := r.newAPIKey(r.owner, api.CreateAPIKey{})
	_, other := r.newAPIKey(r.owner, api.CreateAPIKey{})
	if got := must(r.APIKeyToken(t.Context(), From{}, api.GetAPIKeyToken{APIKey: mortal}))(t); got.ExpiresIn > 60 || got.ExpiresIn < 58 {
		t.Errorf("the token of a key with an end lives %d", got.ExpiresIn)
	}
	r.in(mortal)
	r.in(key)
	r.clock.add(time.Minute)
	r.out("expired", mortal)
	must(0, r.DeleteAPIKey(t.Context(), r.owner, k.ID))(t)
	r.out("deleted", key)
	r.in(other)
	wantFault(t, "deleted twice", r.DeleteAPIKey(t.Context(), r.owner, k.ID), fault.NotFound)
	for what, bad := range map[string]string{
		"expired": mortal, "deleted": key, "unknown": newKey(keyPrefix), "an agent's": newKey(agentPrefix), "empty": "", "an admin's": r.newAdminKey(),
	} {
		r.trail.taken()
		got, err := r.APIKeyToken(t.Context(), From{}, api.GetAPIKeyToken{APIKey: bad})
		if err != errCredential || got != (api.Token{}) {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff([]string{"auth.failure failed"}, r.trail.taken()); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
}

func TestOnlyItsUserSeesAndDeletesAKey(t *testing.T) {
	r := newKeyRig(t)
	k, key := r.newAPIKey(r.owner, api.CreateAPIKey{})
	admin, member := r.newUser(r.org, access.Admin), r.newUser(r.org, access.Member)
	front, _ := r.newAPIKey(admin, api.CreateAPIKey{Role: api.RoleFrontend})
	_, agentKey := r.newAgent(api.CreateAgent{})
	r.unchanged(func() {
		for what, p := range map[string]access.Principal{"another org's owner": r.stranger, "an admin": admin, "a member": member} {
			wantFault(t, what, r.DeleteAPIKey(t.Context(), p, k.ID), fault.NotFound)
			for _, have := range must(r.APIKeys(t.Context(), p))(t).Keys {
				if have.ID == k.ID || have.ID == front.ID && what != "an admin" {
					t.Errorf("%s sees it", what)
				}
			}
		}
		for what, p := range map[string]access.Principal{"another org's owner": r.stranger, "a member": member} {
			wantFault(t, what, r.DeleteAPIKey(t.Context(), p, front.ID), fault.NotFound)
		}
		for _, id := range []string{"", "x", key, r.org.ID, strings.Repeat("a", 1<<20)} {
			wantFault(t, "no ID of a key", r.DeleteAPIKey(t.Context(), r.owner, id), fault.NotFound)
		}
	})
	robot := r.in(r.token(agentKey))
	_, err := r.AddAPIKey(t.Context(), robot, api.CreateAPIKey{Name: "n"})
	wantFault(t, "an agent makes one", err, fault.Forbidden)
	_, err = r.APIKeys(t.Context(), robot)
	wantFault(t, "an agent lists them", err, fault.Forbidden)
	wantFault(t, "an agent deletes one", r.DeleteAPIKey(t.Context(), robot, k.ID), fault.Forbidden)
	r.in(key)
	r.silent()
}

func TestOrgKeysAreMadeByThoseWhoRunTheOrg(t *testing.T) {
	r := newKeyRig(t)
	admin, member := r.newUser(r.org, access.Admin), r.newUser(r.org, access.Member)
	for _, role := range []string{api.RoleFrontend, api.RoleBackend} {
		_, err := r.AddAPIKey(t.Context(), member, api.CreateAPIKey{Name: "n", Role: role})
		wantFault(t, "a member", err, fault.Forbidden)
		_, err = r.AddAPIKey(t.Context(), r.owner, api.CreateAPIKey{Name: "n", Role: role, Scopes: []string{"a"}})
		wantFault(t, "with scopes that would limit nothing", err, fault.Invalid)
		k, key := r.newAPIKey(admin, api.CreateAPIKey{Role: role})
		p := r.in(key)
		if p != (access.Principal{Kind: access.OrgKey, ID: k.ID, OrgID: r.org.ID, Plan: access.Enterprise, Role: access.Role(role), Credential: k.ID}) || k.Role != role {
			t.Errorf("%+v", p)
		}
		_, err = r.APIKeyToken(t.Context(), From{}, api.GetAPIKeyToken{APIKey: key})
		wantFault(t, "a token of it", err, fault.Unauthenticated)
		_, err = r.AddAPIKey(t.Context(), p, api.CreateAPIKey{Name: "n"})
		wantFault(t, "makes keys", err, fault.Forbidden)
		_, err = r.APIKeys(t.Context(), p)
		wantFault(t, "lists keys", err, fault.Forbidden)
		must(0, r.DeleteAPIKey(t.Context(), r.owner, k.ID))(t)
		r.out("deleted by another who runs the org", key)
	}
	for _, role := range []string{"admin", "Frontend", "owner", "member"} {
		_, err := r.AddAPIKey(t.Context(), r.owner, api.CreateAPIKey{Name: "n", Role: role})
		wantFault(t, role, err, fault.Invalid)
	}
}

func TestAnAdminKeyIsMadeByAnotherAlone(t *testing.T) {
	r := newKeyRig(t)
	operator := r.in(r.newAdminKey())
	for what, p := range map[string]access.Principal{"an owner": r.owner, "nobody": {}} {
		if _, err := r.AddAdminKey(t.Context(), p, api.CreateAPIKey{Name: "n"}); !errors.Is(err, fault.Forbidden) && !errors.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v", what, err)
		}
	}
	made := must(r.AddAdminKey(t.Context(), operator, api.CreateAPIKey{Name: "n"}))(t)
	p := r.in(r.seen(made.APIKey))
	if p.Kind != access.Operator || p.ID != made.Key.ID || p.ID == operator.ID || made.Key.Role != api.RoleAdmin {
		t.Errorf("%+v", p)
	}
	_, err := r.AddAdminKey(t.Context(), operator, api.CreateAPIKey{Name: "n", Role: "backend"})
	wantFault(t, "another role", err, fault.Invalid)
	_, err = r.AddAPIKey(t.Context(), operator, api.CreateAPIKey{Name: "n"})
	wantFault(t, "a key of its own", err, fault.Forbidden)
}

func TestWhatIsNoAPIKeyIsRefused(t *testing.T) {
	r := newKeyRig(t)
	past := r.clock.Now().Add(-time.Second)
	far := time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600)) // which is 10000 in UTC
	r.unchanged(func() {
		for what, req := range map[string]api.CreateAPIKey{
			"no name": {}, "a long name": {Name: strings.Repeat("a", 201)}, "a name with NUL": {Name: "\x00"},
			"an end in the past": {Name: "n", ExpiresAt: &past}, "an end out of range": {Name: "n", ExpiresAt: &far}, "an empty scope": {Name: "n", Scopes: []string{""}},
		} {
			_, err := r.AddAPIKey(t.Context(), r.owner, req)
			wantFault(t, what, err, fault.Invalid)
		}
	})
	member := r.newUser(r.org, access.Member) // with a key
	for range maxKeys - 1 {
		r.newAPIKey(member, api.CreateAPIKey{})
	}
	_, err := r.AddAPIKey(t.Context(), member, api.CreateAPIKey{Name: "n"})
	wantFault(t, "one too many", err, fault.Conflict)
	if n := len(must(r.APIKeys(t.Context(), member))(t).Keys); n != maxKeys {
		t.Errorf("%d keys are listed", n)
	}
}

// A row as it was written before keys had names.
func TestAnOldKeyWorksAndIsListedOnceItWasUsed(t *testing.T) {
	r := newKeyRig(t)
	key, id := r.seen(newKey(keyPrefix)), uuid.NewString()
	r.put(layout.APIKey(hash(key)), map[string]string{"id": id, "user": r.owner.ID, "created": "2026-01-01T00:00:00Z"})
	admin := r.seen(newKey(keyPrefix))
	r.put(layout.APIKey(hash(admin)), map[string]string{"id": uuid.NewString(), "role": "admin", "org": r.org.ID, "created": "2026-01-01T00:00:00Z"})
	if p := r.in(admin); p.Kind != access.Operator {
		t.Errorf("%+v", p)
	}
	if p := r.in(key); p.ID != r.owner.ID || p.Ceiling != nil || p.Credential != id {
		t.Errorf("%+v", p)
	}
	list := asJSON(t, must(r.APIKeys(t.Context(), r.owner))(t))
	if !strings.Contains(list, `"id":"`+id+`","name":"","key_prefix":"`+key[:12]+`","scopes":[],"is_active":true`) {
		t.Error(list)
	}
	must(0, r.DeleteAPIKey(t.Context(), r.owner, id))(t)
	r.out("deleted", key)
	future := r.seen(newKey(keyPrefix)) // a row of a server that is newer
	r.put(layout.APIKey(hash(future)), map[string]string{"id": id, "role": "auditor", "org": r.org.ID, "created": "2026-01-01T00:00:00Z"})
	r.out("of a role that is not known", future)
}

func TestAUseIsNotedOnceInTenMinutes(t *testing.T) {
	r := newKeyRig(t)
	a, agentKey := r.newAgent(api.CreateAgent{TokenTTLSeconds: ptr(86400)})
	k, key := r.newAPIKey(r.owner, api.CreateAPIKey{})
	bearer := r.token(agentKey)
	for name, use := range map[string]string{"key": key, "token": bearer} {
		r.in(use)
		r.unchanged(func() {
			for range 20 {
				r.clock.add(29 * time.Second)
				r.in(use)
			}
		})
		before := r.dump()
		r.clock.add(fresh)
		r.in(use)
		if cmp.Equal(before, r.dump()) {
			t.Errorf("%s: the next use was not noted", name)
		}
	}
	if used := must(r.GetAgent(t.Context(), r.owner, a.ID))(t).LastActiveAt; used == nil || r.clock.Now().Sub(*used) > 2*fresh {
		t.Errorf("%v", used)
	}
	// A note never brings back what was deleted, or holds up who is let in.
	r.clock.add(fresh)
	r.store.beforeCommit = func() { must(0, r.DeleteAPIKey(t.Context(), r.owner, k.ID))(t) }
	r.in(key)
	r.out("deleted while it was noted", key)
}

func TestWhatAuthenticatesIsOneOfTwoForms(t *testing.T) {
	r := newKeyRig(t)
	_, agentKey := r.newAgent(api.CreateAgent{})
	bearer := r.token(agentKey)
	_, key := r.newAPIKey(r.owner, api.CreateAPIKey{})
	for what, bad := range map[string]string{
		"empty": "", "two dots": "..", "three dots": bearer + ".", "a token cut": bearer[:len(bearer)-1], "a token with a space": bearer + " ",
		"a platform's": "plt_" + key[4:], "an agent's key": agentKey, "a key in capitals": strings.ToUpper(key), "a key and dots": key + "..",
		"a long text": strings.Repeat("a.", 1<<20), "long with two dots": strings.Repeat("a", 1<<20) + ".b.c", "not UTF-8": "\xff.\xff.\xff",
		"of no kind":               must2(r.config.Tokens.Issue(t.Context(), token.Claims{Kind: access.User, ID: uuid.NewString(), OrgID: r.org.ID, Expires: r.clock.Now().Add(time.Minute)})),
		"of a user of another org": must2(r.config.Tokens.Issue(t.Context(), token.Claims{Kind: access.User, ID: r.owner.ID, OrgID: r.stranger.OrgID, Expires: r.clock.Now().Add(time.Minute)})),
		"of a user as an agent":    must2(r.config.Tokens.Issue(t.Context(), token.Claims{Kind: access.Agent, ID: r.owner.ID, OrgID: r.org.ID, Expires: r.clock.Now().Add(time.Minute)})),
		"of an agent with a colon": must2(r.config.Tokens.Issue(t.Context(), token.Claims{Kind: access.Agent, ID: "a:b", OrgID: r.org.ID, Expires: r.clock.Now().Add(time.Minute)})),
	} {
		r.out(what, bad)
	}
	u, _, _ := r.user(t.Context(), r.owner.ID)
	mine := must2(r.config.Tokens.Issue(t.Context(), token.Claims{Kind: access.User, ID: u.ID, OrgID: r.org.ID, Expires: r.clock.Now().Add(time.Minute)}))
	if p := r.in(mine); p.Kind != access.User || p.ID != u.ID || p.Role != access.Owner || p.Plan != access.Enterprise || p.Credential == "" || p.Ceiling != nil {
		t.Errorf("%+v", p)
	}
	u.Role = access.Member // as of the next request
	r.put(layout.User(u.ID), u)
	if p := r.in(mine); p.Role != access.Member {
		t.Errorf("%+v", p)
	}
	u.NotBefore = r.clock.Now()
	r.put(layout.User(u.ID), u)
	r.out("signed out everywhere", mine)
	r.in(key) // which is no session
	r.put(layout.User(u.ID), nil)
	r.out("of a user who is no more", key)

	r.store.fail = errors.New("disk")
	for _, bearer := range []string{key, bearer} {
		p, err := r.Authenticate(t.Context(), bearer)
		if p != (access.Principal{}) || err == nil || errors.Is(err, fault.Unauthenticated) || strings.Contains(fmt.Sprintf("%+v %#v", err, err), bearer[shownOfKey:]) {
			t.Errorf("%+v, %v", p, err)
		}
	}
}

func must2(text string, _ time.Time, err error) string {
	if err != nil {
		panic(err)
	}
	return text
}
