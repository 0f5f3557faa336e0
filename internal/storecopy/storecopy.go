// Package storecopy copies one store into another, of any engine, and proves that
// the two hold the same.
//
// It owns one row of the target, layout.StoreCopy: while that is there, the target
// is not whole and nobody but this package uses it. The row is written with every
// batch, in the same commit, so a copy that is killed anywhere goes on where it was.
// It trusts nothing it wrote: the row goes away only when all of the target was read
// back, and all of the source once more, and both are what was read from the source
// at first.
//
// A copied record gets a revision of its own. Revisions are compared by those who
// read them a moment ago and are stored nowhere (ADR 0001), so nobody can tell.
package storecopy

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Config says what to copy.
type Config struct {
	From, To store.Store
	Source   string // names From to people, the same whenever this copy is taken up again
	Target   string // names To
	Keys     bool   // From is the store of a key process, and else that of a server

	// Progress, if not nil, hears how many records of total are done. The phases come
	// in their order; total is -1 while nobody knows how many there are.
	Progress func(phase Phase, done, total int)

	page store.ScanOptions // see defaultPage; tests make it small
}

// Phase is a part of the work.
type Phase string

// The phases, in their order.
const (
	Counting  Phase = "counting"
	Copying   Phase = "copying"
	Verifying Phase = "verifying"
)

// Report is what both stores hold.
type Report struct {
	Records int    `json:"records"`
	Bytes   int64  `json:"bytes"`             // of keys and values
	SHA256  string `json:"sha256"`            // of all records in the order of their keys: see digest
	Already bool   `json:"already,omitempty"` // they did before
}

// defaultPage is how much is copied in one commit.
var defaultPage = store.ScanOptions{Limit: 1000, MaxBytes: 4 << 20}

// Copy makes cfg.To, which is empty or an unfinished copy of the same source, hold
// what cfg.From does. Nothing else may write to either meanwhile: where something did,
// it is an error, and To stays marked as not whole. A target that holds the same
// already is reported as such.
//
// Its errors are for the operator and say what to do; fault.Conflict: the two are not
// what they must be; fault.Damaged: what was written did not come back.
func Copy(ctx context.Context, cfg Config) (Report, error) {
	c := copier{Config: cfg}
	if c.Progress == nil {
		c.Progress = func(Phase, int, int) {}
	}
	if c.page == (store.ScanOptions{}) {
		c.page = defaultPage
	}
	if err := c.checkSource(ctx); err != nil {
		return Report{}, err
	}
	switch done, err := c.begin(ctx); {
	case err != nil:
		return Report{}, err
	case done:
		return c.compare(ctx)
	}
	if err := c.copy(ctx); err != nil {
		return Report{}, err
	}
	report, err := c.verify(ctx)
	if err != nil {
		return report, err
	}
	return report, c.end(ctx)
}

// copier is a Copy under way.
type copier struct {
	Config
	at  position
	rev store.Revision // of its row
}

// checkSource refuses a source that is not what it is said to be.
func (c *copier) checkSource(ctx context.Context) error {
	recs, err := c.From.Scan(ctx, store.Range{}, store.ScanOptions{Limit: 1})
	if err != nil {
		return c.reading(err)
	}
	if len(recs) == 0 {
		return fault.New(fault.Conflict, "there is nothing in %s; name the store that has the data", c.Source)
	}
	switch _, err := c.From.Get(ctx, layout.StoreCopy()); {
	case err == nil:
		return fault.New(fault.Conflict, "%s is itself a copy that is not finished; finish that one, or name the store that it is a copy of", c.Source)
	case !errors.Is(err, store.ErrNotFound):
		return c.reading(err)
	}
	_, err = c.From.Get(ctx, layout.KEK(kmsapi.ThreadsKEK))
	hasKeys := err == nil
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return c.reading(err)
	case hasKeys && !c.Keys:
		return fault.New(fault.Conflict, "%s is the store of a key process; say --keys if that is the one to copy", c.Source)
	case !hasKeys && c.Keys:
		return fault.New(fault.Conflict, "%s is not the store of a key process; leave --keys away if it is the server's", c.Source)
	}
	return nil
}

// begin takes up the copy where it was, or notes that it begins. It reports done
// where the target holds records and no note: that is no copy of ours, or a whole one.
func (c *copier) begin(ctx context.Context) (done bool, err error) {
	rec, err := c.To.Get(ctx, layout.StoreCopy())
	if err == nil {
		return false, c.resume(rec)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return false, c.writing(err)
	}
	recs, err := c.To.Scan(ctx, store.Range{}, store.ScanOptions{Limit: 1})
	if err != nil || len(recs) > 0 {
		return true, c.writing(err)
	}
	if err := c.count(ctx); err != nil {
		return false, err
	}
	return false, c.commit(ctx, new(store.Batch))
}

// resume goes on from rec, the note of the target.
func (c *copier) resume(rec store.Record) error {
	if err := c.at.parse(rec.Value); err != nil {
		return fault.Wrap(fault.Damaged, err, "the note of the unfinished copy in %s is damaged; empty the target and begin again", c.Target)
	}
	if c.at.Source != c.Source {
		return fault.New(fault.Conflict, "%s holds an unfinished copy of %s; go on with --from %s, or empty the target", c.Target, c.at.Source, c.at.Source)
	}
	c.rev = rec.Revision
	return nil
}

// count makes the position of a copy that begins.
func (c *copier) count(ctx context.Context) error {
	c.at = newPosition(c.Source)
	for _, err := range store.All(ctx, c.From, store.Range{}) {
		if err != nil {
			return c.reading(err)
		}
		if c.at.Total++; c.at.Total%c.page.Limit == 0 {
			c.Progress(Counting, c.at.Total, -1)
		}
	}
	return nil
}

// copy copies what is left.
func (c *copier) copy(ctx context.Context) error {
	for {
		c.Progress(Copying, c.at.Records, max(c.at.Total, c.at.Records))
		recs, err := c.From.Scan(ctx, store.Range{Start: c.at.start()}, c.page)
		if err != nil {
			return c.reading(err)
		}
		if len(recs) == 0 {
			return nil
		}
		b := new(store.Batch)
		for _, rec := range recs {
			b.Put(rec.Key, rec.Value)
			c.at.add(rec)
		}
		if err := c.commit(ctx, b); err != nil {
			return err
		}
	}
}

// commit writes b together with the position, unless somebody else did.
func (c *copier) commit(ctx context.Context, b *store.Batch) error {
	note, err := c.at.note()
	if err != nil {
		return err
	}
	b.RequireRevision(layout.StoreCopy(), c.rev)
	b.Put(layout.StoreCopy(), note)
	c.rev, err = c.To.Commit(ctx, b)
	return c.writing(err)
}

// verify reads the target and, once more, the source, and compares both with what
// was read from the source at first.
func (c *copier) verify(ctx context.Context) (Report, error) {
	from, to := newDigest(), newDigest()
	diff, err := c.walk(ctx, &from, &to)
	if err != nil {
		return Report{}, err
	}
	read := c.at.digest()
	switch was := read.sum(); {
	case to.sum() != was && from.sum() == was:
		return Report{}, fault.New(fault.Damaged, "the copy in %s is not what was written, at the key %q first; look at the disk of the target and at who writes to it, then empty it and begin again", c.Target, diff)
	case from.sum() != was:
		return Report{}, fault.New(fault.Conflict, "%s changed while it was copied, at the key %q first; end what writes to it, empty the target and begin again", c.Source, diff)
	}
	return read.report(), nil
}

// compare is the proof, without a note, that the target holds what the source does.
func (c *copier) compare(ctx context.Context) (Report, error) {
	from, to := newDigest(), newDigest()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for pair, err := range c.pairs(ctx) {
		if err != nil {
			return Report{}, err
		}
		if !pair.same() {
			return Report{}, fault.New(fault.Conflict, "%s holds other things; name an empty store", c.Target)
		}
		from.add(pair.from)
		to.add(pair.to)
		c.tell(Verifying, to.Records, -1)
	}
	report := from.report()
	report.Already = true
	return report, nil
}

// walk sums up both stores, and returns the key at which they differ first.
func (c *copier) walk(ctx context.Context, from, to *digest) (diff string, err error) {
	for pair, err := range c.pairs(ctx) {
		if err != nil {
			return "", err
		}
		if !pair.same() && diff == "" {
			diff = pair.key()
		}
		if pair.from.Key != "" {
			from.add(pair.from)
		}
		if pair.to.Key != "" {
			to.add(pair.to)
		}
		c.tell(Verifying, to.Records, max(c.at.Records, to.Records))
	}
	return diff, nil
}

// tell is Progress, now and then.
func (c *copier) tell(phase Phase, done, total int) {
	if done%c.page.Limit == 0 {
		c.Progress(phase, done, total)
	}
}

// end takes the note away: the target is whole.
func (c *copier) end(ctx context.Context) error {
	b := new(store.Batch)
	b.RequireRevision(layout.StoreCopy(), c.rev)
	b.Delete(layout.StoreCopy())
	_, err := c.To.Commit(ctx, b)
	return c.writing(err)
}

// pair is what the two stores have under a key. What one of them has not is zero: no
// key is empty.
type pair struct{ from, to store.Record }

func (p pair) same() bool {
	return p.from.Key == p.to.Key && string(p.from.Value) == string(p.to.Value)
}

func (p pair) key() string {
	if p.from.Key != "" {
		return p.from.Key
	}
	return p.to.Key
}

// pairs walks over both stores, key by key. The note is left out.
func (c *copier) pairs(ctx context.Context) iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		from, stopFrom := iter.Pull2(store.All(ctx, c.From, store.Range{}))
		defer stopFrom()
		to, stopTo := iter.Pull2(store.All(ctx, c.To, store.Range{}))
		defer stopTo()
		var p pair
		for nextFrom, nextTo := true, true; ; {
			if nextFrom {
				rec, err, _ := from()
				if err != nil {
					yield(pair{}, c.reading(err))
					return
				}
				p.from = rec
			}
			if nextTo {
				rec, err, _ := to()
				if rec.Key == layout.StoreCopy() {
					rec, err, _ = to()
				}
				if err != nil {
					yield(pair{}, c.writing(err))
					return
				}
				p.to = rec
			}
			nextFrom = p.from.Key != "" && (p.to.Key == "" || p.from.Key <= p.to.Key)
			nextTo = p.to.Key != "" && (p.from.Key == "" || p.to.Key <= p.from.Key)
			if !nextFrom && !nextTo {
				return
			}
			var out pair
			if nextFrom {
				out.from = p.from
			}
			if nextTo {
				out.to = p.to
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

// reading names an error of the source.
func (c *copier) reading(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("reading %s: %w", c.Source, err)
}

// writing names an error of the target.
func (c *copier) writing(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrConflict):
		return fault.Wrap(fault.Conflict, err, "another copy into %s is under way; let it end, or end it", c.Target)
	}
	return fmt.Errorf("writing %s: %w; run the same again, which goes on where it was", c.Target, err)
}
