package kmsbackup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// defaultSample is how many threads' DEKs a restore opens unless told otherwise.
const defaultSample = 1000

// Options are the settings of a restore. The zero value is a good default.
type Options struct {
	Sample    int  // open so many threads' DEKs, chosen at random, or all if there are fewer; 0: 1000
	VerifyAll bool // open all of them
}

// Restore makes the key store to of the backup in, which it reads once. There must
// be none there yet. It is a key store when the backup has proved
// whole, written by a process with this root key, and opened by it: every KEK,
// every customer's key, and of the threads' DEKs a sample. After an error to is as it was; where somebody else made a key store there
// meanwhile, that is left alone. Errors are for the operator and name paths.
func Restore(ctx context.Context, in io.Reader, to storespec.Spec, root keyring.Root, opt Options) (info Info, err error) {
	if err := to.Vacant(ctx); err != nil {
		return info, err
	}
	_, err = os.Stat(to.Dir())
	made := errors.Is(err, fs.ErrNotExist)
	if info, err = restore(ctx, in, to, root, opt); err != nil && to.Dir() != "" {
		err = errors.Join(err, empty(to.Dir(), made))
	}
	return info, err
}

// empty removes what lies in dir, and dir too if it was made.
func empty(dir string, made bool) error {
	if made {
		return os.RemoveAll(dir)
	}
	files, err := os.ReadDir(dir)
	errs := []error{err}
	for _, f := range files {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, f.Name())))
	}
	return errors.Join(errs...)
}

// restore makes the key store in to, and where others can see it meanwhile, takes out
// again what it wrote if it fails.
func restore(ctx context.Context, in io.Reader, to storespec.Spec, root keyring.Root, opt Options) (info Info, err error) {
	st, err := to.Open(ctx, storespec.Options{})
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	c := newClaim(st)
	if info, err = c.restore(ctx, in, root, opt); err != nil && to.Dir() == "" { // a directory is removed
		err = errors.Join(err, c.giveBack(context.WithoutCancel(ctx)))
	}
	return info, err
}

// restore puts the row of the threads' KEK last, when all is proved: a store of
// keys without it is refused wherever it is opened.
func (c *claim) restore(ctx context.Context, in io.Reader, root keyring.Root, opt Options) (info Info, err error) {
	if err := c.take(ctx); err != nil {
		return info, err
	}
	f := &filler{claim: c, sample: newSample(opt)}
	info, t, err := read(in, func(key string, value []byte) error { return f.put(ctx, key, value) })
	if err == nil {
		err = f.flush(ctx)
	}
	if err != nil {
		return info, err
	}
	ring, err := threadsKEK(ctx, root, f.last)
	if err != nil {
		return info, err
	}
	defer ring.Wipe()
	if err := openSeal(ring, t.checksum, t.seal); err != nil {
		return info, err
	}
	if info.Lost, err = prove(ctx, withRow{c.st, f.last}, root, f.sample.ids); err != nil {
		return info, err
	}
	info.Opened = len(f.sample.ids)
	b := new(store.Batch)
	b.Put(f.last.Key, f.last.Value)
	b.Delete(layout.StoreRestore())
	return info, c.commit(ctx, b)
}

// withRow is a store and one row that is not in it yet, for reading.
type withRow struct {
	store.Store
	row store.Record
}

func (w withRow) Get(ctx context.Context, key string) (store.Record, error) {
	if key == w.row.Key {
		return w.row, nil
	}
	return w.Store.Get(ctx, key)
}

// prove opens every KEK and every customer's key, and the DEKs of keyIDs. It returns the versions of KEKs
// that root lacks: those destroyed since the backup in a token, which keeps them.
func prove(ctx context.Context, st store.Store, root keyring.Root, keyIDs []string) (lost []string, err error) {
	for rec, err := range store.All(ctx, st, store.Prefix(layout.KEK(""))) {
		if err != nil {
			return nil, err
		}
		id := strings.TrimPrefix(rec.Key, layout.KEK(""))
		ring, err := keyring.Parse(ctx, root, id, rec.Value)
		if err != nil {
			return nil, fmt.Errorf("KEK %q: %w", id, err)
		}
		for _, v := range ring.Versions() {
			if v.Lost {
				lost = append(lost, fmt.Sprintf("%s v%d", id, v.Version))
			}
		}
		ring.Wipe()
	}
	s, err := kms.New(ctx, kms.Config{Store: st, Root: root, NoJobs: true})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for _, id := range keyIDs {
		if _, err := s.GetWrapped(ctx, id); err != nil {
			return nil, fault.Wrap(fault.Damaged, err, "the DEK %s of the backup does not open: %v; take another backup", id, err)
		}
	}
	return lost, proveCMEK(ctx, s)
}

func proveCMEK(ctx context.Context, s *kms.Service) error {
	for after := ""; ; {
		page, err := s.CMEKKeys(ctx, after)
		if err != nil {
			return err
		}
		for _, k := range page.Keys {
			if k.Damaged {
				return fault.New(fault.Damaged, "the customer's key %s of the backup does not open; take another backup", k.Fingerprint)
			}
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}

// filler puts rows into a store, many at once, but for the threads' KEK's.
type filler struct {
	claim  *claim
	sample *sample
	last   store.Record // of the threads' KEK; none: there was none
	batch  store.Batch
	size   int
}

func (f *filler) put(ctx context.Context, key string, value []byte) error {
	if key == layout.KEK(kmsapi.ThreadsKEK) {
		f.last = store.Record{Key: key, Value: value}
		return nil
	}
	if key == layout.StoreRestore() { // of a restore into that store that did not get far
		return nil
	}
	if id, ok := strings.CutPrefix(key, layout.DEK("")); ok {
		f.sample.add(id)
	}
	const most = 8 << 20
	if f.size += len(key) + len(value); f.size > most && len(f.batch.Writes) > 0 {
		if err := f.flush(ctx); err != nil {
			return err
		}
		f.size = len(key) + len(value)
	}
	f.batch.Put(key, value)
	return nil
}

func (f *filler) flush(ctx context.Context) error {
	err := f.claim.commit(ctx, &f.batch)
	f.batch = store.Batch{}
	return err
}

// sample is some of the IDs that were added, each as likely as any other.
type sample struct {
	ids         []string
	seen, limit int // limit 0: all
}

func newSample(opt Options) *sample {
	if opt.VerifyAll {
		return &sample{}
	}
	if opt.Sample <= 0 {
		return &sample{limit: defaultSample}
	}
	return &sample{limit: opt.Sample}
}

func (s *sample) add(id string) {
	s.seen++
	if s.limit == 0 || len(s.ids) < s.limit {
		s.ids = append(s.ids, id)
	} else if i := rand.IntN(s.seen); i < s.limit {
		s.ids[i] = id
	}
}
