package kmsbackup

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// claim is one restore's right to a store that others can see. Its row is there from
// the first commit, which requires that the store is vacant, to the last one, which
// puts the row of the threads' KEK, or to the last one that takes out what was
// written. All in between require the row, and that there is no threads' KEK: so no
// restore writes into, or takes anything out of, a store that is whole or another's.
type claim struct {
	st   store.Store
	name string // the row's value, of which nobody else has the same
	rev  store.Revision
}

func newClaim(st store.Store) *claim { return &claim{st: st, name: rand.Text()} }

var errTaken = fault.New(fault.Conflict, "somebody else made a key store here meanwhile, or restores one; it is left as it is: see whose it is, or name an empty store")

// take claims the store. fault.Conflict: it is not vacant any more.
func (c *claim) take(ctx context.Context) (err error) {
	b := new(store.Batch)
	b.RequireAbsent(layout.KEK(kmsapi.ThreadsKEK))
	b.RequireAbsent(layout.StoreRestore())
	b.RequireAbsent(layout.StoreCopy())
	b.Put(layout.StoreRestore(), []byte(c.name))
	if c.rev, err = c.st.Commit(ctx, b); errors.Is(err, store.ErrConflict) {
		return errTaken
	} else if err != nil {
		return err
	}
	// What others put before the claim is not this restore's to take out.
	recs, err := c.st.Scan(ctx, store.Range{}, store.ScanOptions{Limit: 2})
	if err != nil || len(recs) == 1 {
		return err
	}
	b = new(store.Batch)
	b.Delete(layout.StoreRestore())
	return errors.Join(errTaken, c.commit(ctx, b))
}

// commit commits b while the claim holds; fault.Conflict: it does not.
func (c *claim) commit(ctx context.Context, b *store.Batch) error {
	b.RequireAbsent(layout.KEK(kmsapi.ThreadsKEK))
	b.RequireRevision(layout.StoreRestore(), c.rev)
	_, err := c.st.Commit(ctx, b)
	if errors.Is(err, store.ErrConflict) {
		return errTaken
	}
	return err
}

// giveBack takes out all rows, and the claim's own last, while the claim holds: it
// may be that a commit took effect that is not known to have.
func (c *claim) giveBack(ctx context.Context) error {
	rec, err := c.st.Get(ctx, layout.StoreRestore())
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && string(rec.Value) != c.name:
		return nil // nothing was written, or the store is whole
	case err != nil:
		return err
	}
	c.rev = rec.Revision
	for all := (store.Range{}); ; {
		recs, err := c.st.Scan(ctx, all, store.ScanOptions{Limit: 1000, MaxBytes: 8 << 20})
		if err != nil {
			return err
		}
		b := new(store.Batch)
		for _, rec := range recs {
			if rec.Key != layout.StoreRestore() {
				b.Delete(rec.Key)
			}
			all.Start = rec.Key + "\x00"
		}
		if len(recs) == 0 {
			b.Delete(layout.StoreRestore())
		}
		switch err := c.commit(ctx, b); {
		case errors.Is(err, errTaken):
			b := new(store.Batch)
			b.RequireRevision(layout.StoreRestore(), c.rev)
			b.Delete(layout.StoreRestore())
			if _, err := c.st.Commit(ctx, b); err != nil && !errors.Is(err, store.ErrConflict) {
				return err
			}
			return fault.New(fault.Conflict, "this is a key store now, which somebody else made; nothing more was removed from it")
		case err != nil || len(recs) == 0:
			return err
		}
	}
}
