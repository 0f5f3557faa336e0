package identity

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// crowd adds n agents to the org, a thousand in a batch.
func (r *keyRig) crowd(n int) {
	r.t.Helper()
	for n > 0 {
		var b store.Batch
		for range min(n, 1000) {
			n--
			a := agent{
				ID: must(newID())(r.t), Name: "robot", CreatedBy: r.owner.ID, Created: r.clock.now, Active: true,
				Key: hash(uuid.NewString()), TokenTTL: 3600, Scopes: []string{"db/**"}, Vaults: []string{uuid.NewString()},
			}
			if err := put(&b, layout.Agent(r.org.ID, a.ID), a); err != nil {
				r.t.Fatal(err)
			}
			putKey(&b, r.org.ID, a)
			b.Put(layout.AgentOf(r.org.ID, a.CreatedBy, a.ID), nil)
		}
		must(r.store.Commit(r.t.Context(), &b))(r.t)
	}
}

// BenchmarkAuthenticateInACrowd is who a bearer is, in an org of few agents and
// in one of 100,000; what they cost must be about the same.
func BenchmarkAuthenticateInACrowd(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		engine, err := pebblestore.Open(b.TempDir(), pebblestore.Options{})
		if err != nil {
			b.Fatal(err)
		}
		r := newKeyRigOn(b, engine)
		_, agentKey := r.newAgent(api.CreateAgent{Scopes: []string{"db/**"}, TokenTTLSeconds: ptr(86400)})
		_, key := r.newAPIKey(r.owner, api.CreateAPIKey{})
		r.crowd(n)
		bearer := r.token(agentKey)
		r.clock.frozen = true
		for name, text := range map[string]string{"key": key, "token": bearer} {
			r.in(text)
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := r.Authenticate(b.Context(), text); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("exchange/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := r.AgentToken(b.Context(), From{}, api.GetAgentToken{APIKey: agentKey}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("page/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := r.ListAgents(b.Context(), r.owner, "", 100); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("create/%d", n), func(b *testing.B) {
			for b.Loop() {
				r.newAgent(api.CreateAgent{})
			}
		})
		if err := engine.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
