package job

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/tracing"
)

// keep is how many finished jobs stay; older ones are pruned.
const keep = 1000

// Config is what a Runner stands on.
type Config struct {
	Store store.Store // stays the caller's to close, after the Runner
	Kinds []Kind      // jobs of other kinds are left to others
	Now   func() time.Time
	Log   *slog.Logger
	// Tracer makes a trace of each batch; nil: none.
	Tracer *tracing.Tracer
	// Busy reports whether others wait for this machine. Then a job rests after
	// each batch for three times as long as the batch took. nil: nobody does.
	Busy func() bool
	// Lease is how long a job stays its holder's after a commit; 0: 15 seconds. Five
	// times in that time jobs are looked through for those that nobody holds, so that
	// the jobs of a process that died are taken up within 18 seconds of its last commit,
	// and later or earlier by as much as the clocks differ.
	Lease time.Duration
	// Holder names this process in leases. A name that is the same after a
	// restart lets Resume take up at once what a crash left; no two running
	// processes on one store may share it. "": a fresh one, so that Resume
	// waits for the old leases to run out.
	Holder string
}

// Runner starts jobs and works on them in the background. Its methods may be
// called by many goroutines, and many Runners may share a store.
type Runner struct {
	store  store.Store
	kinds  map[string]Kind
	now    func() time.Time
	log    *slog.Logger
	tracer *tracing.Tracer
	lease  time.Duration
	holder string
	busy   func() bool
	rest   func(time.Duration) // wait, after failures and for others
	look   time.Duration       // how often Wait looks at a job that another Runner works on

	ctx     context.Context // done once Close was called
	stop    context.CancelFunc
	workers sync.WaitGroup
	watch   sync.Once // starts the periodic Resume

	mu      sync.Mutex
	closed  bool            // no worker may begin
	working map[string]bool // jobs that have a worker here
	next    map[string]held // of these, those to be worked on when it has left
	changed chan struct{}   // closed and replaced whenever a worker ended
}

// New returns a Runner, which works on nothing before Start or Resume.
func New(c Config) *Runner {
	r := &Runner{
		store: c.Store, kinds: map[string]Kind{}, now: c.Now, log: c.Log, tracer: c.Tracer, lease: c.Lease, holder: c.Holder, busy: c.Busy,
		look: 100 * time.Millisecond, working: map[string]bool{}, next: map[string]held{}, changed: make(chan struct{}),
	}
	for _, k := range c.Kinds {
		r.kinds[k.Name] = k
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.lease == 0 {
		r.lease = 15 * time.Second
	}
	if r.holder == "" {
		r.holder = uuid.NewString()
	}
	if r.busy == nil {
		r.busy = func() bool { return false }
	}
	r.rest = r.wait
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Start begins a job. When it answers, the job is on stable storage: it goes on
// in the background, here or with whoever shares the store. args are encoded as
// JSON and readable by anyone who may see jobs. After an error it is not always
// known whether the job was started; List tells. fault.Invalid: no such kind.
func (r *Runner) Start(ctx context.Context, kind string, args any) (Job, error) {
	return r.StartWith(ctx, kind, args, func(string) (store.Batch, error) { return store.Batch{}, nil })
}

// StartWith is Start with rows that are committed together with the job's, which
// has the ID that rows is told. A precondition of theirs that does not hold is
// an error that wraps store.ErrConflict, and nothing was started.
func (r *Runner) StartWith(ctx context.Context, kind string, args any, rows func(id string) (store.Batch, error)) (Job, error) {
	if _, ok := r.kinds[kind]; !ok {
		return Job{}, fault.New(fault.Invalid, "there is no kind of job called %q", kind)
	}
	if r.ctx.Err() != nil {
		return Job{}, errClosed
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return Job{}, fault.Wrap(fault.Internal, err, "the job's arguments do not encode")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Job{}, fault.Wrap(fault.Internal, err, "no ID could be made for the job")
	}
	b, err := rows(id.String())
	if err == nil {
		err = r.prune(ctx, &b)
	}
	if err != nil {
		return Job{}, store.Fault(err)
	}
	var h held
	first := Job{ID: id.String(), Kind: kind, Args: raw, Status: Running, Created: r.now().UTC()}
	if err := r.save(ctx, &h, b, r.mine(row{Job: first})); err != nil {
		return Job{}, store.Fault(err)
	}
	r.begin(h)
	return h.Job, nil
}

// Again lets a job that is interrupted go on where it was, with args in the place
// of those that it has. One that runs goes on with args, wherever it does.
// fault.Conflict: it has ended. fault.NotFound as for Get.
func (r *Runner) Again(ctx context.Context, id string, args any) (Job, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return Job{}, fault.Wrap(fault.Internal, err, "the job's arguments do not encode")
	}
	if r.ctx.Err() != nil {
		return Job{}, errClosed
	}
	var h held
	taken := false
	err = store.Retry(ctx, func() (err error) {
		if h, err = r.load(ctx, id); err != nil {
			return err
		}
		next := h.row
		next.Args = raw
		taken = h.Status == Interrupted // not as an earlier try found it
		switch {
		case h.Status.ended():
			return fault.New(fault.Conflict, "the job has ended as %s; start another", h.Status)
		case taken:
			next.Status, next.Error = Running, ""
			next = r.mine(next)
		}
		return r.save(ctx, &h, store.Batch{}, next)
	})
	if err != nil {
		return Job{}, store.Fault(err)
	}
	if taken {
		r.begin(h)
	}
	return h.Job, nil
}

// prune adds to b that the finished jobs but the newest 1000 are removed. A
// finished job never changes, so it needs no condition.
func (r *Runner) prune(ctx context.Context, b *store.Batch) error {
	finished := 0
	recs, err := r.rows(ctx)
	for _, rec := range recs {
		if h, err := parse(rec); err != nil || !h.Status.ended() {
			continue
		}
		if finished++; finished > keep {
			b.Delete(rec.Key)
		}
	}
	return err
}

// rows reads the rows of all jobs, the newest first.
func (r *Runner) rows(ctx context.Context) ([]store.Record, error) {
	return r.store.Scan(ctx, store.Prefix(layout.Job("")), store.ScanOptions{Reverse: true})
}

// Resume takes up every running job that nobody holds, and does so again every
// fifth part of a lease, until Close. Call it once at the start.
// Its error is the first pass's; a row that does not parse is logged and left.
func (r *Runner) Resume(ctx context.Context) error {
	r.watch.Do(func() {
		r.spawn(func() {
			for tick := time.NewTicker(r.lease / 5); ; {
				select {
				case <-r.ctx.Done():
					tick.Stop()
					return
				case <-tick.C:
				}
				if err := r.resume(r.ctx); err != nil && r.ctx.Err() == nil {
					r.log.Warn("jobs could not be looked through", "error", err)
				}
			}
		})
	})
	return store.Fault(r.resume(ctx))
}

func (r *Runner) resume(ctx context.Context) error {
	recs, err := r.rows(ctx)
	if err != nil {
		return err
	}
	for _, rec := range slices.Backward(recs) { // the oldest first
		h, err := parse(rec)
		if err != nil {
			r.log.Error("a job is left as it is", "key", rec.Key, "error", err)
			continue
		}
		if !r.orphan(h) || r.save(ctx, &h, store.Batch{}, r.mine(h.row)) != nil {
			continue // or somebody else took it up; if not, the next pass sees it
		}
		r.begin(h)
	}
	return nil
}

// orphan reports whether h is ours to take up.
func (r *Runner) orphan(h held) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.kinds[h.Kind]
	return h.Status == Running && known && !r.working[h.ID] &&
		(h.Holder == "" || h.Holder == r.holder || !r.now().Before(h.Until))
}

// begin works on h, which r holds, in the background.
func (r *Runner) begin(h held) {
	r.mu.Lock()
	taken := r.working[h.ID]
	if taken {
		r.next[h.ID] = h // the worker is about to leave
	}
	r.working[h.ID] = true
	r.mu.Unlock()
	if taken {
		return
	}
	if !r.spawn(func() { r.work(h); r.ended(h.ID) }) {
		r.release(h)
	}
}

// spawn runs f in a goroutine that Close waits for; false after Close.
func (r *Runner) spawn(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.workers.Go(f)
	}
	return !r.closed
}

// ended wakes those who wait, and begins again where Again was called meanwhile.
func (r *Runner) ended(id string) {
	r.mu.Lock()
	h, again := r.next[id]
	delete(r.next, id)
	delete(r.working, id)
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	if again {
		r.begin(h)
	}
}

// Close stops all work between two batches, gives back its leases and waits for
// its end. Jobs that were running go on where somebody resumes them.
func (r *Runner) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.workers.Wait()
}
