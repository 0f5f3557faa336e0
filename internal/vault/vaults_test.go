package vault

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
)

func TestAVaultIsMadeReadAndListed(t *testing.T) {
	r := newRig(t)
	made, err := r.Create(t.Context(), owner, api.CreateVault{Name: " 名前 \x00", Description: "for the tests"})
	if err != nil {
		t.Fatal(err)
	}
	wanted := api.Vault{
		ID: made.ID, Name: " 名前 \x00", Description: "for the tests",
		CreatedBy: owner.ID, CreatedByType: "user", CreatedAt: r.time(),
	}
	if diff := cmp.Diff(wanted, made); diff != "" || !isID(made.ID) {
		t.Errorf("Create: %s", diff)
	}
	second := r.vault()
	r.restart()
	got, err := r.Get(t.Context(), owner, made.ID)
	if diff := cmp.Diff(made, got); diff != "" || err != nil {
		t.Errorf("Get: %v %s", err, diff)
	}
	list, err := r.List(t.Context(), owner)
	if err != nil || len(list.Vaults) != 2 || list.Vaults[0].ID != made.ID || list.Vaults[1].ID != second {
		t.Errorf("List = %v, %v: want both, oldest first", list, err)
	}
}

func TestAVaultsTextsHaveLimits(t *testing.T) {
	r := newRig(t)
	for _, req := range []api.CreateVault{
		{},
		{Name: strings.Repeat("é", MaxName+1)},
		{Name: "a", Description: strings.Repeat("é", MaxDescription+1)},
		{Name: "a\xff"},
		{Name: "a", Description: "\xff"},
	} {
		_, err := r.Create(t.Context(), owner, req)
		want(t, req.Name, err, fault.Invalid)
	}
	if rows := r.rows(); len(rows) != 0 {
		t.Errorf("refused vaults left %d rows", len(rows))
	}
	_, err := r.Create(t.Context(), owner, api.CreateVault{Name: strings.Repeat("é", MaxName), Description: strings.Repeat("é", MaxDescription)})
	if err != nil {
		t.Error(err)
	}
}

func TestAVaultWithoutAKEKIsNotStored(t *testing.T) {
	r := newRig(t)
	for _, code := range []fault.Code{fault.Unavailable, fault.Internal} {
		r.Service = New(Config{Store: r.mem, KMS: deadKMS{fault.New(code, "the socket is gone")}, Gate: new(accesstest.Gate)})
		_, err := r.Create(t.Context(), owner, api.CreateVault{Name: "x"})
		want(t, "Create", err, code)
	}
	if rows := r.rows(); len(rows) != 0 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestAVaultThatDidNotCommitIsNotThere(t *testing.T) {
	r := newRig(t)
	r.hooks.beforeCommit = failing(errors.New("disk full"))
	_, err := r.Create(t.Context(), owner, api.CreateVault{Name: "x"})
	want(t, "Create", err, fault.Internal)
	r.hooks.beforeCommit = nil
	if got, err := r.List(t.Context(), owner); err != nil || len(got.Vaults) != 0 {
		t.Errorf("List = %v, %v", got, err)
	}
}
