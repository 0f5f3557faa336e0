package access

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
)

func TestPlansHaveTheQuotasOfTheContract(t *testing.T) {
	for plan, want := range map[Plan][3]int{Free: {3, 50, 2}, Pro: {25, 500, 10}, Business: {100, 5000, 50}, "": {3, 50, 2}, "gold": {3, 50, 2}} {
		for i, c := range []Counted{Vaults, Secrets, Agents} {
			if n, ok := plan.Limit(c); n != want[i] || !ok {
				t.Errorf("%s of %q: %d, %v", c, plan, n, ok)
			}
			err := plan.Admit(c, want[i])
			if plan.Admit(c, want[i]-1) != nil || !errors.Is(err, fault.Forbidden) || fault.Of(err).Type != "resource_limit_exceeded" {
				t.Errorf("%s of %q at the limit: %v", c, plan, err)
			}
		}
	}
	if _, ok := Enterprise.Limit(Vaults); ok || Enterprise.Admit(Secrets, 1<<40) != nil {
		t.Error("enterprise has a limit")
	}
	if msg := Pro.Admit(Agents, 12).Error(); !strings.Contains(msg, "12 of 10 agents of the pro plan") {
		t.Error(msg)
	}
}
