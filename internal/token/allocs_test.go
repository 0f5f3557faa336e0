//go:build !race

package token

import (
	"context"
	"testing"
	"time"
)

// The race detector allocates on its own, so this count holds without it.

func TestAVerifiedTokenCostsLittle(t *testing.T) {
	w := newWorld(t)
	s := New(Config{Store: w.store.Store, Now: w.now, Box: w.box, Log: w.log})
	text := w.issue(s, time.Hour)
	w.lives(s, text)
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() { s.Verify(ctx, text) }); n > 3 {
		t.Errorf("%v allocations", n)
	}
}
