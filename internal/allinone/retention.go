package allinone

import (
	"context"
	"time"

	"github.com/keyfold/keyfold/internal/thread"
)

// retain starts a run of retention whenever the last one of any server began so
// long ago, until the node closes. The first time comes at once.
func (n *Node) retain(threads *thread.Service, cfg Config) {
	every := cfg.Retention
	if every == 0 {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for wait := time.Duration(0); ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			var err error
			if wait, err = threads.PurgeEvery(ctx, n.Jobs, every); err != nil {
				wait = min(every, time.Minute)
				cfg.Log.WarnContext(ctx, "retention did not start and is tried again", "error", err)
			}
		}
	}()
	n.opened = append(n.opened, func() error { stop(); <-ended; return nil })
}
