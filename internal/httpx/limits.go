package httpx

import (
	"net/netip"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/throttle"
)

// Limits is how often the same caller may call. Over it is 429, with the time
// to wait. The zero Limits are none.
//
// A frontend key is no caller: every visitor of the org's pages has it, and one
// must not use up the calls of the others. There the address counts, and then the
// end user whom the signature proves. A backend key counts as itself, whomever
// it names.
//
// A call without a live credential on a row that needs one counts for nobody:
// refusing it costs as much as counting it, and addresses that bad credentials
// come from are shared with people who have good ones.
type Limits struct {
	Principal throttle.Rate // of calls of one principal
	Address   throttle.Rate // of calls of public rows, and with frontend keys, from one IPv4 address or IPv6 /64
}

type limits struct {
	principals *throttle.Limiter[who]
	addresses  *throttle.Limiter[netip.Addr]
}

func newLimits(l Limits, now func() time.Time) limits {
	return limits{throttle.NewLimiter[who](l.Principal, 0, now), throttle.NewLimiter[netip.Addr](l.Address, 0, now)}
}

// who is a principal as budgets and limits count them: whatever it sent, and
// from where.
type who struct {
	kind    access.Kind
	org, id string
}

func whoIs(p access.Principal) who { return who{p.Kind, p.OrgID, p.ID} }

// visitor reports whether p calls with a frontend key.
func visitor(p access.Principal) bool { return p.Role == access.Frontend }

func (l limits) principal(p access.Principal) error { return verdict(l.principals.Allow(whoIs(p))) }
func (l limits) address(a netip.Addr) error         { return verdict(l.addresses.Allow(network(a))) }

// network is what one client can choose addresses from.
func network(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, _ := a.Prefix(64) // of a valid address with that many bits
	return p.Addr()
}

func verdict(after time.Duration, ok bool) error {
	if ok {
		return nil
	}
	return fault.New(fault.TooMany, "too many calls; wait %d s, then go on more slowly", wholeSeconds(after)).WithRetryAfter(after)
}
