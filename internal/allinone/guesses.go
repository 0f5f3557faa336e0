package allinone

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/throttle"
)

// backoff slows down who guesses: in memory, or, where other servers have the store
// open, in its rows, so that who goes from server to server has no more guesses.
func (n *Node) backoff(cfg Config) *throttle.Backoff {
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	if !store.Shared(n.Store) {
		return throttle.NewBackoff(throttle.BackoffConfig{Now: now})
	}
	rows := &guesses{store: n.Store, now: now}
	b := throttle.NewBackoff(throttle.BackoffConfig{Now: now, Rows: rows})
	rows.over = b.Over
	return b
}

// guesses are the rows layout.Guesses of a shared store. A call is bounded by guessTime.
type guesses struct {
	store store.Store
	now   func() time.Time
	over  func(row []byte, now time.Time) bool
}

const (
	guessTime         = 5 * time.Second
	guessesSweepEvery = 8  // a change in so many sweeps
	sweepRows         = 64 // so many rows, from a random one on
)

func (g *guesses) Change(key string, change func(row []byte) []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), guessTime)
	defer cancel()
	sum := sha256.Sum256([]byte(key))
	at := layout.Guesses(hex.EncodeToString(sum[:]))
	err := store.Retry(ctx, func() error {
		rec, err := g.store.Get(ctx, at)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		next := change(rec.Value)
		if string(next) == string(rec.Value) {
			return nil
		}
		var b store.Batch
		b.RequireRevision(at, rec.Revision)
		if next == nil {
			b.Delete(at)
		} else {
			b.Put(at, next)
		}
		_, err = g.store.Commit(ctx, &b)
		return err
	})
	if err == nil && rand.IntN(guessesSweepEvery) == 0 {
		g.sweep(ctx)
	}
	return err
}

// sweep removes rows that say nothing any more, by one commit: none, if one of them has
// changed meanwhile. What it leaves another sweep finds.
func (g *guesses) sweep(ctx context.Context) {
	rows := store.Prefix(layout.Guesses(""))
	rows.Start = layout.Guesses(fmt.Sprintf("%04x", rand.IntN(1<<16)))
	if rand.IntN(4) == 0 {
		rows.Start = layout.Guesses("")
	}
	recs, err := g.store.Scan(ctx, rows, store.ScanOptions{Limit: sweepRows})
	if err != nil {
		return
	}
	var b store.Batch
	for _, rec := range recs {
		if g.over(rec.Value, g.now()) {
			b.RequireRevision(rec.Key, rec.Revision)
			b.Delete(rec.Key)
		}
	}
	if len(b.Writes) > 0 {
		_, _ = g.store.Commit(ctx, &b)
	}
}
