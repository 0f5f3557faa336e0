// Package trail keeps the audit trail of every org in the server's store: who
// did what to what, from where, when, and with what outcome.
//
// It owns the rows of package layout's trail. An event's row is its encoding, as
// package auditcheck has it, and a MAC of its hash (32 bytes, HMAC-SHA256). Each
// process has one hash chain per org; every minute, and at Close, it signs a
// checkpoint of each chain that moved. MAC and signing key lie in a sealed row
// (kind "trailkey"), so whoever has the store alone makes neither.
//
// What survives. Record returns nil once its event is on stable storage; events
// that wait at the same time share a commit, and a commit that fails, fails all
// of them. What a failed commit left is not known, so the orgs in it begin new
// chains, as they do in a new process: a chain never forks and has no hole. The
// commit of a chain's first event that no checkpoint names puts a mark, and the
// checkpoint removes it. A mark that grows old is of a process that died, of a
// commit that failed or of an org that made room for others; any process signs
// what is there of its chain.
//
// What it does not trust is the store. Who can write to it cannot change, add,
// move or reorder an event unseen. He can cut off: the events after the last
// checkpoint, and the last checkpoints with the events under them. The second
// shows to whoever saved a checkpoint (auditcheck.Options.Saved), and to a
// process that still runs when the next is signed. Who has the keys as well, as
// the operator of the KMS and the server together do, can write any history;
// against him too there are saved checkpoints.
//
// Events hold no values: texts are short (see MaxText), and Record refuses others.
package trail

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
)

// Config says what a Trail works with.
type Config struct {
	Store store.Store
	Box   *sealed.Box
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: slog.Default
	Every time.Duration    // between checkpoints; 0: a minute; less: none but those that are asked for
	Heads int              // orgs whose chain goes on; 0: 65536. Others begin new ones
}

// Trail records events. It may be used by many goroutines, and many processes may
// share a store.
type Trail struct {
	store store.Store
	box   *sealed.Box
	now   func() time.Time
	log   *slog.Logger
	every time.Duration
	most  int
	ring  atomic.Pointer[ring] // nil: not yet read

	mu         sync.Mutex // guards what waits
	waiting    []*group
	committing bool
	committed  int       // events in the commit that is under way
	stored     time.Time // the last commit's end
	failed     uint64    // events that were not stored
	closed     bool
	committer  sync.WaitGroup

	write sync.Mutex       // held by a commit, and over all below
	heads map[string]*head // of this process, by org
	last  int64            // the time of the last event
	moved map[string]*head // of the commit under way

	pointing sync.Mutex // one round of checkpoints at a time
	quit     context.CancelFunc
	stopped  chan struct{}
}

var _ access.Recorder = (*Trail)(nil)

// Open returns a Trail and begins to sign checkpoints. While the KMS is away and
// the keys were not yet read, events are refused with fault.Unavailable; that is
// no error of Open. It fails with fault.Damaged when the keys do not open, or are
// missing though there are events.
func Open(ctx context.Context, c Config) (*Trail, error) {
	t := &Trail{store: c.Store, box: c.Box, now: c.Now, log: c.Log, every: c.Every, most: c.Heads, heads: map[string]*head{}, moved: map[string]*head{}, stopped: make(chan struct{})}
	if t.now == nil {
		t.now = time.Now
	}
	if t.log == nil {
		t.log = slog.Default()
	}
	if t.every == 0 {
		t.every = time.Minute
	}
	if t.most == 0 {
		t.most = 1 << 16
	}
	if _, err := t.keys(ctx); err != nil && !errors.Is(err, fault.Unavailable) {
		return nil, err
	}
	ctx, t.quit = context.WithCancel(context.Background())
	go t.run(ctx)
	return t, nil
}

// run signs checkpoints until Close.
func (t *Trail) run(ctx context.Context) {
	defer close(t.stopped)
	if t.every < 0 {
		return
	}
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			round, cancel := context.WithTimeout(ctx, roundTime)
			err := t.Checkpoint(round)
			if cancel(); err != nil && ctx.Err() == nil {
				t.log.Error("checkpoints of the audit trail are not all signed; they are tried again", "error", err, "cause", errors.Unwrap(fault.Of(err)))
			}
		case <-ctx.Done():
			return
		}
	}
}

// Bounds of the checkpoints of a tick, and of the last ones.
const (
	roundTime = 10 * time.Minute
	closeTime = 20 * time.Second
)

// Close waits for events under way, signs the last checkpoints and wipes the
// keys. Later events are refused.
func (t *Trail) Close() error {
	t.mu.Lock()
	again := t.closed
	t.closed = true
	t.mu.Unlock()
	t.quit()
	<-t.stopped
	t.committer.Wait()
	if again || t.ring.Load() == nil { // nothing was recorded without keys
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	err := t.Checkpoint(ctx)
	if r := t.ring.Swap(nil); r != nil {
		r.wipe()
	}
	return err
}
