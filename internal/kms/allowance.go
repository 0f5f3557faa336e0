package kms

import (
	"sync"
	"sync/atomic"
)

// allowance counts uses of a key by reservation: before it is used, a block is
// added to the count in the key's row, durably, and then used up in memory. A
// crash or an eviction wastes what is left of the block and never counts a use
// too few.
type allowance struct {
	left atomic.Int64 // reserved and not used
	mu   sync.Mutex   // held while reserving
}

// take uses n of what is reserved, if there is as much.
func (a *allowance) take(n int64) bool {
	for {
		left := a.left.Load()
		if left < n {
			return false
		}
		if a.left.CompareAndSwap(left, left-n) {
			return true
		}
	}
}

// grant returns how much to reserve for n uses beside the one that the row
// itself costs: a block or more, but no more than is left until most; 0 when
// that is not enough.
func grant(n, block, counted, most int64) int64 {
	granted := min(max(block, n+1), most-counted)
	if granted < n+1 {
		return 0
	}
	return granted
}
