package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestAnAgentHasTheContractsMembersAndNoOther(t *testing.T) {
	r := newKeyRig(t)
	r.clock.frozen = true
	made := must(r.CreateAgent(t.Context(), r.owner, api.CreateAgent{Name: "robot"}))(t)
	now := r.clock.now.UTC().Format(time.RFC3339Nano)
	bare := `{"id":"` + made.Agent.ID + `","name":"robot","auth_method":"api_key","is_active":true,"intents_api_enabled":false,"shroud_enabled":false,` +
		`"scopes":[],"token_ttl_seconds":3600,"vault_ids":[],"created_at":"` + now + `"}`
	if diff := cmp.Diff(`{"agent":`+bare+`,"api_key":"`+made.APIKey+`"}`, asJSON(t, made)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(bare, asJSON(t, must(r.GetAgent(t.Context(), r.owner, made.Agent.ID))(t))); diff != "" {
		t.Error(diff)
	}

	end, vault := r.clock.now.Add(time.Hour), uuid.NewString()
	full := must(r.CreateAgent(t.Context(), r.owner, api.CreateAgent{
		Name: "full", Description: "d", AuthMethod: "api_key", Scopes: []string{"a/*", "vaults:read"}, ExpiresAt: &end,
		APIKeyExpiresAt: &end, TokenTTLSeconds: ptr(60), VaultIDs: []string{vault}, IntentsAPIEnabled: true,
	}))(t)
	r.token(full.APIKey) // and acts
	r.in(r.token(full.APIKey))
	want := `{"id":"` + full.Agent.ID + `","name":"full","description":"d","auth_method":"api_key","is_active":true,"intents_api_enabled":true,"shroud_enabled":false,` +
		`"scopes":["a/*","vaults:read"],"token_ttl_seconds":60,"vault_ids":["` + vault + `"],"created_at":"` + now + `","expires_at":"` + end.UTC().Format(time.RFC3339Nano) +
		`","last_active_at":"` + now + `"}`
	if diff := cmp.Diff(want, asJSON(t, must(r.GetAgent(t.Context(), r.owner, full.Agent.ID))(t))); diff != "" {
		t.Error(diff)
	}
}

func TestATokenIsWhoTheAgentIs(t *testing.T) {
	r := newKeyRig(t)
	vault := uuid.NewString()
	a, key := r.newAgent(api.CreateAgent{Scopes: []string{"a/**", "x:y"}, VaultIDs: []string{vault}, IntentsAPIEnabled: true, TokenTTLSeconds: ptr(60)})
	for _, id := range []string{"", a.ID} {
		got := must(r.AgentToken(t.Context(), From{RequestID: "r1"}, api.GetAgentToken{APIKey: key, AgentID: id}))(t)
		if got.TokenType != "Bearer" || got.ExpiresIn != 60 || got.AgentID != a.ID || cmp.Diff([]string{vault}, got.VaultIDs) != "" {
			t.Errorf("%+v", got)
		}
		p := r.in(got.AccessToken)
		if p.Credential == "" || p.Ceiling == nil {
			t.Fatalf("%+v", p)
		}
		want := access.Ceiling{Scopes: []string{"a/**", "x:y"}, Vaults: []string{vault}, Intents: true}
		if diff := cmp.Diff(want, *p.Ceiling); diff != "" {
			t.Error(diff)
		}
		p.Credential, p.Ceiling = "", nil
		if p != (access.Principal{Kind: access.Agent, ID: a.ID, OrgID: r.org.ID, Plan: access.Enterprise}) {
			t.Errorf("%+v", p)
		}
	}
	last := r.trail.events[len(r.trail.events)-1]
	want := access.Event{OrgID: r.org.ID, ActorType: "agent", ActorID: a.ID, Action: "auth.success", ResourceType: "agent", ResourceID: a.ID, Outcome: access.Allowed, Details: map[string]string{}, RequestID: "r1"}
	want.RequestID = last.RequestID
	if fmt.Sprintf("%+v", last) != fmt.Sprintf("%+v", want) || last.RequestID != "r1" {
		t.Errorf("%+v", last)
	}
	for ttl, want := range map[int]int{60: 60, 3600: 3600, 86400: 86400} {
		_, key := r.newAgent(api.CreateAgent{TokenTTLSeconds: &ttl})
		got := must(r.AgentToken(t.Context(), From{}, api.GetAgentToken{APIKey: key}))(t)
		if got.ExpiresIn != want && got.ExpiresIn != 86399 {
			t.Errorf("a token of %d lives %d", ttl, got.ExpiresIn)
		}
	}
}

func TestATokenEndsWithTheAgentAndWithTheKey(t *testing.T) {
	r := newKeyRig(t)
	end := r.clock.Now().Add(90 * time.Second)
	for what, req := range map[string]api.CreateAgent{"agent": {ExpiresAt: &end}, "key": {APIKeyExpiresAt: &end}} {
		_, key := r.newAgent(req)
		got := must(r.AgentToken(t.Context(), From{}, api.GetAgentToken{APIKey: key}))(t)
		if got.ExpiresIn < 88 || got.ExpiresIn > 90 {
			t.Errorf("%s: %d", what, got.ExpiresIn)
		}
	}
}

func TestTheListSaysWhenKeysEnd(t *testing.T) {
	r := newKeyRig(t)
	r.clock.frozen = true
	end := r.clock.now.Add(time.Hour).UTC()
	mortal, _ := r.newAgent(api.CreateAgent{APIKeyExpiresAt: &end})
	r.newAgent(api.CreateAgent{ExpiresAt: &end})
	list := func() map[string]time.Time {
		return must(r.ListAgents(t.Context(), r.owner, "", 0))(t).APIKeysExpire
	}
	if diff := cmp.Diff(map[string]time.Time{mortal.ID: end}, list()); diff != "" {
		t.Error(diff)
	}
	r.clock.now = r.clock.now.Add(10 * time.Minute)
	must(r.RotateAgentKey(t.Context(), r.owner, mortal.ID))(t)
	if got := list()[mortal.ID]; got.Sub(r.clock.now) < 59*time.Minute || got.Sub(r.clock.now) > time.Hour {
		t.Errorf("a key that was rotated ends %v", got)
	}
}

func TestAKeyThatIsNotALiveOneIsOneRefusal(t *testing.T) {
	r := newKeyRig(t)
	a, key := r.newAgent(api.CreateAgent{})
	other, otherKey := r.newAgent(api.CreateAgent{})
	user := r.seen(must(r.CreateAPIKey(t.Context(), r.owner.ID))(t))
	r.token(key) // or nothing below says anything

	r.unchanged(func() {
		for what, bad := range map[string]string{
			"empty": "", "unknown": newKey(agentPrefix), "a user's": user, "a user's body": "ocv_" + user[4:], "of a platform": "plt_" + key[4:],
			"cut": key[:46], "longer": key + "A", "with a space": " " + key, "its hash": hash(key), "its token": r.token(otherKey),
		} {
			r.refuses(what, bad, "")
		}
		r.refuses("another agent's ID", key, other.ID)
		r.refuses("no agent's ID", key, uuid.NewString())
		r.refuses("an ID that is none", key, "x")
		r.out("an agent's key in place of a token", key)
		r.out("a platform's key", "plt_"+key[4:])
	})

	deactivated, deactivatedKey := r.newAgent(api.CreateAgent{})
	must(r.UpdateAgent(t.Context(), r.owner, deactivated.ID, api.UpdateAgent{IsActive: ptr(false)}))(t)
	r.refuses("deactivated", deactivatedKey, deactivated.ID)
	must(r.UpdateAgent(t.Context(), r.owner, deactivated.ID, api.UpdateAgent{IsActive: ptr(true)}))(t)
	r.token(deactivatedKey)

	end := r.clock.Now().Add(time.Minute)
	_, mortal := r.newAgent(api.CreateAgent{ExpiresAt: &end})
	_, mortalKey := r.newAgent(api.CreateAgent{APIKeyExpiresAt: &end})
	r.token(mortal)
	r.token(mortalKey)
	r.clock.add(time.Minute)
	r.refuses("of an agent that expired", mortal, "")
	r.refuses("expired", mortalKey, "")

	if err := r.DeleteAgent(t.Context(), r.owner, a.ID); err != nil {
		t.Fatal(err)
	}
	r.refuses("of an agent that was deleted", key, "")
	r.put(layout.Org(r.org.ID), nil)
	r.refuses("of an org that is no more", otherKey, "")
}

func TestWhatIsTakenFromAnAgentIsGoneAtTheNextRequest(t *testing.T) {
	v1, v2 := uuid.NewString(), uuid.NewString()
	start := api.CreateAgent{Scopes: []string{"a/*", "b/*"}, VaultIDs: []string{v1, v2}}
	update := func(req api.UpdateAgent) func(*keyRig, api.Agent) {
		return func(r *keyRig, a api.Agent) { must(r.UpdateAgent(r.t.Context(), r.owner, a.ID, req))(r.t) }
	}
	ends := map[string]func(*keyRig, api.Agent){
		"deactivated":         update(api.UpdateAgent{IsActive: ptr(false)}),
		"without a scope":     update(api.UpdateAgent{Scopes: []string{"a/*"}}),
		"without scopes":      update(api.UpdateAgent{Scopes: []string{}}),
		"with another scope":  update(api.UpdateAgent{Scopes: []string{"a/*", "c/*"}}),
		"without a vault":     update(api.UpdateAgent{VaultIDs: []string{v2}}),
		"of another vault":    update(api.UpdateAgent{VaultIDs: []string{uuid.NewString()}}),
		"with another key":    func(r *keyRig, a api.Agent) { must(r.RotateAgentKey(r.t.Context(), r.owner, a.ID))(r.t) },
		"deleted":             func(r *keyRig, a api.Agent) { must(0, r.DeleteAgent(r.t.Context(), r.owner, a.ID))(r.t) },
		"deleted with others": func(r *keyRig, a api.Agent) { must(r.DeleteAgents(r.t.Context(), r.owner, []string{a.ID}))(r.t) },
		"deactivated and let back": func(r *keyRig, a api.Agent) {
			update(api.UpdateAgent{IsActive: ptr(false)})(r, a)
			update(api.UpdateAgent{IsActive: ptr(true)})(r, a)
		},
		"of no org": func(r *keyRig, a api.Agent) { r.put(layout.Org(r.org.ID), nil) },
	}
	stays := map[string]func(*keyRig, api.Agent){
		"renamed":             update(api.UpdateAgent{Name: ptr("other"), Description: ptr("d"), TokenTTLSeconds: ptr(60)}),
		"with one scope more": update(api.UpdateAgent{Scopes: []string{"c", "b/*", "a/*"}}),
		"with one vault more": update(api.UpdateAgent{VaultIDs: []string{uuid.NewString(), v2, v1}}),
		"with every vault":    update(api.UpdateAgent{VaultIDs: []string{}}),
		"with what it had":    update(api.UpdateAgent{Scopes: start.Scopes, VaultIDs: start.VaultIDs, IsActive: ptr(true)}),
		"beside another's loss": func(r *keyRig, _ api.Agent) {
			b, _ := r.newAgent(start)
			update(api.UpdateAgent{IsActive: ptr(false)})(r, b)
		},
	}
	for _, frozen := range []bool{false, true} { // the same moment is not after it
		for what, end := range ends {
			r := newKeyRig(t)
			r.clock.frozen = frozen
			a, key := r.newAgent(start)
			bearer := r.token(key)
			r.in(bearer)
			end(r, a)
			r.out(what, bearer)
		}
		for what, change := range stays {
			r := newKeyRig(t)
			r.clock.frozen = frozen
			a, key := r.newAgent(start)
			bearer := r.token(key)
			change(r, a)
			if p, err := r.Authenticate(t.Context(), bearer); err != nil || cmp.Diff(start.Scopes, p.Ceiling.Scopes) != "" || cmp.Diff(start.VaultIDs, p.Ceiling.Vaults) != "" {
				t.Errorf("%s: %+v, %v", what, p, err)
			}
		}
	}

	r := newKeyRig(t)
	end := r.clock.Now().Add(time.Minute)
	a, key := r.newAgent(api.CreateAgent{})
	bearer := r.token(key)
	update(api.UpdateAgent{ExpiresAt: &end})(r, a)
	r.in(bearer)
	r.clock.add(time.Minute)
	r.out("expired", bearer)
	a, key = r.newAgent(api.CreateAgent{})
	bearer = r.token(key)
	end = r.clock.Now().Add(time.Minute)
	update(api.UpdateAgent{APIKeyExpiresAt: &end})(r, a)
	r.in(bearer)
	r.clock.add(time.Minute)
	r.out("of a key that expired sooner than it was to", bearer)
	anyVault, key := r.newAgent(api.CreateAgent{})
	bearer = r.token(key)
	update(api.UpdateAgent{VaultIDs: []string{v1}})(r, anyVault)
	r.out("bound for the first time", bearer)
	anyScope, key := r.newAgent(api.CreateAgent{})
	bearer = r.token(key)
	update(api.UpdateAgent{Scopes: []string{"a"}})(r, anyScope)
	r.out("with scopes for the first time", bearer)
}

// An exchange that read the agent just before a change was stored must not leave
// a token behind of what the agent was.
func TestNoTokenSlipsThroughAChangeOfItsAgent(t *testing.T) {
	for what, change := range map[string]func(*keyRig, string) error{
		"rotated": func(r *keyRig, id string) error {
			_, err := r.RotateAgentKey(r.t.Context(), r.owner, id)
			return err
		},
		"with less": func(r *keyRig, id string) error {
			_, err := r.UpdateAgent(r.t.Context(), r.owner, id, api.UpdateAgent{Scopes: []string{"b"}})
			return err
		},
	} {
		r := newKeyRig(t)
		a, key := r.newAgent(api.CreateAgent{Scopes: []string{"a", "b"}})
		r.token(key) // so that the key that signs is there
		var slipped string
		r.store.beforeCommit = func() { // NotBefore is taken, and not stored
			r.clock.add(maxSkew)
			slipped = r.token(key)
		}
		must(0, change(r, a.ID))(t)
		if slipped == "" {
			t.Fatal(what, "the exchange did not get in between")
		}
		r.out(what, slipped)
	}
}

// An exchange that found the agent by its old key, and reads its row once the key was
// replaced, must not get a token of a time past that.
func TestNoTokenIsHadByAKeyThatIsReplacedMeanwhile(t *testing.T) {
	r := newKeyRig(t)
	a, key := r.newAgent(api.CreateAgent{})
	r.token(key) // so that the key that signs is there
	slow := r.config
	slow.Store = betweenReads{r.store, layout.Agent(r.org.ID, a.ID), sync.OnceFunc(func() {
		must(r.RotateAgentKey(t.Context(), r.owner, a.ID))(t)
	})}
	_, err := New(slow).AgentToken(t.Context(), From{}, api.GetAgentToken{APIKey: key})
	wantError(t, "an exchange under way", err, fault.Unauthenticated)
}

// betweenReads calls do before it reads the key.
type betweenReads struct {
	*countingStore
	key string
	do  func()
}

func (s betweenReads) Get(ctx context.Context, key string) (store.Record, error) {
	if key == s.key {
		s.do()
	}
	return s.countingStore.Get(ctx, key)
}

func TestARotatedKeyIsDeadAtOnceAndTheNewOneLives(t *testing.T) {
	r := newKeyRig(t)
	end := r.clock.Now().Add(time.Hour)
	a, key := r.newAgent(api.CreateAgent{APIKeyExpiresAt: &end})
	r.clock.add(2 * time.Hour) // an expired key is replaced by one that lives as long
	r.refuses("expired", key, a.ID)
	next := r.seen(must(r.RotateAgentKey(t.Context(), r.owner, a.ID))(t).APIKey)
	r.refuses("the old key", key, a.ID)
	r.in(r.token(next))
	r.clock.add(59 * time.Minute)
	r.in(r.token(next))
	r.clock.add(time.Minute)
	r.refuses("the new one, an hour later", next, a.ID)
	if n := strings.Count(strings.Join(keysOf(r.dump()), " "), layout.AgentKey("")); n != 1 {
		t.Errorf("%d rows of keys", n)
	}

	// Rotations at once leave one key.
	var wg sync.WaitGroup
	keys := make([]string, 4)
	for i := range keys {
		wg.Go(func() { keys[i] = must(r.RotateAgentKey(context.Background(), r.owner, a.ID))(t).APIKey })
	}
	wg.Wait()
	live := 0
	for _, key := range keys {
		if _, err := r.AgentToken(t.Context(), From{}, api.GetAgentToken{APIKey: key}); err == nil {
			live++
		}
	}
	if n := strings.Count(strings.Join(keysOf(r.dump()), " "), layout.AgentKey("")); n != 1 || live != 1 {
		t.Errorf("%d rows of keys, %d live", n, live)
	}
}

func keysOf(rows map[string]string) (keys []string) {
	for key := range rows {
		keys = append(keys, key)
	}
	return keys
}

// calls are all calls that name an agent.
func calls(r *keyRig, p access.Principal, id string) map[string]error {
	errs := map[string]error{}
	_, errs["get"] = r.GetAgent(r.t.Context(), p, id)
	_, errs["update"] = r.UpdateAgent(r.t.Context(), p, id, api.UpdateAgent{Name: ptr("x"), IsActive: ptr(false)})
	_, errs["rotate"] = r.RotateAgentKey(r.t.Context(), p, id)
	errs["delete"] = r.DeleteAgent(r.t.Context(), p, id)
	out, err := r.DeleteAgents(r.t.Context(), p, []string{id})
	if err == nil && len(out.Errors) == 1 && out.Failed == 1 && out.Deleted == 0 {
		err = fault.New(map[bool]fault.Code{true: fault.NotFound, false: fault.Forbidden}[strings.Contains(out.Errors[0].Reason, "no such")], "as it says")
	}
	errs["delete many"] = err
	return errs
}

func TestAnotherOrgsAgentIsNotThereAndAnotherUsersIsForbidden(t *testing.T) {
	r := newKeyRig(t)
	a, key := r.newAgent(api.CreateAgent{})
	member := r.newUser(r.org, access.Member)
	robot := r.in(r.token(key))
	frontend := access.Principal{Kind: access.OrgKey, ID: uuid.NewString(), OrgID: r.org.ID, Role: access.Frontend}
	endUser := access.Principal{Kind: access.EndUser, ID: r.owner.ID, OrgID: r.org.ID, Role: access.Backend}
	for _, who := range []struct {
		what string
		p    access.Principal
		id   string
		want fault.Code
	}{
		{"another org's owner", r.stranger, a.ID, fault.NotFound},
		{"no agent", r.owner, uuid.NewString(), fault.NotFound},
		{"no ID", r.owner, "..", fault.NotFound},
		{"a long ID", r.owner, strings.Repeat("a", 1<<20), fault.NotFound},
		{"an ID with a colon", r.stranger, r.org.ID + ":" + a.ID, fault.NotFound},
		{"a member", member, a.ID, fault.Forbidden},
		{"a frontend key", frontend, a.ID, fault.Forbidden},
		{"an end user with the owner's ID", endUser, a.ID, fault.Forbidden},
	} {
		r.unchanged(func() {
			for call, err := range calls(r, who.p, who.id) {
				wantFault(t, who.what+", "+call, err, who.want)
			}
		})
	}
	r.unchanged(func() {
		for call, err := range calls(r, robot, a.ID) {
			if want := fault.Forbidden; call != "get" {
				wantFault(t, "the agent itself, "+call, err, want)
			} else if err != nil {
				t.Error("the agent itself:", err)
			}
		}
		_, err := r.CreateAgent(t.Context(), robot, api.CreateAgent{Name: "child"})
		wantFault(t, "an agent makes an agent", err, fault.Forbidden)
		_, err = r.GetAgent(t.Context(), access.Principal{}, a.ID)
		wantFault(t, "nobody", err, fault.Unauthenticated)
		_, err = r.CreateAgent(t.Context(), access.Principal{}, api.CreateAgent{Name: "x"})
		wantFault(t, "nobody", err, fault.Unauthenticated)
	})
	limited := r.owner
	limited.Ceiling = &access.Ceiling{Scopes: []string{"a/*"}}
	_, err := r.RotateAgentKey(t.Context(), limited, a.ID)
	wantFault(t, "a key of some paths", err, fault.Forbidden)

	// Who made it may do everything, and so may who runs the org.
	mine := must(r.CreateAgent(t.Context(), member, api.CreateAgent{Name: "mine"}))(t).Agent
	must(r.UpdateAgent(t.Context(), member, mine.ID, api.UpdateAgent{Name: ptr("n")}))(t)
	must(r.UpdateAgent(t.Context(), r.newUser(r.org, access.Admin), mine.ID, api.UpdateAgent{Name: ptr("m")}))(t)
}

func TestWhatIsNoAgentIsRefused(t *testing.T) {
	r := newKeyRig(t)
	a, _ := r.newAgent(api.CreateAgent{})
	past := r.clock.Now().Add(-time.Hour)
	for what, req := range map[string]api.UpdateAgent{
		"an empty name": {Name: ptr("")}, "a long name": {Name: ptr(strings.Repeat("é", 201))}, "a name with a line": {Name: ptr("a\nb")},
		"a long description": {Description: ptr(strings.Repeat("é", 2001))}, "a description in Latin-1": {Description: ptr("\xe9")},
		"no time": {TokenTTLSeconds: ptr(0)}, "too little time": {TokenTTLSeconds: ptr(59)}, "too much time": {TokenTTLSeconds: ptr(86401)},
		"another way in": {AuthMethod: "mtls"}, "an end in the past": {ExpiresAt: &past}, "a key of the past": {APIKeyExpiresAt: &past},
		"an empty scope": {Scopes: []string{""}}, "a scope with a slash": {Scopes: []string{"/a"}}, "a long scope": {Scopes: []string{strings.Repeat("a", 513)}},
		"a long label": {Scopes: []string{"a:" + strings.Repeat("a", 7000)}}, "many scopes": {Scopes: make([]string, 101)},
		"large scopes": {Scopes: []string{strings.Repeat("a", 500), strings.Repeat("b", 500), strings.Repeat("c", 500), strings.Repeat("\"", 500), strings.Repeat("\"", 501), strings.Repeat("\"", 502), strings.Repeat("\"", 503), strings.Repeat("\"", 504), strings.Repeat("\"", 505), strings.Repeat("\"", 506)}},
		"no vault":     {VaultIDs: []string{"prod"}}, "a path of a vault": {VaultIDs: []string{strings.Repeat("../", 12)}}, "many vaults": {VaultIDs: make([]string, 101)},
	} {
		r.unchanged(func() {
			_, err := r.UpdateAgent(t.Context(), r.owner, a.ID, req)
			wantFault(t, what, err, fault.Invalid)
			create := api.CreateAgent{Name: "n", AuthMethod: req.AuthMethod, Scopes: req.Scopes, ExpiresAt: req.ExpiresAt, APIKeyExpiresAt: req.APIKeyExpiresAt, TokenTTLSeconds: req.TokenTTLSeconds, VaultIDs: req.VaultIDs}
			set(&create.Name, req.Name)
			set(&create.Description, req.Description)
			_, err = r.CreateAgent(t.Context(), r.owner, create)
			wantFault(t, what, err, fault.Invalid)
		})
	}
	_, err := r.DeleteAgents(t.Context(), r.owner, nil)
	wantFault(t, "no IDs", err, fault.Invalid)
	_, err = r.DeleteAgents(t.Context(), r.owner, make([]string, 501))
	wantFault(t, "501 IDs", err, fault.Invalid)
	for _, cursor := range []string{"x", r.org.ID + ":"} {
		_, err = r.ListAgents(t.Context(), r.owner, cursor, 0)
		wantFault(t, "a cursor", err, fault.Invalid)
	}
}

// The largest agent that is let in gets a token.
func TestTheLargestScopesFitIntoAToken(t *testing.T) {
	r := newKeyRig(t)
	req := api.CreateAgent{}
	for i := range 6 {
		req.Scopes = append(req.Scopes, strings.Repeat(fmt.Sprint(i), 512), strings.Repeat("\"", 245))
	}
	for range maxAgentVaults {
		req.VaultIDs = append(req.VaultIDs, uuid.NewString())
	}
	_, key := r.newAgent(req)
	r.in(r.token(key))
}

func TestAPlanAdmitsSoManyAgents(t *testing.T) {
	for plan, limit := range map[access.Plan]int{access.Free: 2, access.Pro: 10, access.Business: 50} {
		r := newKeyRig(t)
		_, owner := r.newOrg("Small", plan)
		var wg sync.WaitGroup
		for range limit + 6 { // at once
			wg.Go(func() {
				_, err := r.CreateAgent(context.Background(), owner, api.CreateAgent{Name: "n"})
				if err != nil && (!errors.Is(err, fault.Forbidden) || fault.Of(err).Type != "resource_limit_exceeded") {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		list := must(r.ListAgents(t.Context(), owner, "", 0))(t).Agents
		if len(list) != limit {
			t.Errorf("%s: %d agents, want %d", plan, len(list), limit)
		}
		must(0, r.DeleteAgent(t.Context(), owner, list[0].ID))(t)
		must(r.CreateAgent(t.Context(), owner, api.CreateAgent{Name: "n"}))(t)
		if n := must(r.CountAgents(t.Context(), owner.OrgID, 100))(t); n != limit {
			t.Errorf("%s: %d agents are counted, want %d", plan, n, limit)
		}
	}
	r := newKeyRig(t)
	for range 51 {
		r.newAgent(api.CreateAgent{})
	}
}

func TestAgentsAreListedAPageAtATime(t *testing.T) {
	r := newKeyRig(t)
	member := r.newUser(r.org, access.Member)
	var all, own []string
	for i := range 7 {
		p := r.owner
		if i%2 == 1 {
			p = member
		}
		a := must(r.CreateAgent(t.Context(), p, api.CreateAgent{Name: "n"}))(t).Agent
		if all = append(all, a.ID); i%2 == 1 {
			own = append(own, a.ID)
		}
	}
	for _, who := range []struct {
		p    access.Principal
		want []string
	}{{r.owner, all}, {member, own}, {r.stranger, nil}, {r.newUser(r.org, access.Member), nil}} {
		for _, limit := range []int{0, 1, 3, 7, 1 << 40} {
			var got []string
			for cursor := ""; ; {
				page := must(r.ListAgents(t.Context(), who.p, cursor, limit))(t)
				for _, a := range page.Agents {
					got = append(got, a.ID)
				}
				if limit > 0 && len(page.Agents) > limit || len(got) > 20 {
					t.Fatalf("%d agents on a page of %d", len(page.Agents), limit)
				}
				if cursor = page.NextCursor; cursor == "" {
					break
				}
			}
			if diff := cmp.Diff(who.want, got); diff != "" {
				t.Error(limit, diff)
			}
		}
	}
	_, key := r.newAgent(api.CreateAgent{})
	_, err := r.ListAgents(t.Context(), r.in(r.token(key)), "", 0)
	wantFault(t, "an agent", err, fault.Forbidden)
}

func TestAnAgentWithoutScopesHasThoseOfItsPolicies(t *testing.T) {
	r := newKeyRig(t)
	a, key := r.newAgent(api.CreateAgent{})
	scopes := func() []string { return r.in(r.token(key)).Ceiling.Scopes }
	if got := scopes(); len(got) != 0 {
		t.Errorf("without policies: %q", got)
	}
	old := r.token(key)
	r.patterns.of[a.ID] = []string{"db/*", "web/**"}
	if diff := cmp.Diff(r.patterns.of[a.ID], scopes()); diff != "" {
		t.Error(diff)
	}
	if got := r.in(old).Ceiling.Scopes; len(got) != 0 {
		t.Errorf("a token got more after it was issued: %q", got)
	}
	for i := range 200 {
		r.patterns.of[a.ID] = append(r.patterns.of[a.ID], fmt.Sprint("p", i))
	}
	if diff := cmp.Diff([]string{"**"}, scopes()); diff != "" {
		t.Error("more than fit:", diff)
	}
	r.patterns.err = fault.New(fault.Unavailable, "away")
	_, err := r.AgentToken(t.Context(), From{}, api.GetAgentToken{APIKey: key})
	wantFault(t, "policies that cannot be read", err, fault.Unavailable)
	must(r.UpdateAgent(t.Context(), r.owner, a.ID, api.UpdateAgent{Scopes: []string{"x"}}))(t)
	if diff := cmp.Diff([]string{"x"}, scopes()); diff != "" {
		t.Error(diff)
	}
}

func TestAnAgentSeesItself(t *testing.T) {
	r := newKeyRig(t)
	a, key := r.newAgent(api.CreateAgent{Description: "d", Scopes: []string{"a"}})
	got := must(r.Me(t.Context(), r.in(r.token(key))))(t)
	if got.ID != a.ID || got.OrgID != r.org.ID || got.CreatedBy != r.owner.ID || got.Description != "d" || !got.IsActive || got.LastActiveAt == nil || cmp.Diff([]string{"a"}, got.Scopes) != "" {
		t.Errorf("%+v", got)
	}
	_, err := r.Me(t.Context(), r.owner)
	wantFault(t, "a user", err, fault.Forbidden)
}

func TestWhoEnrollsGetsTheSameAnswerAsEverybody(t *testing.T) {
	r := newKeyRig(t)
	r.trail.taken()
	r.unchanged(func() {
		var answers []string
		for _, req := range []api.EnrollAgent{{Name: "a"}, {Name: "b", HumanEmail: "nobody@example.com"}, {Name: "robot", HumanEmail: "u@example.com", Description: "d"}} {
			answers = append(answers, asJSON(t, must(r.Enroll(t.Context(), From{}, req))(t)))
		}
		for _, got := range answers {
			if got != answers[0] || !strings.HasPrefix(got, `{"agent_id":"00000000-0000-0000-0000-000000000000","message":"`) || strings.Contains(got, "ocv_") {
				t.Error(got)
			}
		}
	})
	if diff := cmp.Diff([]string{"agent.enroll refused", "agent.enroll refused", "agent.enroll refused"}, r.trail.taken()); diff != "" {
		t.Error(diff)
	}
	_, err := r.Enroll(t.Context(), From{}, api.EnrollAgent{})
	wantFault(t, "without a name", err, fault.Invalid)
}

func TestWhatIsDoneToAgentsIsInTheTrail(t *testing.T) {
	r := newKeyRig(t)
	r.trail.taken()
	a, key := r.newAgent(api.CreateAgent{})
	must(r.RotateAgentKey(t.Context(), r.owner, a.ID))(t)
	must(r.UpdateAgent(t.Context(), r.owner, a.ID, api.UpdateAgent{Name: ptr("n")}))(t)
	must(r.UpdateAgent(t.Context(), r.owner, a.ID, api.UpdateAgent{IsActive: ptr(false)}))(t)
	r.DeleteAgent(t.Context(), r.stranger, a.ID)
	r.DeleteAgent(t.Context(), r.owner, key) // a key by mistake
	must(0, r.DeleteAgent(t.Context(), r.owner, a.ID))(t)
	r.silent()
	want := []string{"agent.register allowed", "agent.rotate_key allowed", "agent.update allowed", "agent.deactivate allowed", "agent.delete refused", "agent.delete refused", "agent.delete allowed"}
	if diff := cmp.Diff(want, r.trail.taken()); diff != "" {
		t.Error(diff)
	}
}

func TestNothingIsDoneThatTheTrailDoesNotHave(t *testing.T) {
	r := newKeyRig(t)
	a, key := r.newAgent(api.CreateAgent{})
	r.trail.fail = errors.New("disk")
	r.unchanged(func() {
		for call, err := range calls(r, r.owner, a.ID) {
			wantFault(t, call, err, fault.Unavailable)
		}
		_, err := r.CreateAgent(t.Context(), r.owner, api.CreateAgent{Name: "n"})
		wantFault(t, "create", err, fault.Unavailable)
		got, err := r.AgentToken(t.Context(), From{}, api.GetAgentToken{APIKey: key})
		wantFault(t, "token", err, fault.Unavailable)
		if got.AccessToken != "" {
			t.Error("a token was answered")
		}
		_, err = r.AgentToken(t.Context(), From{}, api.GetAgentToken{APIKey: newKey(agentPrefix)})
		wantFault(t, "no token", err, fault.Unavailable)
		_, err = r.AddAPIKey(t.Context(), r.owner, api.CreateAPIKey{Name: "n"})
		wantFault(t, "key", err, fault.Unavailable)
		_, err = r.AddSigningKey(t.Context(), r.owner)
		wantFault(t, "signing key", err, fault.Unavailable)
	})
}
