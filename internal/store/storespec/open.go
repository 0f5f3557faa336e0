package storespec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
	"github.com/keyfold/keyfold/internal/store/pgstore"
)

// Options are the settings of an open store. The zero value is a good default.
type Options struct {
	Logger *slog.Logger // nil: no log

	// For Pebble alone: see pebblestore.Options. A database that fails may come back.
	CacheBytes    int64
	MemTableBytes uint64
	OnFailure     func(error)
}

// Store is what every engine is.
type Store interface {
	store.Store
	store.Snapshotter
}

// Open opens the store that s names, and makes it if it is not there. Its errors are
// for the operator and name the store. One is a fault.Conflict if another process has
// the directory, and a fault.Unavailable if a copy into the store is not finished.
func (s Spec) Open(ctx context.Context, opt Options) (Store, error) {
	st, err := s.OpenCopy(ctx, opt)
	if err != nil {
		return nil, err
	}
	if err := s.whole(ctx, st); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return st, nil
}

// OpenCopy is Open for who copies: the store may be an unfinished copy.
func (s Spec) OpenCopy(ctx context.Context, opt Options) (Store, error) {
	return s.openBy(ctx, func(dir string) (*pebblestore.Store, error) {
		return pebblestore.Open(dir, pebblestore.Options{Logger: opt.Logger, CacheBytes: opt.CacheBytes, MemTableBytes: opt.MemTableBytes, OnFailure: opt.OnFailure})
	}, pgstore.Open)
}

// openBy opens what s names by the one that its kind needs.
func (s Spec) openBy(ctx context.Context, directory func(string) (*pebblestore.Store, error), database func(context.Context, string, pgstore.Options) (*pgstore.Store, error)) (Store, error) {
	if s.dir != "" {
		st, err := directory(s.dir)
		if err != nil {
			return nil, err // and no store: a nil *pebblestore.Store would be one
		}
		return st, nil
	}
	if s.IsZero() {
		return nil, errors.New("no store is named")
	}
	st, err := database(ctx, s.url, pgstore.Options{})
	if err != nil {
		return nil, fmt.Errorf("the store %s: %w", s, withCause(err))
	}
	return st, nil
}

// withCause shows the operator what a fault keeps for the log.
func withCause(err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Unwrap() != nil {
		return fmt.Errorf("%w (%v)", err, f.Unwrap())
	}
	return err
}

// View opens the store that s names to be read, as it stands now, and changes nothing
// there; commits are refused. Its errors are those of Open, and one that is
// fs.ErrNotExist where Open would make the store.
func (s Spec) View(ctx context.Context) (store.Store, error) {
	st, err := s.openBy(ctx, pebblestore.OpenRead, pgstore.OpenAsIs)
	if err != nil {
		return nil, err
	}
	at, err := st.Snapshot(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the store %s: %w", s, withCause(err)), st.Close())
	}
	v := view{at, st}
	if err := s.whole(ctx, v); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// view is a snapshot as a store.
type view struct {
	store.Snapshot
	of Store
}

// Get is [store.Store].Get.
func (v view) Get(ctx context.Context, key string) (store.Record, error) {
	recs, err := v.Scan(ctx, store.Range{Start: key, End: key + "\x00"}, store.ScanOptions{Limit: 1})
	if err == nil && len(recs) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Record{}, err
	}
	return recs[0], nil
}

// Commit refuses.
func (v view) Commit(context.Context, *store.Batch) (store.Revision, error) {
	return 0, errors.New("the store is open to be read alone")
}

// Close is [store.Store].Close.
func (v view) Close() error { return errors.Join(v.Snapshot.Close(), v.of.Close()) }

// whole is an error when a copy into st was not finished.
func (s Spec) whole(ctx context.Context, st store.Store) error {
	_, err := st.Get(ctx, layout.StoreCopy())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err == nil:
		return fault.New(fault.Unavailable, "a copy into the store %s is not finished, and it does not hold all yet; run the same keyfold store copy again, which goes on where it was, or name another store", s)
	}
	return fmt.Errorf("the store %s: %w", s, err)
}

// Exists reports whether there is a store in the directory that s names, or a record in
// the database. It makes no directory; a database gets its tables, as by Open.
func (s Spec) Exists(ctx context.Context) (bool, error) {
	if s.dir != "" {
		return pebblestore.Exists(s.dir)
	}
	st, err := s.OpenCopy(ctx, Options{})
	if err != nil {
		return false, err
	}
	recs, err := st.Scan(ctx, store.Range{}, store.ScanOptions{Limit: 1})
	return len(recs) > 0, errors.Join(err, st.Close())
}

// Vacant is an error unless a store can be made where s says: the directory is empty
// or not there, the database holds nothing of ours.
func (s Spec) Vacant(ctx context.Context) error {
	there, err := s.Exists(ctx)
	if err == nil && there {
		err = fmt.Errorf("there is a store in %s already", s.place())
	}
	if err != nil || s.dir == "" {
		return err
	}
	files, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("%s holds other things; name a new directory", s.dir)
	}
	return nil
}

// place is where the store is, for people: the directory, or the URL without its password.
func (s Spec) place() string {
	if s.dir != "" {
		return s.dir
	}
	return s.String()
}
