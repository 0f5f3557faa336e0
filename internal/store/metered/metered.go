// Package metered is a store whose calls are measured, and are spans where their
// context is traced. It changes nothing of what they do. Neither keys nor values
// are in what it tells.
package metered

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/tracing"
)

// Store is a store.Store over another one.
type Store struct {
	store.Store
	get, scan, commit operation
}

// New returns s, measured in reg:
//
//	keyfold_store_operation_duration_seconds{operation}  histogram; operation is get, scan or commit
//	keyfold_store_operations_total{operation,outcome}    outcome is ok, not_found, conflict or error
func New(s store.Store, reg prometheus.Registerer) *Store {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "keyfold_store_operation_duration_seconds", Help: "Time of one call of the store.",
		Buckets: []float64{.00001, .00005, .0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1, 5}}, []string{"operation"})
	count := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "keyfold_store_operations_total",
		Help: "Calls of the store. Outcome conflict: another change was faster, and whoever called begins again."}, []string{"operation", "outcome"})
	reg.MustRegister(seconds, count)
	of := func(name string) operation {
		o := operation{span: "store " + name, attrs: []tracing.Attr{tracing.Operation(name)}, seconds: seconds.WithLabelValues(name)}
		for i, outcome := range outcomes {
			o.count[i] = count.WithLabelValues(name, outcome)
		}
		return o
	}
	return &Store{s, of("get"), of("scan"), of("commit")}
}

// What became of a call.
const (
	ok = iota
	notFound
	conflict
	failed
)

var outcomes = [...]string{ok: "ok", notFound: "not_found", conflict: "conflict", failed: "error"}

type operation struct {
	span    string // its name
	attrs   []tracing.Attr
	seconds prometheus.Observer
	count   [len(outcomes)]prometheus.Counter
}

// begin begins a call; what it returns ends it.
func (o *operation) begin(ctx context.Context) (context.Context, tracing.Span, time.Time) {
	ctx, span := tracing.Start(ctx, o.span, o.attrs...)
	return ctx, span, time.Now()
}

func (o *operation) end(span tracing.Span, start time.Time, err error) {
	o.seconds.Observe(time.Since(start).Seconds())
	outcome := outcomeOf(err)
	o.count[outcome].Inc()
	if outcome == notFound { // an answer like others
		err = nil
	}
	span.End(store.Fault(err))
}

func outcomeOf(err error) int {
	switch {
	case err == nil:
		return ok
	case errors.Is(err, store.ErrNotFound):
		return notFound
	case errors.Is(err, store.ErrConflict):
		return conflict
	}
	return failed
}

// Under is store.Over's.
func (s *Store) Under() store.Store { return s.Store }

// Get is the store's.
func (s *Store) Get(ctx context.Context, key string) (store.Record, error) {
	ctx, span, start := s.get.begin(ctx)
	rec, err := s.Store.Get(ctx, key)
	s.get.end(span, start, err)
	return rec, err
}

// Scan is the store's.
func (s *Store) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	ctx, span, start := s.scan.begin(ctx)
	recs, err := s.Store.Scan(ctx, r, opt)
	s.scan.end(span, start, err)
	return recs, err
}

// Commit is the store's.
func (s *Store) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	ctx, span, start := s.commit.begin(ctx)
	rev, err := s.Store.Commit(ctx, b)
	s.commit.end(span, start, err)
	return rev, err
}
