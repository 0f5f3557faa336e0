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

	k.Remember("a")
	s.Told = nil
	if got, keys := k.Ahead(ctx, "a"); got != ctx || keys != nil || s.Told != nil {
		t.Errorf("of what is forgotten: %q, told %q", keys, s.Told)
	}

	plain := store.NewKnown(memstore.New())
	plain.Remember("a", "1")
	if got, keys := plain.Ahead(ctx, "a"); got != ctx || keys != nil {
		t.Errorf("of an engine that reads nothing ahead %q are remembered", keys)
	}
}

func TestWhatIsNotUsedIsForgottenInTheEnd(t *testing.T) {
	k := store.NewKnown(&storetest.Reads{Store: memstore.New()})
	known := func(name string) bool {
		_, keys := k.Ahead(t.Context(), name)
		return keys != nil
	}
	k.Remember("used", "key")
	for i := range 80_001 {
		k.Remember(strconv.Itoa(i), "key")
		if !known(strconv.Itoa(i)) || !known("used") {
			t.Fatalf("after %d names: it is known: %t, and what is used all the while: %t", i+1, known(strconv.Itoa(i)), known("used"))
		}
	}
	n := 0
	for i := range 80_001 {
		if known(strconv.Itoa(i)) {
			n++
		}
	}
	if n > 40_000 {
		t.Errorf("%d names are remembered", n)
	}
}
