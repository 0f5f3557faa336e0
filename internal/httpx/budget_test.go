package httpx

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

func TestLargeBodiesShareABudget(t *testing.T) {
	b := newBudget(3 * smallBody)
	first, err := b.take(2 * smallBody)
	if err != nil || first != 2*smallBody {
		t.Fatalf("take = %d, %v", first, err)
	}
	if _, err := b.take(2 * smallBody); !errors.Is(err, fault.Unavailable) {
		t.Errorf("over the budget: %v", err)
	}
	if n, err := b.take(smallBody); n != 0 || err != nil {
		t.Errorf("a small body took %d, %v", n, err)
	}
	b.give(first)
	if _, err := b.take(3 * smallBody); err != nil {
		t.Errorf("what was given back cannot be taken: %v", err)
	}
}

func TestABodyGivesItsRoomBackHoweverItEnds(t *testing.T) {
	m, _ := testMux(t)
	m.large = newBudget(3 * smallBody)
	large := `{"name":"` + strings.Repeat("x", smallBody) + `"}`
	for _, body := range []string{large, large[:len(large)-2], "[" + large, large} { // stored, cut off, no object, stored
		do(m, "POST", "/large", body)
		if left := m.large.left.Load(); left != 3*smallBody || len(m.shares.of) != 0 {
			t.Errorf("%d bytes of room left of %d", left, 3*smallBody)
		}
	}
	m.large = newBudget(smallBody)
	if w := do(m, "POST", "/large", large); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("no room: %d %v", w.Code, w.Header())
	}
	if w := do(m, "POST", "/things", `{"name":"a"}`); w.Code != 201 {
		t.Errorf("a small body while there is no room: %d", w.Code)
	}
}

func TestNoOrgsLargeBodiesShutOutTheOthers(t *testing.T) {
	m := &Mux{large: newBudget(largeBodies)}
	var all []*Call
	fill := func(org string, n int64) (taken int64) {
		for {
			c := &Call{mux: m, Principal: access.Principal{ID: org, OrgID: org}}
			if err := c.takeRoom(n); errors.Is(err, fault.Unavailable) {
				return taken
			} else if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
			taken += n
		}
	}
	if got := fill("a", 8<<20); got != largeBodies/2 {
		t.Errorf("alone an org has %d bytes", got)
	}
	if got := fill("a", smallBody+1); got != 0 {
		t.Errorf("an org that has its share takes %d more", got)
	}
	for _, org := range []string{"b", "c"} {
		if fill(org, 8<<20) == 0 {
			t.Errorf("%s is shut out", org)
		}
	}
	for _, c := range all {
		c.giveRoom()
	}
	if left := m.large.left.Load(); left != largeBodies || len(m.shares.of) != 0 {
		t.Errorf("%d bytes are left, and %d orgs hold some", left, len(m.shares.of))
	}
}
