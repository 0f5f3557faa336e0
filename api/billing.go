package api

import "time"

// ProblemResourceLimitExceeded is the problem type of 403 where the org's plan
// admits no more vaults, secrets or agents. Its title is "Resource Limit
// Exceeded".
const ProblemResourceLimitExceeded = "resource_limit_exceeded"

// Subscription is the body of GET /v1/billing/subscription: the org's plan and
// what it has used of it.
type Subscription struct {
	Tier      string     `json:"tier"`       // free, pro, business or enterprise
	Interval  string     `json:"interval"`   // "none": Keyfold sells nothing
	PeriodEnd *time.Time `json:"period_end"` // when the tier ends; null: it does not
	Status    string     `json:"status"`     // "active"
	Usage     PlanUsage  `json:"usage"`
}

// PlanUsage is part of Subscription.
type PlanUsage struct {
	Vaults  Used `json:"vaults"`
	Secrets Used `json:"secrets"`
	Agents  Used `json:"agents"`
}

// Used is how much there is of a thing and how much the plan admits.
type Used struct {
	Used  int  `json:"used"`
	Limit *int `json:"limit"` // null: no limit
}

// BillingUsage is the body of GET /v1/billing/usage. Keyfold charges for no
// request and counts none here, so that all numbers are 0.
type BillingUsage struct {
	BillingTier   string       `json:"billing_tier"`
	FreeTierLimit int          `json:"free_tier_limit"`
	CurrentMonth  BillingMonth `json:"current_month"`
}

// BillingMonth is part of BillingUsage.
type BillingMonth struct {
	TotalRequests int `json:"total_requests"`
	PaidRequests  int `json:"paid_requests"`
	FreeRequests  int `json:"free_requests"`
	TotalCostUSD  int `json:"total_cost_usd"`
}

// SetBillingTier is the body of PUT /v1/admin/orgs/{org}/billing-tier, which is
// an operator's.
type SetBillingTier struct {
	Tier         string `json:"tier"`                   // free, pro, business or enterprise
	DurationDays *int   `json:"duration_days,omitzero"` // 1 to 36500; absent: for good
}

// BillingTier is the answer to SetBillingTier.
type BillingTier struct {
	OrgID     string     `json:"org_id"`
	Tier      string     `json:"tier"`
	ExpiresAt *time.Time `json:"expires_at"` // null: never
}
