package guard_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/guard"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/policy"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
	"github.com/keyfold/keyfold/internal/vault"
)

var (
	owner = access.Principal{Kind: access.User, ID: "01900000-0000-7000-8000-000000000001", OrgID: "o", Plan: access.Enterprise}
	agent = access.Principal{Kind: access.Agent, ID: "01900000-0000-7000-8000-000000000002", OrgID: "o", Ceiling: &access.Ceiling{Scopes: []string{"**"}}}
)

// counting is a store that counts its reads.
type counting struct {
	store.Store
	gets, scans atomic.Int64
}

func (c *counting) Get(ctx context.Context, key string) (store.Record, error) {
	c.gets.Add(1)
	return c.Store.Get(ctx, key)
}

func (c *counting) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	c.scans.Add(1)
	return c.Store.Scan(ctx, r, opt)
}

type noTrail struct{}

func (noTrail) Record(context.Context, access.Event) error { return nil }

// site is a vault of owner's with the secret db/a, which agent may read by a
// policy. With crowd there are 10,000 policies of other agents in the org, 100
// of them on this vault.
func site(t testing.TB, engine store.Store, crowd bool) (vaults *vault.Service, reads *counting, vaultID string) {
	t.Helper()
	root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := kms.New(t.Context(), kms.Config{Store: memstore.New(), Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	reads = &counting{Store: engine}
	gate := guard.New(guard.Config{Rules: policy.NewTable(reads), Recorder: noTrail{}})
	vaults = vault.New(vault.Config{Store: reads, KMS: keys, Gate: gate})
	v, err := vaults.Create(t.Context(), owner, api.CreateVault{Name: "v"})
	if err != nil {
		t.Fatal(err)
	}
	value := "x"
	if _, err := vaults.Put(t.Context(), owner, v.ID, "db/a", api.PutSecret{Value: &value}, vault.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	grant := api.CreatePolicy{SecretPathPattern: "db/**", PrincipalType: "agent", PrincipalID: agent.ID, Permissions: []string{"read"}}
	if _, err := policy.New(policy.Config{Store: engine, Gate: gate, Vaults: vaults}).Create(t.Context(), owner, v.ID, grant); err != nil {
		t.Fatal(err)
	}
	if crowd {
		addCrowd(t, engine, v.ID)
	}
	return vaults, reads, v.ID
}

func addCrowd(t testing.TB, engine store.Store, vaultID string) {
	t.Helper()
	row, err := engine.Get(t.Context(), layout.VaultPolicies(vaultID, "agent", agent.ID))
	if err != nil {
		t.Fatal(err)
	}
	for v := range 100 {
		b, on := new(store.Batch), vaultID
		if v > 0 {
			on = fmt.Sprintf("01900000-0000-7000-8000-2%011d", v)
		}
		for i := range 100 {
			other := fmt.Sprintf("01900000-0000-7000-8000-1%011d", 100*v+i)
			b.Put(layout.VaultPolicies(on, "agent", other), row.Value)
			b.Put(layout.VaultPolicy(on, other), []byte("agent:"+other))
			b.Put(layout.Grantee("agent", other, on), nil)
		}
		if _, err := engine.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPoliciesCostASecretReadOneGet(t *testing.T) {
	vaults, reads, vaultID := site(t, memstore.New(), true)
	cost := map[access.Kind]int64{}
	for _, p := range []access.Principal{owner, agent} {
		before := reads.gets.Load()
		scans := reads.scans.Load()
		if _, err := vaults.Read(t.Context(), p, vaultID, "db/a"); err != nil {
			t.Fatal(err)
		}
		cost[p.Kind] = reads.gets.Load() - before
		if reads.scans.Load() != scans {
			t.Error("it scanned")
		}
	}
	if cost[access.Agent] != cost[access.User]+1 {
		t.Errorf("a read by policy costs %d gets, the creator's %d", cost[access.Agent], cost[access.User])
	}
}

func BenchmarkRead(b *testing.B) {
	for _, bench := range []struct {
		name  string
		p     access.Principal
		crowd bool
	}{{"the creator", owner, false}, {"an agent", agent, false}, {"an agent among 10,000 policies", agent, true}} {
		b.Run(bench.name, func(b *testing.B) {
			engine, err := pebblestore.Open(b.TempDir(), pebblestore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer engine.Close()
			vaults, _, vaultID := site(b, engine, bench.crowd)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := vaults.Read(b.Context(), bench.p, vaultID, "db/a"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
