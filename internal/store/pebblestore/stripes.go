package pebblestore

import (
	"hash/maphash"
	"slices"
	"sync"

	"github.com/keyfold/keyfold/internal/store"
)

// stripes are the locks that make a check of preconditions and the write that
// follows one step. A key belongs to one stripe, by its hash.
//
// A batch takes the stripes of all its keys, in order, so that no two batches
// wait for each other: exclusively where it writes, shared where it only
// requires. Each half of that is needed:
//
//   - A write takes its lock even if it requires nothing. Without it, it could
//     slip between another batch's check and write of the same key, and be
//     overwritten by a batch whose precondition no longer holds.
//   - A requirement takes its lock even if the key is not written. Without it,
//     two batches that each require the other's key unchanged could both pass.
//
// They are held over the check and the application in memory, some
// microseconds, and never over the wait for the disk.
type stripes struct {
	seed  maphash.Seed
	locks [stripeCount]sync.RWMutex
}

const stripeCount = 512

func newStripes() *stripes { return &stripes{seed: maphash.MakeSeed()} }

// A claim is a stripe number, shifted left, and in the lowest bit 1 if the claim
// is a shared one. Sorted, the exclusive claim on a stripe comes first.
const shared = 1

// of appends the claims of b to buf, sorted, one for each stripe.
func (s *stripes) of(buf []uint32, b *store.Batch) []uint32 {
	for _, w := range b.Writes {
		buf = append(buf, s.number(w.Key)<<1)
	}
	for _, p := range b.Preconditions {
		buf = append(buf, s.number(p.Key)<<1|shared)
	}
	if len(buf) < 2 {
		return buf
	}
	slices.Sort(buf)
	return slices.CompactFunc(buf, func(a, b uint32) bool { return a>>1 == b>>1 })
}

func (s *stripes) number(key string) uint32 {
	return uint32(maphash.String(s.seed, key) % stripeCount)
}

func (s *stripes) lock(claims []uint32) []uint32 {
	for _, c := range claims {
		if c&shared != 0 {
			s.locks[c>>1].RLock()
		} else {
			s.locks[c>>1].Lock()
		}
	}
	return claims
}

func (s *stripes) unlock(claims []uint32) {
	for _, c := range claims {
		if c&shared != 0 {
			s.locks[c>>1].RUnlock()
		} else {
			s.locks[c>>1].Unlock()
		}
	}
}
