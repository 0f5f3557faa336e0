package identity

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// empty is a Service without users, on which nobody may sign up.
func empty(t *testing.T) (*world, *trail) {
	t.Helper()
	w, tr := &world{store: &countingStore{Store: memstore.New()}}, new(trail)
	w.Service = New(Config{Store: w.store, Recorder: tr, Passwords: cheap(1), DefaultPlan: access.Pro, Now: func() time.Time { return time.Unix(1_790_000_000, 0) }})
	return w, tr
}

func TestTheFirstOrgIsFoundedOnceWithOwnerAndOperator(t *testing.T) {
	w, tr := empty(t)
	if there, err := w.HasUsers(t.Context()); err != nil || there {
		t.Fatalf("HasUsers of an empty store: %v, %v", there, err)
	}
	req := api.SignUp{Email: "Owner@example.com", Password: goodPassword, OrgName: "Acme"}
	made, err := w.Found(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Authenticate(t.Context(), made.AdminKey)
	if err != nil || p.Kind != access.Operator || p.OrgID != made.OrgID || p.Credential != made.KeyID || p.Plan != access.Pro {
		t.Errorf("the admin key is %+v, %v", p, err)
	}
	u, hash, err := w.account(t.Context(), "owner@example.com")
	if err != nil || u.Role != access.Owner || u.Org != made.OrgID || !u.HasPassword || made.Email != u.Email {
		t.Errorf("the owner is %+v, %v", u, err)
	}
	if ok, _, err := w.passwords.Verify(t.Context(), string(hash.Value), goodPassword); err != nil || !ok {
		t.Errorf("the password: %v, %v", ok, err)
	}
	if len(tr.events) != 2 || tr.events[0].Action != "auth.signup" || tr.events[0].Details["by"] != "operator" || tr.events[1].ResourceID != made.KeyID {
		t.Errorf("recorded: %+v", tr.events)
	}
	for key, value := range w.dump(t) {
		if strings.Contains(value, goodPassword) || strings.Contains(value, made.AdminKey) {
			t.Errorf("%s holds a secret", key)
		}
	}
	before := len(w.dump(t))
	req.Email = "another@example.com"
	if _, err := w.Found(t.Context(), req); !errors.Is(err, fault.Conflict) || len(w.dump(t)) != before || len(tr.events) != 2 {
		t.Errorf("a second time: %v", err)
	}
}

func TestNothingIsFoundedByHalf(t *testing.T) {
	good := api.SignUp{Email: "owner@example.com", Password: goodPassword}
	for name, c := range map[string]struct {
		req  api.SignUp
		fail error
		want fault.Code
	}{
		"no email":        {api.SignUp{Email: "owner", Password: goodPassword}, nil, fault.Invalid},
		"a weak password": {api.SignUp{Email: "owner@example.com", Password: "short"}, nil, fault.Invalid},
		"a name of lines": {api.SignUp{Email: "owner@example.com", Password: goodPassword, OrgName: "a\nb"}, nil, fault.Invalid},
		"no trail":        {good, errors.New("full"), fault.Unavailable},
	} {
		w, tr := empty(t)
		tr.fail = c.fail
		_, err := w.Found(t.Context(), c.req)
		wantCode(t, err, c.want)
		if rows := w.dump(t); len(rows) > 0 {
			t.Errorf("%s: left %v", name, rows)
		}
	}
	w, _ := empty(t)
	if err := w.index(t.Context()); err != nil { // which commits once in a store's life
		t.Fatal(err)
	}
	w.store.beforeCommit = func() {
		w.store.beforeCommit = func() { t.Error("a crash between the commits would leave an org that nobody runs") }
	}
	if _, err := w.Found(t.Context(), good); err != nil {
		t.Fatal(err)
	}
}
