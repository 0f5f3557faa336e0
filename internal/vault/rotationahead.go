package vault

import (
	"context"
	"sync"
	"time"
)

// ahead holds, of each rotation that runs here, the batch after the one that is
// being committed: while the store writes one to its disk, the key process works
// on the next. A batch is used once, at the very cursor and with the very session
// that it was made for, or not at all. Its rows are written at the revisions that
// it read, as those of any batch. A cursor does not come again in another drain,
// since passes are counted, so that what a drain finds was read after the closing
// that it belongs to.
type ahead struct {
	mu      sync.Mutex
	batches map[string]*batchAhead // by job
}

// batchAhead is a batch that is made, or was once done is closed.
type batchAhead struct {
	cursor, session string
	done            chan struct{}
	f               find
	err             error
}

// aheadTime is how long a batch may take, and then wait for its use.
const aheadTime = 30 * time.Second

// take returns the batch of a job for its cursor; nil when there is none. Any
// other is dropped.
func (a *ahead) take(ctx context.Context, w reencrypting) *find {
	a.mu.Lock()
	b := a.batches[w.ID]
	delete(a.batches, w.ID)
	a.mu.Unlock()
	if b == nil || b.cursor != w.Cursor || b.session != w.args.Session {
		return nil
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return nil
	}
	if b.err != nil {
		return nil
	}
	return &b.f
}

// make begins the batch that follows cursor, where w is then.
func (a *ahead) make(w reencrypting, cursor string) {
	b := &batchAhead{cursor: cursor, session: w.args.Session, done: make(chan struct{})}
	a.mu.Lock()
	a.batches[w.ID] = b
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), aheadTime)
	go func() {
		defer cancel()
		b.f, b.err = w.gather(ctx)
		close(b.done)
		time.AfterFunc(aheadTime, func() { a.drop(w.ID, b) })
	}()
}

// drop forgets b, if it is still there.
func (a *ahead) drop(id string, b *batchAhead) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.batches[id] == b {
		delete(a.batches, id)
	}
}

// forget drops what was made for a job that has ended.
func (a *ahead) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.batches, id)
}
