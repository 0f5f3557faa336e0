package httpx

import (
	"sync"
	"sync/atomic"

	"github.com/keyfold/keyfold/internal/fault"
)

// Bounds of the memory that bodies and answers under way may take together, in
// bytes. One up to smallBody is not counted: what bounds those is how many
// connections there are.
const (
	smallBody    = 64 << 10
	largeBodies  = 128 << 20
	largeAnswers = 512 << 20
)

// budget is what large bodies may still take. It is refused at once where it is
// used up: a queue would hold connections instead of memory.
type budget struct{ left atomic.Int64 }

func newBudget(bytes int64) *budget {
	b := new(budget)
	b.left.Store(bytes)
	return b
}

var errNoRoom = fault.New(fault.Unavailable, "too many large bodies or answers are under way; try again in a moment, or ask for less")

// take takes room for a body of at most n bytes and returns how much give has
// to give back.
func (b *budget) take(n int64) (int64, error) {
	if n <= smallBody {
		return 0, nil
	}
	if b.left.Add(-n) < 0 {
		b.left.Add(n)
		return 0, errNoRoom
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

// shares are what each org holds of the budget that is everybody's.
type shares struct {
	mu sync.Mutex       // guards of
	of map[string]int64 // bytes by org; those that hold none are not there
}

// take takes room in b for org, which must leave to the others as much as it
// then holds: bodies that never arrive would shut them out.
func (s *shares) take(b *budget, org string, n int64) (int64, error) {
	if n <= smallBody {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[org]+n > b.left.Load()-n {
		return 0, errNoRoom
	}
	n, err := b.take(n)
	if s.of == nil {
		s.of = map[string]int64{}
	}
	s.of[org] += n
	return n, err
}

func (s *shares) give(b *budget, org string, n int64) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.give(n)
	if s.of[org] -= n; s.of[org] <= 0 {
		delete(s.of, org)
	}
}

// takeRoom takes room for a body of at most n bytes: from the caller's budget,
// or from his org's share of everybody's.
func (c *Call) takeRoom(n int64) (err error) {
	if c.mux.budgets == nil {
		c.taken, err = c.mux.shares.take(c.mux.large, c.Principal.OrgID, n)
		return err
	}
	if n > smallBody {
		c.budget = c.mux.budgets.get(whoIs(c.Principal))
		c.taken, err = c.budget.take(n)
	}
	return err
}

// giveRoom gives back what takeRoom took.
func (c *Call) giveRoom() {
	if c.budget != nil {
		c.budget.give(c.taken)
		return
	}
	c.mux.shares.give(c.mux.large, c.Principal.OrgID, c.taken)
}

// roomFor takes room for n bytes that the client has yet to read, from his org's
// share, until give is called.
func (c *Call) roomFor(n int64) (give func(), err error) {
	org := c.Principal.OrgID
	room, err := c.mux.answers.take(c.mux.unread, org, n)
	return func() { c.mux.answers.give(c.mux.unread, org, room) }, err
}
