package allinone

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// rewrapping is a store in which a job begins to rewrap, once it is armed, before a
// commit of what was sealed.
type rewrapping struct {
	store.Store
	armed, met atomic.Bool
}

func (s *rewrapping) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	for _, row := range []string{layout.SealedKEK(), layout.ThreadKEK()} {
		requires := slices.ContainsFunc(b.Preconditions, func(p store.Precondition) bool { return p.Key == row })
		if !requires || !s.armed.CompareAndSwap(true, false) {
			continue
		}
		s.met.Store(true)
		var begun store.Batch
		begun.Put(row, []byte(`{"kek_version":1}`))
		if _, err := s.Store.Commit(ctx, &begun); err != nil {
			return 0, err
		}
	}
	return s.Store.Commit(ctx, b)
}

// A job that rewraps what a call has just sealed, its answer too, is no error of the call's.
func TestAWriteSucceedsAlthoughARewrapBegins(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	met := 0
	for _, c := range onceCalls {
		t.Run(c.call, func(t *testing.T) {
			r.t = t
			s := &rewrapping{Store: r.copied(c.old)}
			n := r.server(s)
			s.armed.Store(true)
			first := r.call(n, c.call, c.body, "k")
			if s.met.Load() {
				met++
			}
			if again := r.call(n, c.call, c.body, "k"); first.Code != c.status || again.Code != c.status || !c.weak && again.Body.String() != first.Body.String() {
				t.Errorf("%d %s, then %d %s; want %d", first.Code, first.Body, again.Code, again.Body, c.status)
			}
		})
	}
	r.t = t
	if met < 6 {
		t.Errorf("the job met %d calls", met)
	}
}
