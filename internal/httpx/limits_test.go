package httpx

import (
	"context"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/throttle"
)

// limited is a Mux of rows() whose callers are users named by their bearer, and
// its clock.
func limited(l Limits) (*Mux, *time.Time) {
	now := time.Unix(1_790_000_000, 0)
	return New(Config{
		Rows: rows(),
		Authenticate: func(_ context.Context, bearer string) (access.Principal, error) {
			if bearer == "bad" {
				return access.Principal{}, errMethod
			}
			return access.Principal{Kind: access.User, ID: bearer, OrgID: "o", Credential: bearer}, nil
		},
		Proxies: Proxies{Trusted: prefixes("192.0.2.0/24")}, // where httptest's requests come from
		Limits:  l,
		Now:     func() time.Time { return now },
	}), &now
}

func TestAPrincipalOverItsLimitWaitsAndNobodyElseDoes(t *testing.T) {
	m, now := limited(Limits{Principal: throttle.Rate{PerSecond: 0.4, Burst: 2}})
	call := func(bearer, addr string) int {
		return do(m, "GET", "/things", "", "Authorization", "Bearer "+bearer, "X-Forwarded-For", addr).Code
	}
	for _, addr := range []string{"203.0.113.1", "203.0.113.2"} {
		if code := call("a", addr); code != 200 {
			t.Fatal(code)
		}
	}
	w := do(m, "POST", "/things", `{"name":"a"}`, "Authorization", "Bearer a")
	checkProblem(t, w, http.StatusTooManyRequests, "wait 3 s")
	if w.Header().Get("Retry-After") != "3" { // 2.5 s
		t.Errorf("Retry-After is %q", w.Header().Get("Retry-After"))
	}
	if call("b", "203.0.113.1") != 200 {
		t.Error("another principal at the same address waits")
	}
	if do(m, "GET", "/open", "").Code != 200 {
		t.Error("a public row waits")
	}
	if *now = now.Add(3 * time.Second); call("a", "203.0.113.1") != 200 {
		t.Error("who waited as told waits again")
	}
}

func TestAnAddressOverItsLimitWaitsOnPublicRowsAlone(t *testing.T) {
	m, now := limited(Limits{Address: throttle.Rate{PerSecond: 1, Burst: 2}})
	open := func(addr string) int { return do(m, "GET", "/open", "", "X-Forwarded-For", addr).Code }
	for _, c := range []struct {
		addr string
		want int
	}{
		{"203.0.113.1", 200}, {"203.0.113.1", 200}, {"203.0.113.1", 429}, {"203.0.113.2", 200},
		{"2001:db8::1", 200}, {"2001:db8::2", 200}, {"2001:db8::3:4", 429}, {"2001:db8:0:1::1", 200}, // a /64 is one client
	} {
		if got := open(c.addr); got != c.want {
			t.Errorf("%s: %d, want %d", c.addr, got, c.want)
		}
	}
	if w := do(m, "GET", "/open", "", "X-Forwarded-For", "203.0.113.1"); w.Header().Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q", w.Header().Get("Retry-After"))
	}
	for range 10 { // neither good credentials nor bad ones
		if do(m, "GET", "/things", "", "X-Forwarded-For", "203.0.113.1").Code != 200 {
			t.Fatal("a private row waits")
		}
		do(m, "GET", "/things", "", "X-Forwarded-For", "203.0.113.9", "Authorization", "Bearer bad")
	}
	if *now = now.Add(time.Second); open("203.0.113.1") != 200 || open("203.0.113.9") != 200 {
		t.Error("refused")
	}
}

// Whoever opens a page has its frontend key.
func TestOneVisitorDoesNotUseUpTheCallsOfTheOthers(t *testing.T) {
	m := New(Config{
		Rows: keyRows(),
		Authenticate: func(_ context.Context, bearer string) (access.Principal, error) {
			return access.Principal{Kind: access.OrgKey, ID: "k", OrgID: "o", Role: access.Role(bearer)}, nil
		},
		EndUsers: func(_ context.Context, key access.Principal, user, signature, _ string) (access.Principal, error) {
			if key.Role == access.Frontend && signature != "right" {
				return access.Principal{}, fault.New(fault.Unauthenticated, "the signature is wrong")
			}
			return access.Principal{Kind: access.EndUser, ID: user, OrgID: "o", Role: key.Role}, nil
		},
		Proxies: Proxies{Trusted: prefixes("192.0.2.0/24")},
		Limits:  Limits{Principal: throttle.Rate{PerSecond: 1, Burst: 3}, Address: throttle.Rate{PerSecond: 1, Burst: 2}},
		Now:     func() time.Time { return time.Unix(1_790_000_000, 0) },
	})
	for i, c := range []struct {
		role, user, signature, addr string
		want                        int
	}{
		{"frontend", "a", "wrong", "203.0.113.1", 401}, {"frontend", "a", "wrong", "203.0.113.1", 401}, {"frontend", "a", "wrong", "203.0.113.1", 429},
		{"frontend", "b", "right", "203.0.113.2", 200}, {"frontend", "b", "right", "203.0.113.2", 200},
		{"frontend", "b", "right", "203.0.113.3", 200}, {"frontend", "b", "right", "203.0.113.4", 429}, {"frontend", "c", "right", "203.0.113.4", 200},
		{"backend", "c", "", "203.0.113.1", 200}, {"backend", "d", "", "203.0.113.1", 200}, {"backend", "d", "", "203.0.113.1", 200}, {"backend", "e", "", "203.0.113.9", 429},
	} {
		w := do(m, "GET", "/threads", "", "Authorization", "Bearer "+c.role, "X-User-ID", c.user, "X-User-Signature", c.signature, "X-Forwarded-For", c.addr)
		if w.Code != c.want {
			t.Errorf("call %d, %+v: %d", i, c, w.Code)
		}
	}
}

// heard notes which hashes each kind was asked about.
type heard map[[32]byte]byte

type kindOf struct {
	of   heard
	kind byte
}

func (k kindOf) Allow(hash [32]byte) (time.Duration, bool) {
	k.of[hash] = k.kind
	return time.Second, false
}

// Limits across servers are asked in the place of one's own, about each principal and
// each address apart.
func TestLimitsAcrossServersCountInsteadOfOnesOwn(t *testing.T) {
	asked := heard{}
	l := newLimits(Limits{
		Principal: throttle.Rate{PerSecond: 1}, Address: throttle.Rate{PerSecond: 1},
		Across: func(kind byte, _ throttle.Rate) Limiter { return kindOf{asked, kind} },
	}, nil)
	for i, p := range []access.Principal{{Kind: access.User, OrgID: "o", ID: "u"}, {Kind: access.Agent, OrgID: "o", ID: "u"}, {Kind: access.User, OrgID: "ou"}, {Kind: access.User, OrgID: "o", ID: "u", Addr: netip.MustParseAddr("::1")}} {
		if err := l.principal(p); err == nil {
			t.Error("a principal that is over is let through")
		}
		if want := min(i+1, 3); len(asked) != want { // the last one is the first
			t.Errorf("%d principals, want %d", len(asked), want)
		}
	}
	for i, a := range []string{"203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8:0:1::1", "2001:db8::2"} {
		if err := l.address(netip.MustParseAddr(a)); err == nil {
			t.Error("an address that is over is let through")
		}
		if want := 3 + min(i+1, 4); len(asked) != want {
			t.Errorf("%d hashes, want %d", len(asked), want)
		}
	}
	if none := newLimits(Limits{Across: func(byte, throttle.Rate) Limiter { return kindOf{asked, 'x'} }}, nil); none.principal(access.Principal{}) != nil {
		t.Error("no limit is one")
	}
}

func TestLimitsAcrossServersCostNoAllocation(t *testing.T) {
	l := newLimits(Limits{Principal: throttle.Rate{PerSecond: 1}, Address: throttle.Rate{PerSecond: 1}, Across: func(byte, throttle.Rate) Limiter { return everybody{} }}, nil)
	p := access.Principal{Kind: access.User, ID: "6f1c2d1e-8a53-4d0a-9a0e-0d3f6d0b6f11", OrgID: "6f1c2d1e-8a53-4d0a-9a0e-0d3f6d0b6f11"}
	six := netip.MustParseAddr("2001:db8::7")
	if n := testing.AllocsPerRun(100, func() { _, _ = l.principal(p), l.address(six) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type everybody struct{}

func (everybody) Allow([32]byte) (time.Duration, bool) { return 0, true }

func TestLimitsCostNoAllocation(t *testing.T) {
	l := newLimits(Limits{Principal: throttle.Rate{PerSecond: 1e9, Burst: 1 << 30}, Address: throttle.Rate{PerSecond: 1e9, Burst: 1 << 30}}, nil)
	p := access.Principal{Kind: access.User, ID: "u", OrgID: "o"}
	six := netip.MustParseAddr("2001:db8::7")
	if n := testing.AllocsPerRun(100, func() { _, _ = l.principal(p), l.address(six) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
