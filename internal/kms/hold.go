package kms

import (
	"context"
	"sync"
)

// loaders is how many DEKs of one batch are read from the store at a time.
const loaders = 32

// holding is the DEKs of one batch, one held per item; items of one key ID
// share theirs.
type holding struct {
	item []*held
	all  []*held
	deks *cache[*dek]
	use  use
}

type held struct {
	keyID string
	items int64
	seals int64       // so many are taken
	slot  *slot[*dek] // may be set beside err
	err   error
}

// hold takes the DEKs of n items for one use and, for useEncrypt, a seal of its
// DEK for each item.
// Keys that are at hand cost no wait; of the others, many are loaded at a time,
// so that their reservations share a sync of the disk.
func (s *Service) hold(ctx context.Context, n int, keyID func(int) string, use use) holding {
	keys := holding{item: make([]*held, n), deks: s.deks, use: use}
	byID := make(map[string]*held)
	for i := range n {
		h := byID[keyID(i)]
		if h == nil {
			h = &held{keyID: keyID(i)}
			byID[h.keyID] = h
			keys.all = append(keys.all, h)
		}
		h.items++
		if use == useEncrypt {
			h.seals++
		}
		keys.item[i] = h
	}
	var cold []*held
	for _, h := range keys.all {
		if h.slot = s.deks.take(h.keyID); h.slot == nil || h.slot.seen.age() > lookAge || !h.slot.key.take(h.seals) {
			cold = append(cold, h)
		}
	}
	s.fetch(ctx, cold)
	return keys
}

func (s *Service) fetch(ctx context.Context, cold []*held) {
	if len(cold) == 1 {
		s.fetchOne(ctx, cold[0])
		return
	}
	var wg sync.WaitGroup
	free := make(chan struct{}, loaders)
	for _, h := range cold {
		free <- struct{}{}
		wg.Go(func() {
			s.fetchOne(ctx, h)
			<-free
		})
	}
	wg.Wait()
}

func (s *Service) fetchOne(ctx context.Context, h *held) {
	switch {
	case h.slot == nil:
		h.slot, h.err = s.dek(ctx, h.keyID)
	case h.slot.seen.age() > lookAge:
		h.err = s.lookAtDEK(ctx, h.slot)
	}
	if h.err == nil {
		h.err = s.takeSeals(ctx, h.slot.key, h.seals)
	}
	h.err = asFault(h.err)
}

// stand looks again at the DEKs whose last look is too old to answer for what was
// done with them, until none is, and reports whether all stand. One that does not has
// an error.
func (s *Service) stand(ctx context.Context, keys holding) bool {
	all := true
	for n, again := 0, true; again; n++ {
		again = false
		for _, h := range keys.all {
			if h.err == nil && h.slot.seen.age() > answerAge {
				if h.err = errSlow; n < looks {
					again, h.err = true, s.lookAtDEK(ctx, h.slot)
				}
			}
			all = all && h.err == nil
		}
	}
	return all
}

func (k holding) release() {
	for _, h := range k.all {
		if h.slot != nil {
			if h.err == nil {
				h.slot.key.uses[k.use].Add(h.items)
			}
			k.deks.release(h.slot)
		}
	}
}
