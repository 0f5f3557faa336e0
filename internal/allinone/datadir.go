package allinone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// dataDir is the path of a data directory, or "" for memory.
type dataDir string

func (d dataDir) path(name string) string { return filepath.Join(string(d), name) }

// server and keys are where the two stores are, in the data directory unless cfg
// says otherwise. They name none where all is in memory.
func (d dataDir) server(cfg Config) storespec.Spec { return cfg.Store.Or(d.dir("server")) }
func (d dataDir) keys(cfg Config) storespec.Spec   { return cfg.KeyStore.Or(d.dir("kms")) }

// make makes the directory where no store does.
func (d dataDir) make(cfg Config) error {
	if d == "" || cfg.Store.IsZero() {
		return nil
	}
	return os.MkdirAll(string(d), 0o700)
}

// dir is a store in a directory of mode 0700. A data directory that was there before
// keeps its mode.
func (d dataDir) dir(name string) storespec.Spec {
	if d == "" {
		return storespec.Spec{}
	}
	return storespec.InDir(d.path(name))
}

// root opens the root key, or makes it when there is nothing yet that one
// could protect.
func (d dataDir) root(ctx context.Context, data, keys store.Store, cfg Config) (*keyring.FileRoot, error) {
	if d == "" {
		return keyring.MemoryRoot()
	}
	root, err := d.oldRoot(ctx, data, keys, cfg)
	if root != nil || err != nil {
		return root, err
	}
	return keyring.CreateFileRoot(d.rootKey())
}

func (d dataDir) rootKey() string { return d.path("root.key") }

// oldRoot opens the root key. It is nil when there is none, and nothing that one
// could protect.
func (d dataDir) oldRoot(ctx context.Context, data, keys store.Store, cfg Config) (*keyring.FileRoot, error) {
	path := d.rootKey()
	hasData, err := hasRows(ctx, data)
	if err != nil {
		return nil, err
	}
	hasKeys, err := hasRows(ctx, keys)
	if err != nil {
		return nil, err
	}
	if hasData && !hasKeys {
		return nil, fmt.Errorf("%s holds data, but %s has lost the keys to it; restore %s and %s from their backup, or, when they are with a key process of its own, name that with KEYFOLD_KMS", place(d.server(cfg)), place(d.keys(cfg)), place(d.keys(cfg)), path)
	}
	root, err := keyring.OpenFileRoot(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	if hasKeys {
		return nil, fmt.Errorf("%s is missing, and the keys in %s open with nothing else; restore it from its backup", path, place(d.keys(cfg)))
	}
	return nil, nil
}

// place is a store's directory, or its URL without the password.
func place(s storespec.Spec) string { return cmp.Or(s.Dir(), s.String()) }

// hasRows reports whether there is anything in s.
func hasRows(ctx context.Context, s store.Store) (bool, error) {
	recs, err := s.Scan(ctx, store.Range{}, store.ScanOptions{Limit: 1})
	return len(recs) > 0, err
}
