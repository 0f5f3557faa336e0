package access

import (
	"fmt"

	"github.com/keyfold/keyfold/internal/fault"
)

// Plan is what an org has bought.
type Plan string

// The plans, least first.
const (
	Free       Plan = "free"
	Pro        Plan = "pro"
	Business   Plan = "business"
	Enterprise Plan = "enterprise"
)

// AllowsCMEK reports whether the plan includes customer-managed keys.
func (p Plan) AllowsCMEK() bool { return p == Business || p == Enterprise }

// Counted is a thing of which a plan admits so many.
type Counted string

// What is counted, in an org.
const (
	Vaults  Counted = "vaults"
	Secrets Counted = "secrets" // paths that have a version that was not deleted
	Agents  Counted = "agents"
)

var limits = map[Plan]map[Counted]int{
	Free:     {Vaults: 3, Secrets: 50, Agents: 2},
	Pro:      {Vaults: 25, Secrets: 500, Agents: 10},
	Business: {Vaults: 100, Secrets: 5000, Agents: 50},
}

// Limit returns how many of c the plan admits. ok is false when there is no
// limit. A plan that is not known has the least.
func (p Plan) Limit(c Counted) (n int, ok bool) {
	if p == Enterprise {
		return 0, false
	}
	of, known := limits[p]
	if !known {
		of = limits[Free]
	}
	return of[c], true
}

// Admit returns nil when the plan admits one more of c where there are count
// already, and otherwise a fault.Forbidden of type resource_limit_exceeded.
func (p Plan) Admit(c Counted, count int) error {
	limit, ok := p.Limit(c)
	if !ok || count < limit {
		return nil
	}
	return fault.New(fault.Forbidden, "%s", fmt.Sprintf("the org has %d of %d %s of the %s plan; delete some, or ask the operator for a greater plan", count, limit, c, p)).
		WithType("resource_limit_exceeded")
}
