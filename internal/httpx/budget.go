package httpx

import (
	"sync"
	"sync/atomic"

	"github.com/keyfold/keyfold/internal/fault"
)

// Bounds of the memory that bodies under way may take together, in bytes. A
// body up to smallBody is not counted: what bounds those is how many
// connections there are.
const (
	smallBody   = 64 << 10
	largeBodies = 128 << 20
)

// budget is what large bodies may still take. It is refused at once where it is
// used up: a queue would hold connections instead of memory.
type budget struct{ left atomic.Int64 }

func newBudget(bytes int64) *budget {
	b := new(budget)
	b.left.Store(bytes)
	return b
}

// take takes room for a body of at most n bytes and returns how much give has
// to give back.
func (b *budget) take(n int64) (int64, error) {
	if n <= smallBody {
		return 0, nil
	}
	if b.left.Add(-n) < 0 {
		b.left.Add(n)
		return 0, fault.New(fault.Unavailable, "too many large bodies are under way; try again in a moment")
	}
	return n, nil
}

func (b *budget) give(n int64) { b.left.Add(n) }

// budgets is a budget per principal.
type budgets struct{ of sync.Map } // who to *budget

func (b *budgets) get(w who) *budget {
	if found, ok := b.of.Load(w); ok {
		return found.(*budget)
	}
	found, _ := b.of.LoadOrStore(w, newBudget(largeBodies))
	return found.(*budget)
}

// takeRoom takes room for a body of at most n bytes from the caller's budget.
func (c *Call) takeRoom(n int64) (err error) {
	c.budget = c.mux.large
	if c.mux.budgets != nil && n > smallBody {
		c.budget = c.mux.budgets.get(whoIs(c.Principal))
	}
	c.taken, err = c.budget.take(n)
	return err
}
