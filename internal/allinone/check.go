package allinone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// Check looks for what keeps Open from the stores of cfg and from the keys to the data
// in them, and changes nothing. keys is the external KMS; that it is away is no error.
// An embedded one, keys is nil then, is opened over what there is.
//
// Its errors are those of Open. Besides, one is fs.ErrNotExist when there is no server's
// store yet, which Open makes, and a fault.Conflict when a directory is in use, which was
// not looked into.
func Check(ctx context.Context, cfg Config, keys KMS) (err error) {
	dir := dataDir(cfg.DataDir)
	data, missing, err := viewOf(ctx, dir.server(cfg))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	if keys == nil {
		err = dir.lookEmbedded(ctx, data, cfg)
	} else {
		err = cfg.lookExternal(ctx, &bound{KMS: keys, store: data})
	}
	if err != nil {
		return err
	}
	return missing
}

// viewOf is a store to be read, an empty one with the error missing when there is none.
func viewOf(ctx context.Context, at storespec.Spec) (view store.Store, missing, err error) {
	view, err = at.View(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return memstore.New(), err, nil
	}
	return view, nil, err
}

func (cfg Config) lookExternal(ctx context.Context, b *bound) error {
	ctx, cancel := context.WithTimeout(ctx, firstCall)
	defer cancel()
	if err := b.look(ctx); err != nil && !away(err) {
		return fmt.Errorf("%s: %w", cfg.KMSURL, err)
	}
	return nil
}

// lookEmbedded looks whether the keys in d are those to data.
func (d dataDir) lookEmbedded(ctx context.Context, data store.Store, cfg Config) (err error) {
	keys, _, err := viewOf(ctx, d.keys(cfg))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	root, err := d.oldRoot(ctx, data, keys, cfg)
	if root == nil || err != nil {
		return err
	}
	defer root.Wipe()
	if first, err := isFirst(ctx, data, keys); first || err != nil {
		return err
	}
	inside, err := kms.New(ctx, kms.Config{Store: keys, Root: root, NoJobs: true})
	if err != nil {
		return err
	}
	defer inside.Close()
	return (&bound{KMS: inside, store: data, adopt: true}).look(ctx)
}

// isFirst reports whether no start has come to its end: there is neither data nor the
// KEK that each start makes before it.
func isFirst(ctx context.Context, data, keys store.Store) (bool, error) {
	_, err := keys.Get(ctx, layout.KEK(kmsapi.ThreadsKEK))
	if !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	hasData, err := hasRows(ctx, data)
	return !hasData, err
}
