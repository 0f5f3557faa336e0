package access

import (
	"errors"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

func TestAllow(t *testing.T) {
	owner := Principal{Kind: User, ID: "u1", OrgID: "o1"}
	mate := Principal{Kind: User, ID: "u2", OrgID: "o1"}
	stranger := Principal{Kind: User, ID: "u1", OrgID: "o2"} // same ID, other org
	operator := Principal{Kind: Operator, ID: "u1", OrgID: "o1"}
	thing := Resource{OrgID: "o1", OwnerID: "u1"}

	for _, c := range []struct {
		name   string
		who    Principal
		action Action
		what   Resource
		want   error
	}{
		{"nobody", Principal{}, SecretRead, thing, fault.Unauthenticated},
		{"nobody meets a thing of no org", Principal{}, SecretRead, Resource{}, fault.Unauthenticated},
		{"no org", Principal{Kind: User, ID: "u1"}, SecretRead, thing, fault.Unauthenticated},
		{"owner reads", owner, SecretRead, thing, nil},
		{"owner deletes", owner, VaultDelete, thing, nil},
		{"mate reads", mate, SecretRead, thing, fault.Forbidden},
		{"mate creates", mate, VaultCreate, Resource{OrgID: "o1"}, nil},
		{"other org reads", stranger, SecretRead, thing, fault.NotFound},
		{"other org creates here", stranger, VaultCreate, Resource{OrgID: "o1"}, fault.NotFound},
		{"operator operates", operator, Operate, Resource{}, nil},
		{"operator reads what has his ID for owner", operator, SecretRead, thing, fault.Forbidden},
		{"operator creates", operator, VaultCreate, Resource{OrgID: "o1"}, fault.Forbidden},
		{"owner operates", owner, Operate, thing, fault.Forbidden},
		{"nobody operates", Principal{}, Operate, Resource{}, fault.Unauthenticated},
		{"operator of no org", Principal{Kind: Operator, ID: "u1"}, Operate, Resource{}, fault.Unauthenticated},
		{"a thing without an owner is nobody's", owner, SecretRead, Resource{OrgID: "o1"}, fault.Forbidden},
	} {
		err := Allow(c.who, c.action, c.what, nil, time.Time{})
		if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: Allow = %v, want %v", c.name, err, c.want)
		}
	}
}
