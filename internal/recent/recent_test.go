package recent_test

import (
	"testing"

	"github.com/keyfold/keyfold/internal/recent"
)

func TestWhatIsUsedStaysAndTheMapHoldsNoMore(t *testing.T) {
	const keys = 10
	m := recent.NewMap[int, string](keys)
	m.Put(-1, "used")
	for i := range 1000 {
		if v, ok := m.Get(-1); !ok || v != "used" {
			t.Fatalf("after %d others, what was used between them is %q, %t", i, v, ok)
		}
		m.Put(i, "new")
		for j := i; j > i-keys/2+1 && j >= 0; j-- { // with -1 they are the latest half
			if v, ok := m.Get(j); !ok || v != "new" {
				t.Fatalf("after %d, the value of %d is %q, %t", i, j, v, ok)
			}
		}
		if m.Len() > keys {
			t.Fatalf("%d keys are held, and at most %d may", m.Len(), keys)
		}
	}
	if _, ok := m.Get(0); ok {
		t.Error("what was not used for long is held")
	}
}

func TestTheLatestValueCountsAndADeletedKeyIsNotHeld(t *testing.T) {
	m := recent.NewMap[string, int](4)
	for round := range 20 {
		for _, k := range []string{"a", "b", "c"} { // one too many for half, so they move to and fro
			m.Put(k, round)
			if v, ok := m.Get(k); !ok || v != round {
				t.Fatalf("round %d: the value of %s is %d, %t", round, k, v, ok)
			}
		}
		if m.Len() != 3 {
			t.Fatalf("round %d: %d keys are held, want 3", round, m.Len())
		}
	}
	for _, k := range []string{"a", "b", "c"} {
		m.Delete(k)
		if _, ok := m.Get(k); ok {
			t.Errorf("%s is held after its end", k)
		}
	}
	if m.Len() != 0 {
		t.Errorf("%d keys are held of none", m.Len())
	}
}

func TestNothingIsForgottenForAKeyThatIsHeld(t *testing.T) {
	m := recent.NewMap[int, int](4)
	for _, k := range []int{1, 2, 3, 4, 3, 4, 3, 4} {
		m.Put(k, k)
	}
	if m.Len() != 4 {
		t.Errorf("of 4 keys that were used %d are held", m.Len())
	}
}
