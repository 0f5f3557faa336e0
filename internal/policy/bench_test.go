package policy

import (
	"fmt"
	"testing"

	"github.com/keyfold/keyfold/internal/access"
)

func BenchmarkRules(b *testing.B) {
	for _, own := range []int{1, 100} {
		b.Run(fmt.Sprint(own), func(b *testing.B) {
			w := newWorld(b)
			for range own {
				w.grantAgent(v1, agentID, "db/**", "read")
			}
			table := NewTable(w.hookStore)
			b.ReportAllocs()
			for b.Loop() {
				if rules, err := table.Rules(b.Context(), v1, access.Agent, agentID); err != nil || len(rules) != own {
					b.Fatal(len(rules), err)
				}
			}
		})
	}
}
