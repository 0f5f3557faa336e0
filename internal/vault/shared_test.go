package vault

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/fault"
)

// id is the ID of a secret, as its metadata shows it.
func (r *rig) id(vaultID, path string) string {
	r.t.Helper()
	all, err := r.ListSecrets(r.t.Context(), owner, vaultID, path, false)
	if err != nil || len(all.Secrets) == 0 {
		r.t.Fatalf("ListSecrets = %v, %v", all, err)
	}
	return all.Secrets[0].ID
}

func counted(n *atomic.Int32) func() error { return func() error { n.Add(1); return nil } }

func TestASecretIsFoundByItsIDInItsOrgAlone(t *testing.T) {
	r := newRig(t)
	r.vault() // another one of the org's, without it
	v := r.vault()
	r.put(v, "db/password", "x")
	r.put(v, "db/password", "y")
	id := r.id(v, "db/password")
	at, err := r.Locate(t.Context(), owner.OrgID, id)
	if want := (Located{OrgID: owner.OrgID, OwnerID: owner.ID, VaultID: v, Path: "db/password"}); err != nil || at != want {
		t.Errorf("Locate = %+v, %v", at, err)
	}
	for name, q := range map[string][2]string{"another org": {"org-2", id}, "no org": {"", id}, "no ID": {owner.OrgID, "x:y"}, "a vault's ID": {owner.OrgID, v}} {
		_, err := r.Locate(t.Context(), q[0], q[1])
		want(t, name, err, fault.NotFound)
	}
	ok(t, "DeleteSecret", r.DeleteSecret(t.Context(), owner, v, "db/password"))
	_, err = r.Locate(t.Context(), owner.OrgID, id)
	want(t, "deleted", err, fault.NotFound)
	r.put(v, "db/password", "z")
	_, err = r.Locate(t.Context(), owner.OrgID, id)
	ok(t, "written again", err)
	ok(t, "Delete", r.Delete(t.Context(), owner, v))
	_, err = r.Locate(t.Context(), owner.OrgID, id)
	want(t, "its vault deleted", err, fault.NotFound)
}

func TestASharedReadIsTheNewestVersionOfThatSecretAlone(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "one")
	r.put(v, "a", "two")
	sh := Shared{OrgID: owner.OrgID, VaultID: v, SecretID: r.id(v, "a"), Path: "a"}
	r.put(v, "b", "other")
	var n atomic.Int32
	got, err := r.ReadShared(t.Context(), sh, counted(&n))
	if err != nil || got.Secret.Value != "two" || got.Secret.Version != 2 || n.Load() != 1 {
		t.Errorf("ReadShared = %+v, %v, counted %d", got, err, n.Load())
	}
	for name, change := range map[string]func(*Shared){
		"another org":    func(s *Shared) { s.OrgID = "org-2" },
		"another secret": func(s *Shared) { s.Path = "b" },
		"no such path":   func(s *Shared) { s.Path = "c" },
	} {
		other := sh
		change(&other)
		_, err := r.ReadShared(t.Context(), other, counted(&n))
		want(t, name, err, fault.NotFound)
	}
	refused := errors.New("refused")
	if got, err := r.ReadShared(t.Context(), sh, func() error { return refused }); err != refused || got.Secret.Value != "" {
		t.Errorf("a refused count answers %+v, %v", got, err)
	}
	ok(t, "DisableVersion", r.DisableVersion(t.Context(), owner, v, "a", 2))
	_, err = r.ReadShared(t.Context(), sh, counted(&n))
	want(t, "disabled", err, fault.Gone)
	if n.Load() != 1 {
		t.Errorf("counted %d reads that were none", n.Load()-1)
	}
}

func TestASealedVersionIsSharedUnderItsKeyAlone(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "plain")
	sh := Shared{OrgID: owner.OrgID, VaultID: v, SecretID: r.id(v, "a"), Path: "a"}
	key := cmek.Generate()
	_, err := r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: key.Fingerprint()})
	ok(t, "EnableCMEK", err)
	r.put(v, "a", blob(t, key, "sealed"))
	var n atomic.Int32
	for _, f := range []string{"", cmek.Generate().Fingerprint()} {
		sh.Fingerprint = f
		_, err := r.ReadShared(t.Context(), sh, counted(&n))
		want(t, "sealed", err, fault.Conflict)
		if fault.Of(err).Type != api.ProblemShareSealed {
			t.Errorf("type %q", fault.Of(err).Type)
		}
	}
	sh.Fingerprint = key.Fingerprint()
	got, err := r.ReadShared(t.Context(), sh, counted(&n))
	if err != nil || !got.Secret.CMEKEncrypted || got.CMEKFingerprint != key.Fingerprint() || n.Load() != 1 {
		t.Errorf("ReadShared = %+v, %v, counted %d", got, err, n.Load())
	}
}

func TestSharedReadsUseUpTheReadsOfAVersion(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	m, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("x"), MaxAccessCount: ptr(3)}, PutOptions{})
	ok(t, "Put", err)
	sh := Shared{OrgID: owner.OrgID, VaultID: v, SecretID: m.ID, Path: "a"}
	var n, answered atomic.Int32
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			_, err := r.ReadShared(t.Context(), sh, counted(&n))
			if err == nil {
				answered.Add(1)
			} else if !errors.Is(err, fault.Gone) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if answered.Load() != 3 {
		t.Errorf("%d answers of 3", answered.Load())
	}
}

func TestTheLastReadOfAVersionIsGivenOnce(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("x"), MaxAccessCount: ptr(1)}, PutOptions{})
	ok(t, "Put", err)
	sh := Shared{OrgID: owner.OrgID, VaultID: v, SecretID: r.id(v, "a"), Path: "a"}
	got, err := r.ReadShared(t.Context(), sh, func() error {
		_, err := r.ReadShared(t.Context(), sh, func() error { return nil })
		ok(t, "another was faster", err)
		return nil
	})
	want(t, "read out meanwhile", err, fault.Gone)
	if got.Secret.Value != "" {
		t.Error("the value was given twice")
	}
}

func TestAPrivateKeyIsNotSharedWithWhoSignsThroughIntents(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	for _, kind := range []string{"private_key", "ssh_key", "generic"} {
		_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("x"), Type: kind}, PutOptions{})
		ok(t, "Put", err)
		var n atomic.Int32
		sh := Shared{OrgID: owner.OrgID, VaultID: v, SecretID: r.id(v, "a"), Path: "a", Intents: true}
		if _, err = r.ReadShared(t.Context(), sh, counted(&n)); kind == "generic" {
			ok(t, kind, err)
			continue
		}
		want(t, kind, err, fault.Forbidden)
		if n.Load() != 0 {
			t.Errorf("%s: counted", kind)
		}
	}
}

func ok(t *testing.T, name string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
