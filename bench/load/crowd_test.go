package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// reader is an agent that reads secrets of one vault by a policy.
type reader struct {
	url string
	w   workload
}

// newReader makes a server on disk whose org has so many agents and policies,
// and a reader in it. The vault that it reads has a hundredth of the policies, as
// many as a vault may have.
func newReader(b *testing.B, agents, policies int) reader {
	s := keyfoldtest.Start(b, keyfoldtest.OnDisk(b.TempDir()))
	owner := target{s.URL, s.APIKey}
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	newAgent := func(name string) (a api.AgentCreated) {
		must(call(owner, "POST", "/v1/agents", api.CreateAgent{Name: name}, &a))
		return a
	}
	w, err := secretGet(owner, shape{connections: 32, size: 1024, secrets: 2000})
	must(err)
	var vaults api.Vaults
	must(call(owner, "GET", "/v1/vaults", nil, &vaults))
	ids := []string{vaults.Vaults[0].ID}
	for len(ids) < 10 {
		id, err := newVault(owner, shape{})
		must(err)
		ids = append(ids, id)
	}
	grant := func(vault, agent string) {
		p := api.CreatePolicy{SecretPathPattern: "**", PrincipalType: "agent", PrincipalID: agent, Permissions: []string{"read"}}
		must(call(owner, "POST", "/v1/vaults/"+vault+"/policies", p, &api.Policy{}))
	}
	self := newAgent("reader")
	grant(ids[0], self.Agent.ID)
	together(agents, func(i int) {
		if a := newAgent(fmt.Sprint("agent ", i)); i < policies-1 {
			grant(ids[(i+1)%len(ids)], a.Agent.ID)
		}
	})
	var token api.Token
	must(call(target{s.URL, ""}, "POST", "/v1/auth/agent-token", api.GetAgentToken{APIKey: self.APIKey}, &token))
	return reader{s.URL, workload{least: w.least, check: w.check, next: func(c, i int) []byte {
		return bytes.ReplaceAll(w.next(c, i), []byte(owner.key), []byte(token.AccessToken))
	}}}
}

// read makes n calls from 32 connections and returns what one took of CPU, the
// generator's part included.
func (r reader) read(b *testing.B, n int) time.Duration {
	before, err := cpuTime(os.Getpid())
	if err == nil {
		err = fill(r.url, r.w, 32, n/32)
	}
	after, err2 := cpuTime(os.Getpid())
	if err := errors.Join(err, err2); err != nil {
		b.Fatal(err)
	}
	return (after - before) / time.Duration(n)
}

// BenchmarkSecretReadInACrowd reads a secret as an agent over HTTP, from a
// server on disk whose org has 100,000 agents and 10,000 policies, and in turns
// from one with ten of each. The metric "ratio" is the median of the turns'; it
// must be at most 1.3. Setting up takes some minutes.
func BenchmarkSecretReadInACrowd(b *testing.B) {
	small, crowd := newReader(b, 10, 10), newReader(b, 100_000, 10_000)
	const turn = 6400 // calls
	small.read(b, turn)
	crowd.read(b, turn)
	var ratios []float64
	var us [2]time.Duration
	b.ResetTimer()
	for n := 0; n < b.N || len(ratios) < 9; n += turn {
		a, z := small.read(b, turn), crowd.read(b, turn)
		us[0], us[1] = us[0]+a, us[1]+z
		ratios = append(ratios, float64(z)/float64(a))
	}
	slices.SortFunc(ratios, cmp.Compare)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(float64(us[0].Microseconds())/float64(len(ratios)), "small-cpu-µs/read")
	b.ReportMetric(float64(us[1].Microseconds())/float64(len(ratios)), "crowd-cpu-µs/read")
}

// together does 0 to n-1, sixteen at a time.
func together(n int, do func(int)) {
	var wg sync.WaitGroup
	for k := range 16 {
		wg.Go(func() {
			for i := k; i < n; i += 16 {
				do(i)
			}
		})
	}
	wg.Wait()
}
