package pebblestore

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/keyfold/keyfold/internal/cachestat"
	"github.com/keyfold/keyfold/internal/store"
)

// recent keeps small records that were read lately, beside Pebble's own caches:
// a request reads the same few rows again and again (who is it, the vault, the
// thread), and each such read of Pebble costs microseconds.
//
// It is exact, since nobody but this process writes to the directory. A part
// holds records of one stripe of keys, and only a commit that holds the stripe's
// lock changes them:
//
//   - The part is closed before the batch is applied, which drops what the batch
//     writes, and opened after. While it is closed, reads go to Pebble and leave
//     nothing behind.
//   - A read that found nothing here notes the part's count of openings and
//     closings before it reads Pebble, and leaves what it read only if the count
//     is still the same. So it cannot leave what a commit has overwritten.
type recent [stripeCount]part

type part struct {
	count atomic.Uint64 // of closings and openings; odd while closed
	mu    sync.Mutex
	held  map[string]store.Record // guarded by mu; values are never changed

	counts cachestat.Counts // of Get
}

// Cache tells how the cache of records that were read lately does.
func (s *Store) Cache() (all cachestat.Stats) {
	for i := range s.recent {
		p := &s.recent[i]
		p.mu.Lock()
		n := len(p.held)
		p.mu.Unlock()
		all.Add(p.counts.Stats(n))
	}
	return all
}

// What is kept at most: records per part, and bytes of a value. All parts
// together stay under 16 MiB and some for the keys.
const (
	recentRecords = 16
	recentValue   = 2 << 10
)

// get returns the record of key, its value a copy.
func (p *part) get(key string) (store.Record, bool) {
	r, ok := p.peek(key)
	p.counts.Looked(ok)
	if ok {
		r.Value = append([]byte{}, r.Value...)
	}
	return r, ok
}

// peek returns the record of key, whose value must not be changed.
func (p *part) peek(key string) (store.Record, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.held[key]
	return r, ok
}

// leave keeps r, which was read when the count was count.
func (p *part) leave(r store.Record, count uint64) {
	if count%2 != 0 || len(r.Value) > recentValue {
		return
	}
	r.Value = bytes.Clone(r.Value)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count.Load() != count {
		return
	}
	if p.held == nil {
		p.held = make(map[string]store.Record)
	}
	for k := range p.held { // any one makes room
		if len(p.held) < recentRecords {
			break
		}
		delete(p.held, k)
		p.counts.Evicted()
	}
	p.held[r.Key] = r
}

// closeParts closes the parts of the stripes that are claimed for writing, and
// drops the records that are about to be overwritten. openParts opens them.
func (s *Store) closeParts(claims []uint32, writes []store.Write) {
	for _, c := range claims {
		if c&shared == 0 {
			s.recent[c>>1].count.Add(1)
		}
	}
	for _, w := range writes {
		p := &s.recent[s.stripes.number(w.Key)]
		p.mu.Lock()
		delete(p.held, w.Key)
		p.mu.Unlock()
	}
}

func (s *Store) openParts(claims []uint32) {
	for _, c := range claims {
		if c&shared == 0 {
			s.recent[c>>1].count.Add(1)
		}
	}
}
