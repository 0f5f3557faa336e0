package server

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storetest"
	"github.com/keyfold/keyfold/internal/vault"
)

// Which rows are read together hangs on the credential alone: on a vault that is not there,
// or in which nobody ever read, nothing takes longer than on another.
func TestAVaultsRowIsReadWithItsCallersFromTheirSecondUseOn(t *testing.T) {
	s, gate := &storetest.Reads{Store: memstore.New()}, new(accesstest.Gate)
	ids := identity.New(identity.Config{Store: s, Gate: gate, Recorder: noTrail{}, Tokens: plainTokens{}, Patterns: noPatterns{}})
	org, err := ids.CreateOrg(t.Context(), "Org", access.Enterprise)
	if err != nil {
		t.Fatal(err)
	}
	u, err := ids.CreateUser(t.Context(), org.ID, "owner@example.com")
	if err != nil {
		t.Fatal(err)
	}
	table := rows(Config{Vaults: vault.New(vault.Config{Store: s, Gate: gate})})
	call := calls(httpx.New(httpx.Config{Rows: table, Authenticate: ids.Authenticate}))
	meta := layout.VaultMeta(someID)
	began := func(row httpx.Row, bearer string, status int, read ...[]string) {
		t.Helper()
		path := strings.NewReplacer("{vault}", someID, "{path...}", "a/1").Replace(row.Pattern)
		s.Read = nil
		got, body := call(row.Method, path, bearer, "", "")
		if got != status || len(s.Read) < len(read) || status == 401 && len(s.Read) > len(read) {
			t.Errorf("%s: %d %s, after reading %q", row.Pattern, got, body, s.Read)
		} else if diff := cmp.Diff(read, s.Read[:len(read)]); diff != "" || slices.ContainsFunc(s.Read[len(read):], func(keys []string) bool { return slices.Contains(keys, meta) }) {
			t.Errorf("%s: %d, and the vault's row is read again or not as it must be: %q %s", row.Pattern, got, s.Read, diff)
		}
	}
	own := func(key string) string { return layout.APIKey(fmt.Sprintf("%x", sha256.Sum256([]byte(key)))) }
	ahead := 0
	for _, row := range table {
		if row.Ahead == nil {
			continue
		}
		ahead++
		key, err := ids.CreateAPIKey(t.Context(), u.ID)
		if err != nil {
			t.Fatal(err)
		}
		nobodys := "1ck_" + strings.Repeat("0", len(key)-4)
		began(row, nobodys, 401, []string{own(nobodys)})
		began(row, key, 404, []string{own(key)}, []string{layout.User(u.ID)}, []string{layout.Org(org.ID)}, []string{meta})
		together := []string{meta, own(key), layout.Org(org.ID), layout.User(u.ID)}
		began(row, key, 404, together)
		if _, err := s.Commit(t.Context(), &store.Batch{Writes: []store.Write{{Key: own(key), Delete: true}}}); err != nil {
			t.Fatal(err)
		}
		began(row, key, 401, together)
	}
	if ahead != 5 {
		t.Errorf("of %d rows the vault is read ahead", ahead)
	}
}
