package allinone

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// dataDir is the path of a data directory, or "" for memory.
type dataDir string

func (d dataDir) path(name string) string { return filepath.Join(string(d), name) }

// store opens one of the stores, each a directory of mode 0700. A data
// directory that was there before keeps its mode.
func (d dataDir) store(name string, cfg Config) (store.Store, error) {
	if d == "" {
		return memstore.New(), nil
	}
	s, err := pebblestore.Open(d.path(name), pebblestore.Options{Logger: cfg.Log, OnFailure: cfg.OnFailure})
	if err != nil {
		return nil, err // and no store: a nil *pebblestore.Store would be one
	}
	return s, nil
}

// root opens the root key, or makes it when there is nothing yet that one
// could protect.
func (d dataDir) root(ctx context.Context, data, keys store.Store) (*keyring.FileRoot, error) {
	if d == "" {
		return keyring.MemoryRoot()
	}
	path := d.path("root.key")
	hasData, err := hasRows(ctx, data)
	if err != nil {
		return nil, err
	}
	hasKeys, err := hasRows(ctx, keys)
	if err != nil {
		return nil, err
	}
	if hasData && !hasKeys {
		return nil, fmt.Errorf("%s holds data, but %s has lost the keys to it; restore %s and %s from their backup, or, when they are with a key process of its own, name that with KEYFOLD_KMS", d.path("server"), d.path("kms"), d.path("kms"), path)
	}
	root, err := keyring.OpenFileRoot(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	if hasKeys {
		return nil, fmt.Errorf("%s is missing, and the keys in %s open with nothing else; restore it from its backup", path, d.path("kms"))
	}
	return keyring.CreateFileRoot(path)
}

// hasRows reports whether there is anything in s.
func hasRows(ctx context.Context, s store.Store) (bool, error) {
	recs, err := s.Scan(ctx, store.Range{}, store.ScanOptions{Limit: 1})
	return len(recs) > 0, err
}
