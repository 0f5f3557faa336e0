package identity

import (
	"errors"
	"testing"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

const adminKey = "1ck_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

func TestAnAdminKeyIsAnOperatorAndNoUser(t *testing.T) {
	w := newWorld(t)
	for range 2 { // the second time changes nothing
		if err := w.EnsureAdminKey(t.Context(), w.org.ID, adminKey); err != nil {
			t.Fatal(err)
		}
	}
	p, err := w.Authenticate(t.Context(), adminKey)
	if err != nil || p.Kind != access.Operator || p.OrgID != w.org.ID || p.ID == "" || p.ID == w.user.ID {
		t.Errorf("Authenticate = %+v, %v", p, err)
	}
	if p, err := w.Authenticate(t.Context(), w.key); err != nil || p.Kind != access.User {
		t.Errorf("a user's key is %+v, %v", p, err)
	}
	w.put(t, layout.Org(w.org.ID), nil)
	if _, err := w.Authenticate(t.Context(), adminKey); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("of an org that is no more: %v", err)
	}
}

func TestNoKeyIsAUsersAndAnAdminsAtOnce(t *testing.T) {
	w := newWorld(t)
	if err := w.EnsureAdminKey(t.Context(), w.org.ID, w.key); !errors.Is(err, fault.Conflict) {
		t.Errorf("a user's key as an admin key: %v", err)
	}
	if err := w.EnsureAdminKey(t.Context(), w.org.ID, adminKey); err != nil {
		t.Fatal(err)
	}
	if err := w.EnsureAPIKey(t.Context(), w.user.ID, adminKey); !errors.Is(err, fault.Conflict) {
		t.Errorf("an admin key as a user's: %v", err)
	}
	if err := w.EnsureAdminKey(t.Context(), "no-such-org", adminKey); !errors.Is(err, fault.NotFound) {
		t.Errorf("an admin key of no org: %v", err)
	}
	if err := w.EnsureAdminKey(t.Context(), w.org.ID, "short"); !errors.Is(err, fault.Invalid) {
		t.Errorf("a key of the wrong form: %v", err)
	}
}
