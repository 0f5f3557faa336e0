package store_test

import (
	"context"
	"slices"
	"strconv"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

func TestWhatIsKnownIsReadTogether(t *testing.T) {
	s := &storetest.Reads{Store: memstore.New()}
	k := store.NewKnown(s)
	ctx := context.Background()
	if got, keys := k.Ahead(ctx, "a"); got != ctx || keys != nil || s.Told != nil {
		t.Errorf("of nothing known: %q, told %q", keys, s.Told)
	}
	mine := []string{"1", "2"}
	k.Remember("a", mine...)
	mine[0] = "#"
	k.Remember("b", "3")
	k.Remember("b", "4", "5")
	for name, want := range map[string][]string{"a": {"1", "2"}, "b": {"4", "5"}, "c": nil} {
		s.Told = nil
		if _, keys := k.Ahead(ctx, name); !slices.Equal(keys, want) || !slices.Equal(s.Told, want) {
			t.Errorf("of %s: %q, told %q; want %q", name, keys, s.Told, want)
		}
	}

	plain := store.NewKnown(memstore.New())
	plain.Remember("a", "1")
	if got, keys := plain.Ahead(ctx, "a"); got != ctx || keys != nil {
		t.Errorf("of an engine that reads nothing ahead %q are remembered", keys)
	}
}

func TestWhatIsKnownIsForgottenInTheEnd(t *testing.T) {
	k := store.NewKnown(&storetest.Reads{Store: memstore.New()})
	known := func(i int) bool {
		_, keys := k.Ahead(t.Context(), strconv.Itoa(i))
		return keys != nil
	}
	for i := range 20_001 {
		k.Remember(strconv.Itoa(i), "key")
		if !known(i) {
			t.Fatalf("%d is forgotten at once", i)
		}
	}
	n := 0
	for i := range 20_001 {
		if known(i) {
			n++
		}
	}
	if n > 10_000 {
		t.Errorf("%d names are remembered", n)
	}
}
