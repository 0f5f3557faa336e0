package httpx

import (
	"crypto/sha256"
	"encoding/binary"
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
	// Across makes what counts in the place of this process alone, of a kind 'p' or
	// 'a', where there are other servers. nil: there are none.
	Across func(kind byte, r throttle.Rate) Limiter
}

// Limiter is what a throttle.Limiter is, for keys of which it gets a hash.
type Limiter interface {
	Allow(hash [32]byte) (retryAfter time.Duration, ok bool)
}

type limits struct {
	principals *throttle.Limiter[who]
	addresses  *throttle.Limiter[netip.Addr]

	// Where they are not nil they count, and the two above do not.
	allPrincipals, allAddresses Limiter
}

func newLimits(l Limits, now func() time.Time) (made limits) {
	made.principals, made.allPrincipals = newLimiter[who](l, 'p', l.Principal, now)
	made.addresses, made.allAddresses = newLimiter[netip.Addr](l, 'a', l.Address, now)
	return made
}

func newLimiter[K comparable](l Limits, kind byte, r throttle.Rate, now func() time.Time) (*throttle.Limiter[K], Limiter) {
	if l.Across == nil || r.PerSecond <= 0 {
		return throttle.NewLimiter[K](r, 0, now), nil
	}
	return nil, l.Across(kind, r)
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

// hash is the same on all servers.
func (w who) hash() [32]byte {
	b := make([]byte, 0, 128) // IDs are UUIDs, but for end users
	for _, s := range [...]string{string(w.kind), w.org, w.id} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return sha256.Sum256(b)
}

func (l *limits) principal(p access.Principal) error {
	if l.allPrincipals != nil {
		return verdict(l.allPrincipals.Allow(whoIs(p).hash()))
	}
	return verdict(l.principals.Allow(whoIs(p)))
}

func (l *limits) address(a netip.Addr) error {
	a = network(a)
	if l.allAddresses != nil {
		b := a.As16()
		return verdict(l.allAddresses.Allow(sha256.Sum256(b[:])))
	}
	return verdict(l.addresses.Allow(a))
}

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
