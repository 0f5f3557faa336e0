package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

// orgKeys makes a frontend and a backend key of p's org.
func (r *keyRig) orgKeys(p access.Principal) (front, back access.Principal) {
	r.t.Helper()
	_, f := r.newAPIKey(p, api.CreateAPIKey{Role: api.RoleFrontend})
	_, b := r.newAPIKey(p, api.CreateAPIKey{Role: api.RoleBackend})
	return r.in(f), r.in(b)
}

func (r *keyRig) newSecret() (id, secret string) {
	r.t.Helper()
	made := must(r.AddSigningKey(r.t.Context(), r.owner))(r.t)
	return made.SigningKey.ID, r.seen(made.Secret)
}

// hmacOf is the contract's signature, made without our code.
func hmacOf(secret, userID string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(userID))
	return hex.EncodeToString(mac.Sum(nil))
}

func (r *keyRig) sign(back access.Principal, userID string) string {
	r.t.Helper()
	got := must(r.Sign(r.t.Context(), back, api.Sign{UserID: userID}))(r.t)
	if got.UserID != userID || len(got.Signature) != 64 || strings.ToLower(got.Signature) != got.Signature {
		r.t.Errorf("%+v", got)
	}
	return got.Signature
}

// speaks tests that the call is made for that end user; "" for refused with code.
func (r *keyRig) speaks(what string, key access.Principal, userID, signature, author, want string, code fault.Code) {
	r.t.Helper()
	p, err := r.EndUser(r.t.Context(), key, userID, signature, author)
	if want == "" {
		if p != (access.Principal{}) {
			r.t.Errorf("%s: %+v", what, p)
		}
		wantFault(r.t, what, err, code)
		return
	}
	as := key
	as.Kind, as.ID = access.EndUser, want
	if p != as || err != nil {
		r.t.Errorf("%s: %+v, %v", what, p, err)
	}
}

func TestAFrontendKeySpeaksForWhomItsOrgSigned(t *testing.T) {
	r := newKeyRig(t)
	front, back := r.orgKeys(r.owner)
	otherFront, otherBack := r.orgKeys(r.stranger)
	id, secret := r.newSecret()
	good := r.sign(back, "alice")
	if good != hmacOf(secret, "alice") {
		t.Error("the signature is not the HMAC of the user ID under the secret")
	}
	foreign := r.sign(otherBack, "alice")
	r.speaks("signed", front, "alice", good, "", "alice", "")
	r.speaks("signed, with the same author", front, "alice", good, "alice", "alice", "")
	r.speaks("with another author", front, "alice", good, "bob", "", fault.Forbidden)
	for what, bad := range map[string]struct{ user, signature string }{
		"no signature":           {"alice", ""},
		"no user":                {"", good},
		"neither":                {"", ""},
		"of another user":        {"bob", good},
		"of a longer ID":         {"alice2", good},
		"of a shorter ID":        {"alic", good},
		"of other letters":       {"Alice", good},
		"of another org":         {"alice", foreign},
		"in capitals":            {"alice", strings.ToUpper(good)},
		"cut":                    {"alice", good[:63]},
		"longer":                 {"alice", good + "0"},
		"with a space":           {"alice", " " + good},
		"the secret itself":      {"alice", secret},
		"under no secret":        {"alice", hmacOf(strings.Repeat("\x00", sha256.BlockSize), "alice")}, // what an empty key is filled up to
		"under the secret's ID":  {"alice", hmacOf(id, "alice")},
		"of nobody, in truth":    {"", hmacOf(secret, "")},
		"of too long an ID":      {strings.Repeat("a", 37), hmacOf(secret, strings.Repeat("a", 37))},
		"of a control character": {"a\n", hmacOf(secret, "a\n")},
	} {
		r.trail.taken()
		for _, author := range []string{"", "alice", "bob"} {
			r.speaks(what, front, bad.user, bad.signature, author, "", fault.Unauthenticated)
		}
		if diff := cmp.Diff([]string{"auth.failure failed", "auth.failure failed", "auth.failure failed"}, r.trail.taken()); diff != "" {
			t.Error(what, diff)
		}
	}
	r.speaks("our signature at the other org", otherFront, "alice", good, "", "", fault.Unauthenticated)
	r.speaks("the other org's at home", otherFront, "alice", foreign, "", "alice", "")
	r.silent()
}

func TestABackendKeyNamesItsUser(t *testing.T) {
	r := newKeyRig(t)
	_, back := r.orgKeys(r.owner)
	good := r.sign(back, "alice")
	long := strings.Repeat("é", 18)
	r.speaks("by the header", back, "alice", "", "", "alice", "")
	r.speaks("by the author", back, "", "", "alice", "alice", "")
	r.speaks("by both", back, "alice", "", "alice", "alice", "")
	r.speaks("of 36 bytes", back, long, "", "", long, "")
	r.speaks("with signs", back, "a:/ü%2F", "", "", "a:/ü%2F", "")
	r.speaks("signed", back, "alice", good, "", "alice", "")
	r.speaks("nobody", back, "", "", "", "", fault.Invalid)
	r.speaks("two", back, "alice", "", "bob", "", fault.Forbidden)
	r.speaks("two, signed", back, "alice", good, "bob", "", fault.Forbidden)
	r.speaks("wrongly signed", back, "bob", good, "", "", fault.Unauthenticated)
	r.speaks("wrongly signed, by the author", back, "", good, "alice", "", fault.Unauthenticated)
	for what, bad := range map[string]string{"37 bytes": long + "a", "NUL": "a\x00", "a line": "a\nb", "not UTF-8": "\xff"} {
		r.speaks(what, back, bad, "", "", "", fault.Invalid)
		r.speaks(what+" by the author", back, "", "", bad, "", fault.Invalid)
		_, err := r.Sign(t.Context(), back, api.Sign{UserID: bad})
		wantFault(t, "sign "+what, err, fault.Invalid)
	}
	_, err := r.Sign(t.Context(), back, api.Sign{})
	wantFault(t, "sign nobody", err, fault.Invalid)
}

func TestOnlyAnOrgsKeySpeaksForEndUsersAndOnlyItsBackendSigns(t *testing.T) {
	r := newKeyRig(t)
	front, back := r.orgKeys(r.owner)
	signature := r.sign(back, "alice")
	_, agentKey := r.newAgent(api.CreateAgent{})
	endUser, err := r.EndUser(t.Context(), front, "alice", signature, "")
	if err != nil {
		t.Fatal(err)
	}
	named := must(r.EndUser(t.Context(), back, "alice", "", ""))(t)
	for key, want := range map[access.Principal]string{front: "a frontend key needs", back: "a backend key needs none"} {
		if _, err := r.EndUser(t.Context(), key, "bob", signature, ""); !errors.Is(err, fault.Unauthenticated) || !strings.Contains(err.Error(), want) {
			t.Errorf("another's signature: %v, want %q", err, want)
		}
	}
	for what, p := range map[string]access.Principal{
		"a backend key's end user": named, "a user": r.owner, "an agent": r.in(r.token(agentKey)), "an operator": r.in(r.newAdminKey()), "an end user": endUser,
	} {
		r.speaks(what, p, "alice", signature, "alice", "", fault.Forbidden)
		_, err := r.Sign(t.Context(), p, api.Sign{UserID: "alice"})
		wantFault(t, what, err, fault.Forbidden)
	}
	r.trail.taken()
	_, err = r.Sign(t.Context(), front, api.Sign{UserID: "alice"})
	wantFault(t, "a frontend key", err, fault.Forbidden)
	if diff := cmp.Diff([]string{"thread.sign refused"}, r.trail.taken()); diff != "" {
		t.Error(diff)
	}
	_, err = r.Sign(t.Context(), access.Principal{}, api.Sign{UserID: "alice"})
	wantFault(t, "nobody", err, fault.Unauthenticated)
	r.speaks("nobody", access.Principal{}, "alice", signature, "", "", fault.Forbidden)
	half := access.Principal{Kind: access.OrgKey, OrgID: r.org.ID, ID: "k"}
	r.speaks("a key of no role", half, "alice", "", "alice", "", fault.Forbidden)
}

func TestSeveralSecretsAreTakenAndADeletedOneIsNotAnywhere(t *testing.T) {
	r := newKeyRig(t)
	front, back := r.orgKeys(r.owner)
	first, s1 := r.newSecret()
	old := r.sign(back, "alice")
	second, s2 := r.newSecret()
	now := r.sign(back, "alice")
	if old != hmacOf(s1, "alice") || now != hmacOf(s2, "alice") {
		t.Error("the newest secret does not sign")
	}
	another := New(r.config) // a server that shares the store
	both := []*Service{r.Service, another}
	for _, s := range both {
		for _, signature := range []string{old, now} {
			must(s.EndUser(t.Context(), front, "alice", signature, ""))(t)
		}
	}
	list := must(r.SigningKeys(t.Context(), r.owner))(t).SigningKeys
	if len(list) != 2 || list[0].ID != first || list[1].ID != second {
		t.Errorf("%+v", list)
	}
	must(0, r.DeleteSigningKey(t.Context(), r.owner, second))(t)
	for _, s := range both {
		_, err := s.EndUser(t.Context(), front, "alice", now, "")
		wantFault(t, "signed by a secret that is no more", err, fault.Unauthenticated)
		must(s.EndUser(t.Context(), front, "alice", old, ""))(t)
	}
	if r.sign(back, "alice") != old {
		t.Error("what is left does not sign")
	}
	must(0, r.DeleteSigningKey(t.Context(), r.owner, first))(t)
	_, err := another.EndUser(t.Context(), front, "alice", old, "")
	wantFault(t, "no secret is left", err, fault.Unauthenticated)
	for key := range r.dump() {
		if strings.HasPrefix(key, layout.AllSealed()+signingKind) {
			t.Errorf("%s is left", key)
		}
	}
	r.silent(r.Service.signing.orgs, must(r.Service.signer(t.Context(), r.org.ID))(t))
}

func TestSigningSecretsAreForThoseWhoRunTheOrg(t *testing.T) {
	r := newKeyRig(t)
	id, secret := r.newSecret()
	front, back := r.orgKeys(r.owner)
	_, agentKey := r.newAgent(api.CreateAgent{})
	r.unchanged(func() {
		for what, p := range map[string]access.Principal{
			"a member": r.newUserKept(access.Member), "a frontend key": front, "a backend key": back, "an operator": {Kind: access.Operator, ID: "o", OrgID: r.org.ID},
			"an agent": {Kind: access.Agent, ID: agentKey[:8], OrgID: r.org.ID},
		} {
			_, err := r.AddSigningKey(t.Context(), p)
			wantFault(t, what, err, fault.Forbidden)
			_, err = r.SigningKeys(t.Context(), p)
			wantFault(t, what, err, fault.Forbidden)
			wantFault(t, what, r.DeleteSigningKey(t.Context(), p, id), fault.Forbidden)
		}
		wantFault(t, "another org's owner", r.DeleteSigningKey(t.Context(), r.stranger, id), fault.NotFound)
		wantFault(t, "the secret by mistake", r.DeleteSigningKey(t.Context(), r.owner, secret), fault.NotFound)
	})
	if list := must(r.SigningKeys(t.Context(), r.stranger))(t).SigningKeys; len(list) != 0 {
		t.Errorf("another org sees %+v", list)
	}
	must(r.SigningKeys(t.Context(), r.newUser(r.org, access.Admin)))(t)
	for range maxSigning - 1 {
		r.newSecret()
	}
	_, err := r.AddSigningKey(t.Context(), r.owner)
	wantFault(t, "one too many", err, fault.Conflict)
	r.silent()
}

// newUserKept is a member who is in no row.
func (r *keyRig) newUserKept(role access.Role) access.Principal {
	return access.Principal{Kind: access.User, ID: "0", OrgID: r.org.ID, Role: role}
}

func TestTheFirstSignatureMakesTheFirstSecret(t *testing.T) {
	r := newKeyRig(t)
	_, back := r.orgKeys(r.owner)
	if list := must(r.SigningKeys(t.Context(), r.owner))(t).SigningKeys; len(list) != 0 {
		t.Errorf("%+v", list)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	all := map[string]bool{}
	for range 8 {
		wg.Go(func() {
			got, err := r.Sign(context.Background(), back, api.Sign{UserID: "alice"})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			all[got.Signature] = true
			mu.Unlock()
		})
	}
	wg.Wait()
	if list := must(r.SigningKeys(t.Context(), r.owner))(t).SigningKeys; len(list) != 1 || len(all) != 1 {
		t.Errorf("%d secrets, %d signatures", len(list), len(all))
	}
}

func TestAStoreThatFailsIsNotABadSignature(t *testing.T) {
	r := newKeyRig(t)
	front, back := r.orgKeys(r.owner)
	signature := r.sign(back, "alice")
	r.store.fail = errors.New("disk")
	_, err := r.EndUser(t.Context(), front, "alice", signature, "")
	wantFault(t, "EndUser", err, fault.Internal)
	_, err = r.Sign(t.Context(), back, api.Sign{UserID: "alice"})
	wantFault(t, "Sign", err, fault.Internal)
	r.store.fail = nil
	r.put(layout.Signing(r.org.ID), 7)
	_, err = r.EndUser(t.Context(), front, "alice", signature, "")
	wantFault(t, "a damaged list", err, fault.Damaged)
	if s := fmt.Sprintf("%v %+v %#v %s", secret("abc"), secret("abc"), secret("abc"), signer{secrets: []secret{secret("abc")}}.secrets); strings.Contains(s, "abc") || strings.Contains(s, "97") {
		t.Error(s)
	}
}
