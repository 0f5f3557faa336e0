package thread

import (
	"context"
	"sync"
)

// turns has one at a time do something to a thread, in this process.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // by thread; closed when its turn ends
}

// take waits for the turn on a thread, which lasts until done is called.
func (t *turns) take(ctx context.Context, threadID string) (done func(), err error) {
	for {
		t.mu.Lock()
		before := t.busy[threadID]
		if before == nil {
			break
		}
		t.mu.Unlock()
		select {
		case <-before:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer t.mu.Unlock()
	if t.busy == nil {
		t.busy = map[string]chan struct{}{}
	}
	ended := make(chan struct{})
	t.busy[threadID] = ended
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.busy, threadID)
		close(ended)
	}, nil
}
