package server

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storetest"
	"github.com/keyfold/keyfold/internal/vault"
)

// A credential decides alone what is read together: a vault that is not there, or in which
// nobody ever read, takes as long as another. With one that is not live any more the vault's
// row is read once at most.
func TestAVaultsRowIsReadWithWhoReadsInItFromHisSecondReadOn(t *testing.T) {
	s := &storetest.Reads{Store: memstore.New()}
	ids, u, key := withOwner(t, s)
	vaults := vault.New(vault.Config{Store: s, Gate: new(accesstest.Gate)})
	call := calls(httpx.New(httpx.Config{Rows: rows(Config{Vaults: vaults}), Authenticate: ids.Authenticate}))
	another := strings.Replace(someID, "a", "b", 1) // a vault that is there
	if _, err := s.Commit(t.Context(), &store.Batch{Writes: []store.Write{{Key: layout.VaultMeta(another), Value: []byte(`{"org":"another","owner_kind":"user","owner":"u","name":"n","created_at":"2030-01-01T00:00:00Z","kek":"k"}`)}}}); err != nil {
		t.Fatal(err)
	}
	meta := layout.VaultMeta(someID)
	reads := func(path, bearer string, status int, read ...[]string) {
		t.Helper()
		s.Read = nil
		got, body := call("GET", "/v1/vaults/"+path, bearer, "", "")
		if got != status || len(s.Read) < len(read) || status != 404 && len(s.Read) > len(read) {
			t.Errorf("%s: %d %s, after reading %q", path, got, body, s.Read)
		} else if diff := cmp.Diff(read, s.Read[:len(read)]); diff != "" || slices.ContainsFunc(s.Read[len(read):], func(keys []string) bool { return slices.Contains(keys, meta) }) {
			t.Errorf("%s: %d, and the vault's row is read again or not as it must be: %q %s", path, got, s.Read, diff)
		}
	}
	own := func(key string) string { return layout.APIKey(fmt.Sprintf("%x", sha256.Sum256([]byte(key)))) }
	nobodys := "1ck_" + strings.Repeat("0", len(key)-4)
	reads(someID+"/secrets/a", nobodys, 401, []string{own(nobodys)})
	reads(someID+"/secrets/a", key, 404, []string{own(key)}, []string{layout.User(u.ID)}, []string{layout.Org(u.Org)}, []string{meta})
	who := []string{own(key), layout.Org(u.Org), layout.User(u.ID)}
	together := append([]string{meta}, who...)
	reads(someID+"/secrets/a", key, 404, together)
	reads(another+"/secrets/a", key, 404, append([]string{layout.VaultMeta(another)}, who...))
	reads(someID+"/secrets/"+strings.Repeat("a", 2000), key, 400, who)
	reads("none/secrets/a", key, 404, who)
	if _, err := s.Commit(t.Context(), &store.Batch{Writes: []store.Write{{Key: own(key), Delete: true}}}); err != nil {
		t.Fatal(err)
	}
	reads(someID+"/secrets/a", key, 401, together)
	reads(someID+"/secrets/a", key, 401, []string{own(key)})
}
