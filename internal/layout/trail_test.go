package layout

import (
	"strings"
	"testing"
)

func TestAnOrgsTrailIsItsOwn(t *testing.T) {
	for _, c := range [][2]string{{"a", "a:b"}, {"a:", "a"}, {"", "a"}, {"", ":"}, {"a", "a%3A"}} {
		for _, of := range []func(string) string{Trail, TrailPoints, func(org string) string { return TrailOpen(org, "", 0)[:len(TrailOpen(org, "", 0))-16] }} {
			if p, q := of(c[0]), of(c[1]); strings.HasPrefix(p, q) || strings.HasPrefix(q, p) {
				t.Errorf("orgs %q and %q share a range: %q, %q", c[0], c[1], p, q)
			}
		}
	}
}

func TestKeysOfTheTrailAreReadBack(t *testing.T) {
	const chain = "8a1b2c3d4e5f6071"
	for _, org := range []string{"", "o", "a:b/c-%"} {
		key := TrailEvent(org, 1790000000000000001, chain, 7)
		ts, c, seq, ok := ParseTrailEvent(strings.TrimPrefix(key, Trail(org)))
		if !ok || ts != 1790000000000000001 || c != chain || seq != 7 {
			t.Errorf("%s is %d %s %d %v", key, ts, c, seq, ok)
		}
		key = TrailOpen(org, chain, 7)
		if o, c, seq, ok := ParseTrailOpen(key); !ok || o != org || c != chain || seq != 7 {
			t.Errorf("%s is %q %s %d %v", key, o, c, seq, ok)
		}
	}
	for _, bad := range []string{"", "x", "1-" + chain + "-7", "00000000000000000001-" + chain, "00000000000000000001--000000000000007"} {
		if _, _, _, ok := ParseTrailEvent(bad); ok {
			t.Errorf("%q is taken", bad)
		}
		if _, _, _, ok := ParseTrailOpen(TrailOpens() + bad); ok {
			t.Errorf("mark %q is taken", bad)
		}
	}
	if TrailEvent("o", 9, chain, 1) >= TrailEvent("o", 10, chain, 1) || TrailEvent("o", 9, chain, 9) >= TrailEvent("o", 9, chain, 10) || TrailPoint("o", 9) >= TrailPoint("o", 10) {
		t.Error("order as text is not order in time")
	}
}
