package allinone

import (
	"context"

	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/tally"
	"github.com/keyfold/keyfold/internal/throttle"
)

var tallyKey = sealed.Name{Kind: "tallykey", Owner: "server", ID: "1"}

// limits are cfg's. Where other servers have the store open, they count what those let
// through, too, once begin was called and until the node closes.
func (n *Node) limits(box *sealed.Box, cfg Config) (l httpx.Limits, begin func()) {
	l = cfg.Limits
	if !store.Shared(n.Store) || l.Principal.PerSecond <= 0 && l.Address.PerSecond <= 0 {
		return l, func() {}
	}
	all := tally.New(tally.Config{
		Store: n.Store, Now: cfg.Now, Log: cfg.Log,
		Key: func(ctx context.Context) ([]byte, error) { return siteKey(ctx, n.Store, box, tallyKey) },
	})
	l.Across = func(kind byte, r throttle.Rate) httpx.Limiter { return all.Limiter(kind, r) }
	return l, func() {
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); all.Run(ctx) }()
		n.opened = append(n.opened, func() error { stop(); <-ended; return nil })
	}
}
