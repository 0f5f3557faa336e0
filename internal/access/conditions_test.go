package access

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

func TestAnAddressIsInTheList(t *testing.T) {
	for _, c := range []struct {
		list, addr string
		in         bool
	}{
		{`["10.0.0.0/8"]`, "10.255.0.1", true},
		{`["10.0.0.0/8"]`, "11.0.0.1", false},
		{`["10.0.0.0/8"]`, "::ffff:10.1.1.1", true},
		{`["::ffff:10.0.0.0/104"]`, "10.1.1.1", true},
		{`["::ffff:10.0.0.0/104"]`, "::ffff:11.1.1.1", false},
		{`["::ffff:10.1.1.1"]`, "10.1.1.1", true},
		{`["10.1.1.1"]`, "::ffff:10.1.1.1", true},
		{`["10.1.1.1"]`, "10.1.1.2", false},
		{`["2001:db8::/32"]`, "2001:db8:1::1", true},
		{`["2001:db8::/32"]`, "2001:db9::1", false},
		{`["::/0"]`, "10.1.1.1", false},
		{`["0.0.0.0/0"]`, "2001:db8::1", false},
		{`["fe80::/10"]`, "fe80::1%eth0", true},
		{`["10.1.1.9/24"]`, "10.1.1.1", true},
		{`["192.0.2.1","10.0.0.0/8"]`, "10.1.1.1", true},
	} {
		cond, err := parseConditions([]byte(`{"ip_allowlist":` + c.list + `}`))
		if err != nil {
			t.Errorf("%s: %v", c.list, err)
		}
		if met, known := cond.hold(Principal{Addr: netip.MustParseAddr(c.addr)}, noon); met != c.in || !known {
			t.Errorf("%s in %s: %v, %v", c.addr, c.list, met, known)
		}
	}
}

func TestATimeIsInTheWindow(t *testing.T) {
	const berlin = `"timezone":"Europe/Berlin"`
	for _, c := range []struct {
		window, at string
		in         bool
	}{
		{`"after":"09:00","before":"17:00"`, "2030-01-02T09:00:00Z", true},
		{`"after":"09:00","before":"17:00"`, "2030-01-02T08:59:59Z", false},
		{`"after":"09:00","before":"17:00"`, "2030-01-02T16:59:59Z", true},
		{`"after":"09:00","before":"17:00"`, "2030-01-02T17:00:00Z", false},
		{`"after":"09:00"`, "2030-01-02T23:59:59Z", true},
		{`"after":"09:00"`, "2030-01-02T08:59:59Z", false},
		{`"before":"09:00"`, "2030-01-02T00:00:00Z", true},
		{`"before":"09:00"`, "2030-01-02T09:00:00Z", false},
		{`"after":"18:00","before":"00:00"`, "2030-01-02T23:59:59Z", true},
		{`"after":"18:00","before":"00:00"`, "2030-01-03T00:00:00Z", false},
		// over midnight, and the day is the one on which it began
		{`"after":"22:00","before":"06:00"`, "2030-01-02T22:00:00Z", true},
		{`"after":"22:00","before":"06:00"`, "2030-01-02T05:59:59Z", true},
		{`"after":"22:00","before":"06:00"`, "2030-01-02T06:00:00Z", false},
		{`"after":"22:00","before":"06:00","weekdays":["Friday"]`, "2030-01-04T23:00:00Z", true},       // Friday
		{`"after":"22:00","before":"06:00","weekdays":["fri"]`, "2030-01-05T05:00:00Z", true},          // Saturday
		{`"after":"22:00","before":"06:00","weekdays":["fri"]`, "2030-01-04T05:00:00Z", false},         // began on Thursday
		{`"after":"22:00","before":"06:00","weekdays":["fri"]`, "2030-01-05T23:00:00Z", false},         // Saturday
		{`"after":"22:00","before":"06:00","weekdays":["sat"]`, "2030-01-06T05:00:00Z", true},          // Sunday
		{`"weekdays":["MON","wed"]`, "2030-01-02T12:00:00Z", true},                                     // Wednesday
		{`"weekdays":["mon"]`, "2030-01-02T12:00:00Z", false},                                          // Wednesday
		{`"weekdays":["thu"],"timezone":"Pacific/Auckland"`, "2030-01-02T12:00:00Z", true},             // Thursday there
		{`"after":"09:00","before":"17:00",` + berlin, "2030-01-02T08:00:00Z", true},                   // UTC+1
		{`"after":"09:00","before":"17:00",` + berlin, "2030-07-02T07:00:00Z", true},                   // UTC+2
		{`"after":"09:00","before":"17:00",` + berlin, "2030-07-02T06:59:59Z", false},                  // UTC+2
		{`"after":"02:00","before":"03:00",` + berlin, "2030-10-27T00:30:00Z", true},                   // 02:30, the first time
		{`"after":"02:00","before":"03:00",` + berlin, "2030-10-27T01:30:00Z", true},                   // 02:30, again
		{`"after":"02:00","before":"03:00",` + berlin, "2030-10-27T02:00:00Z", false},                  // 03:00
		{`"after":"02:00","before":"03:00",` + berlin, "2030-03-31T00:59:59Z", false},                  // 01:59, and then
		{`"after":"02:00","before":"03:00",` + berlin, "2030-03-31T01:00:00Z", false},                  // 03:00
		{`"after":"22:00","before":"03:00","timezone":"Asia/Kathmandu"`, "2030-01-02T16:15:00Z", true}, // 22:00, UTC+5:45
	} {
		cond, err := parseConditions([]byte(`{"time_window":{` + c.window + `}}`))
		if err != nil {
			t.Errorf("%s: %v", c.window, err)
			continue
		}
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if met, known := cond.hold(Principal{}, at); met != c.in || !known {
			t.Errorf("%s in %s: %v, %v", c.at, c.window, met, known)
		}
	}
}

func TestMalformedConditionsAreRefusedAndHoldForNobody(t *testing.T) {
	p := Principal{Kind: User, ID: "p", OrgID: "o", Addr: netip.MustParseAddr("10.1.1.1")}
	r := Resource{OrgID: "o", OwnerID: "q", VaultID: "v", Path: "x"}
	allow := Rule{Pattern: "**", Permissions: Permissions}
	for _, raw := range []string{
		"{", "[]", "null", "1", `""`, `{"a":1,"a":1}`, `{"":1}`,
		`{"ip_allowlist":["10.0.0.0/8"],"ip_allowlist":["0.0.0.0/0"]}`,
		`{"IP_ALLOWLIST":["10.0.0.0/8"]}`, `{"ip_allowlist":null}`, `{"ip_allowlist":[]}`, `{"ip_allowlist":"10.0.0.0/8"}`, `{"ip_allowlist":[1]}`,
		`{"ip_allowlist":["10.0.0.0/8",""]}`, `{"ip_allowlist":["10.0.0.0/33"]}`, `{"ip_allowlist":["10.0.0.0/-1"]}`, `{"ip_allowlist":["10.0.0"]}`, `{"ip_allowlist":["010.0.0.1"]}`,
		`{"ip_allowlist":["fe80::1%eth0"]}`, `{"ip_allowlist":["::ffff:0.0.0.0/90"]}`, `{"ip_allowlist":["localhost"]}`, `{"ip_allowlist":["10.0.0.0-10.0.0.9"]}`,
		`{"environment_in":[]}`, `{"environment_in":"production"}`, `{"environment_in":null}`,
		`{"moon":"full"}`, `{"ip_allowlist":["0.0.0.0/0"],"moon":"full"}`,
		`{"time_window":null}`, `{"time_window":{}}`, `{"time_window":[]}`, `{"time_window":"09:00-17:00"}`, `{"time_window":{"timezone":"UTC"}}`,
		`{"time_window":{"after":"9:00"}}`, `{"time_window":{"after":"24:00"}}`, `{"time_window":{"before":"24:00"}}`, `{"time_window":{"after":"09:60"}}`, `{"time_window":{"after":"09:00:00"}}`,
		`{"time_window":{"after":""}}`, `{"time_window":{"after":9}}`, `{"time_window":{"after":"-9:00"}}`, `{"time_window":{"after":"09:00","before":"09:00"}}`, `{"time_window":{"before":"00:00"}}`,
		`{"time_window":{"after":"09:00","timezone":""}}`, `{"time_window":{"after":"09:00","timezone":"Local"}}`, `{"time_window":{"after":"09:00","timezone":"Mars/Base"}}`,
		`{"time_window":{"after":"09:00","timezone":"Europe//Berlin"}}`, `{"time_window":{"after":"09:00","timezone":"./Europe/Berlin"}}`,
		`{"time_window":{"after":"09:00","timezone":"../../etc/passwd"}}`, `{"time_window":{"after":"09:00","timezone":"/etc/localtime"}}`,
		`{"time_window":{"weekdays":[]}}`, `{"time_window":{"weekdays":["noday"]}}`, `{"time_window":{"weekdays":[1]}}`, `{"time_window":{"weekdays":"mon"}}`,
		`{"time_window":{"after":"09:00","cron_expr":"* * * * *"}}`, `{"time_window":{"after":"09:00","after":"10:00"}}`,
	} {
		err := CheckConditions([]byte(raw))
		if !errors.Is(err, fault.Invalid) || len(err.Error()) < 20 || strings.Contains(err.Error(), "%!") {
			t.Errorf("%s is taken, or the message does not help: %v", raw, err)
		}
		rule := allow
		rule.Conditions = []byte(raw)
		if err := Allow(p, SecretRead, r, []Rule{rule}, noon); !errors.Is(err, fault.Forbidden) {
			t.Errorf("%s holds: %v", raw, err)
		}
		rule.Deny = true
		if err := Allow(p, SecretRead, r, []Rule{allow, rule}, noon); !errors.Is(err, fault.Forbidden) {
			t.Errorf("a deny with %s does not count: %v", raw, err)
		}
	}
	if err := CheckConditions([]byte(`{"ip_allowlist":["10.0.0.1"` + strings.Repeat(`,"10.0.0.1"`, 400) + `]}`)); !errors.Is(err, fault.Invalid) {
		t.Errorf("a very long list is taken: %v", err)
	}
}

func TestAllConditionsMustHold(t *testing.T) {
	c, err := parseConditions([]byte(`{"ip_allowlist":["10.0.0.0/8"],"time_window":{"after":"09:00"}}`))
	if err != nil {
		t.Fatal(err)
	}
	in, out := Principal{Addr: netip.MustParseAddr("10.1.1.1")}, Principal{Addr: netip.MustParseAddr("11.1.1.1")}
	for _, x := range []struct {
		p    Principal
		at   time.Time
		want bool
	}{{in, noon, true}, {out, noon, false}, {in, noon.Add(-6 * time.Hour), false}, {out, noon.Add(-6 * time.Hour), false}} {
		if met, known := c.hold(x.p, x.at); met != x.want || !known {
			t.Errorf("%v at %v: %v, %v", x.p.Addr, x.at, met, known)
		}
	}
}
