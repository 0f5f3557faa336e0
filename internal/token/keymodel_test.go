package token

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestOfAllThatHappensATokenDiesOfItsEndAndItsRevocationAlone: servers issue,
// rotate, revoke and start anew while time passes; every token works on every
// server until its end, or its revocation.
func TestOfAllThatHappensATokenDiesOfItsEndAndItsRevocationAlone(t *testing.T) {
	type issued struct {
		text    string
		claims  Claims
		revoked bool
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		servers := []*Service{w.Service, w.another(), w.another()}
		var all []*issued
		turn := 0
		pick := func(rt *rapid.T) *Service { return servers[rapid.IntRange(0, 2).Draw(rt, "server")] }
		rt.Repeat(map[string]func(*rapid.T){
			"issue": func(rt *rapid.T) {
				text := w.issue(pick(rt), time.Duration(rapid.Int64Range(1, int64(MaxTTL/time.Second)).Draw(rt, "ttl"))*time.Second)
				all = append(all, &issued{text: text, claims: w.lives(pick(rt), text)})
			},
			"rotate": func(rt *rapid.T) {
				if k := w.keys.Load(); k == nil || len(k.list) < 4 { // to open many takes long
					w.rotate(pick(rt))
				}
			},
			"restart": func(rt *rapid.T) { servers[rapid.IntRange(0, 2).Draw(rt, "server")] = w.another() },
			"revoke": func(rt *rapid.T) {
				if len(all) > 0 {
					one := all[rapid.IntRange(0, len(all)-1).Draw(rt, "token")]
					if err := pick(rt).Revoke(context.Background(), one.claims); err != nil {
						rt.Fatal(err)
					}
					one.revoked = true
				}
			},
			"pass": func(rt *rapid.T) {
				w.pass(time.Duration(rapid.SampledFrom([]int64{1, int64(time.Second), int64(time.Minute), int64(publish), int64(MaxTTL / 2), int64(verify), int64(signFor)}).Draw(rt, "time")))
			},
			"": func(rt *rapid.T) {
				turn++
				for i, one := range all[max(0, len(all)-2):] {
					want := !one.revoked && w.now().Before(one.claims.Expires.Add(Leeway))
					if _, err := servers[(turn+i)%3].Verify(context.Background(), one.text); (err == nil) != want {
						rt.Fatalf("token %d: %v, want alive %v", i, err, want)
					}
				}
			},
		})
	})
}
