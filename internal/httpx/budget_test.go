package httpx

import (
	"errors"
	"strings"
	"testing"

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
	m.large = newBudget(2 * smallBody)
	large := `{"name":"` + strings.Repeat("x", smallBody) + `"}`
	for _, body := range []string{large, large[:len(large)-2], "[" + large, large} { // stored, cut off, no object, stored
		do(m, "POST", "/large", body)
		if left := m.large.left.Load(); left != 2*smallBody {
			t.Errorf("%d bytes of room left of %d", left, 2*smallBody)
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
