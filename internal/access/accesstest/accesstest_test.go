package accesstest

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// A gate that lets pass what the real one does not would make tests of refusals
// worthless.
func TestTheGateDecidesAsAllowDoesAndRemembers(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	p := access.Principal{Kind: access.User, ID: "u", OrgID: "o", Role: access.Member}
	rule := access.Rule{Pattern: "a/*", Permissions: []access.Permission{access.Read}, Expires: now}
	var g Gate
	secret := access.Resource{OrgID: "o", VaultID: "v", OwnerID: "another", Path: "a/b"}
	check := func(what string, r access.Resource, want fault.Code) {
		t.Helper()
		err := g.Check(t.Context(), p, access.SecretRead, r)
		if (err == nil) != (want == "") || err != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
		if asked := g.Asked(); len(asked) != 1 || !reflect.DeepEqual(asked[0], Asked{p, access.SecretRead, r, err}) || len(g.Asked()) != 0 {
			t.Errorf("%s: it was asked %+v", what, asked)
		}
		seen, failed := g.Filter(t.Context(), p, access.SecretRead, r)
		if failed != g.Fail || seen(r.Path) != (want == "") && g.Fail == nil {
			t.Errorf("%s: the filter differs, %v", what, failed)
		}
	}
	check("without a rule", secret, fault.Forbidden)
	g.Rules = func(access.Principal, string) []access.Rule { return []access.Rule{rule} }
	check("a rule that is over", secret, fault.Forbidden)
	g.Now = func() time.Time { return now.Add(-time.Second) }
	check("a rule", secret, "")
	elsewhere := secret
	elsewhere.Path = "b/b"
	check("elsewhere", elsewhere, fault.Forbidden)
	foreign := secret
	foreign.OrgID = "o2"
	check("another org's", foreign, fault.NotFound)
	g.Fail = fault.New(fault.Unavailable, "no trail")
	check("a gate that fails", secret, fault.Unavailable)
}
