// Package accesstest is a gate for the tests of the domain packages: it decides
// as the real one does and remembers what it was asked.
package accesstest

import (
	"context"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/access"
)

// Asked is one question to Check and its answer.
type Asked struct {
	Principal access.Principal
	Action    access.Action
	Resource  access.Resource
	Err       error
}

// Gate is an access.Gate that decides by access.Allow. The zero Gate is ready
// to use, by many goroutines.
type Gate struct {
	Rules func(p access.Principal, vaultID string) []access.Rule // nil: there are none
	Now   func() time.Time                                       // nil: time.Now
	Fail  error                                                  // when set, answers everything

	mu    sync.Mutex
	asked []Asked
	done  []Asked
}

// Asked returns what Check was asked since the last call of Asked.
func (g *Gate) Asked() []Asked {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.asked
	g.asked = nil
	return out
}

// Check decides and remembers.
func (g *Gate) Check(_ context.Context, p access.Principal, a access.Action, r access.Resource) error {
	err := g.Fail
	if err == nil {
		err = g.allow(p, a, r)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, Asked{p, a, r, err})
	return err
}

// Done remembers what has taken effect.
func (g *Gate) Done(_ context.Context, p access.Principal, a access.Action, r access.Resource) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done = append(g.done, Asked{p, a, r, g.Fail})
	return g.Fail
}

// WasDone returns what Done was told since the last call of WasDone.
func (g *Gate) WasDone() []Asked {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.done
	g.done = nil
	return out
}

// Filter decides.
func (g *Gate) Filter(_ context.Context, p access.Principal, a access.Action, r access.Resource) (func(string) bool, error) {
	return func(path string) bool {
		r.Path = path
		return g.allow(p, a, r) == nil
	}, g.Fail
}

func (g *Gate) allow(p access.Principal, a access.Action, r access.Resource) error {
	now, rules := time.Now(), []access.Rule(nil)
	if g.Now != nil {
		now = g.Now()
	}
	if g.Rules != nil {
		rules = g.Rules(p, r.VaultID)
	}
	return access.Allow(p, a, r, rules, now)
}
