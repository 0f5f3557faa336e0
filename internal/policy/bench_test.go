package policy

import (
	"fmt"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// crowd gives 10,000 policies in the org to others: 100 on v1, the rest on 99
// other vaults.
func (w *world) crowd() {
	w.t.Helper()
	row := w.rows()[layout.VaultPolicies(v1, "agent", agentID)]
	for v := range 100 {
		vaultID := fmt.Sprintf("01900000-0000-7000-8000-0000000000%02x", v)
		if v == 0 {
			vaultID = v1
		}
		w.commit(func(b *store.Batch) {
			for i := range 100 {
				other := fmt.Sprintf("01900000-0000-7000-8000-1%011d", 100*v+i)
				b.Put(layout.VaultPolicies(vaultID, "agent", other), []byte(row))
				b.Put(layout.VaultPolicy(vaultID, other), []byte("agent:"+other))
				b.Put(layout.Grantee("agent", other, vaultID), nil)
			}
		})
	}
}

func TestADecisionCostsOneGetHoweverManyPoliciesOthersHave(t *testing.T) {
	w := newWorld(t)
	w.grantAgent(v1, agentID, "db/**", "read")
	w.crowd()
	table := NewTable(w.hookStore)
	w.gets, w.scans = 0, 0
	rules, err := table.Rules(t.Context(), v1, access.Agent, agentID)
	if err != nil || len(rules) != 1 || w.gets != 1 || w.scans != 0 {
		t.Errorf("%d rules for %d gets and %d scans, %v", len(rules), w.gets, w.scans, err)
	}
}

func BenchmarkRules(b *testing.B) {
	for _, bench := range []struct {
		name  string
		own   int
		crowd bool
	}{{"one alone", 1, false}, {"one in an org of 10,000", 1, true}, {"100 of his own", 100, false}} {
		b.Run(bench.name, func(b *testing.B) {
			engine, err := pebblestore.Open(b.TempDir(), pebblestore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer engine.Close()
			w := newWorldOn(b, engine)
			for range bench.own {
				if _, err := w.Create(b.Context(), owner, v1, api.CreatePolicy{SecretPathPattern: "db/**", PrincipalType: "agent", PrincipalID: agentID, Permissions: []string{"read"}}); err != nil {
					b.Fatal(err)
				}
			}
			if bench.crowd {
				w.crowd()
			}
			table := NewTable(engine)
			b.ReportAllocs()
			for b.Loop() {
				if rules, err := table.Rules(b.Context(), v1, access.Agent, agentID); err != nil || len(rules) != bench.own {
					b.Fatal(len(rules), err)
				}
			}
		})
	}
}
