package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// init makes a root key and a key store under it. A directory that holds
// anything is left alone, and so is a root key: without its store, as an init
// that was cut off leaves it, it gets one.
func (a *app) init(ctx context.Context, rootFile string) error {
	if err := a.checkVacant(); err != nil {
		return err
	}
	root, err := openOrCreate(rootFile)
	if err != nil {
		return err
	}
	defer root.Wipe()
	err = a.withStore(func(st store.Store) error {
		s, err := kms.New(ctx, kms.Config{Store: st, Root: root}) // which makes the first KEK
		if err == nil {
			s.Close()
		}
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "root key   %s (keep a copy where only you can read it: nothing else opens the keys)\n", rootFile)
	fmt.Fprintf(a.out, "key store  %s\n", a.dataDir)
	return nil
}

// checkVacant is an error unless the data directory is empty or not there.
func (a *app) checkVacant() error {
	there, err := pebblestore.Exists(a.dataDir)
	if err != nil {
		return err
	}
	if there {
		return fmt.Errorf("there is a key store in %s already; look at it with: keyfold-kms keys --data-dir %s", a.dataDir, a.dataDir)
	}
	files, err := os.ReadDir(a.dataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("%s holds other things; name a new directory", a.dataDir)
	}
	return nil
}

func openOrCreate(rootFile string) (*keyring.FileRoot, error) {
	if err := os.MkdirAll(filepath.Dir(rootFile), 0o700); err != nil {
		return nil, err
	}
	root, err := keyring.OpenFileRoot(rootFile)
	if errors.Is(err, fs.ErrNotExist) {
		return keyring.CreateFileRoot(rootFile)
	}
	return root, err
}

// keys shows what lies in the key store. It makes none: neither in a directory
// without a store nor in a store of something else.
func (a *app) keys(ctx context.Context, rootFile string) error {
	there, err := pebblestore.Exists(a.dataDir)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("there is no key store in %s; make one with: keyfold-kms init --data-dir %s", a.dataDir, a.dataDir)
	}
	root, err := keyring.OpenFileRoot(rootFile)
	if err != nil {
		return err
	}
	defer root.Wipe()
	return a.withStore(func(st store.Store) error {
		if err := hasKeys(ctx, st); err != nil {
			return err
		}
		return a.list(ctx, st, root)
	})
}

// hasKeys is an error unless st has the KEK that every key store has.
func hasKeys(ctx context.Context, st store.Store) error {
	_, err := st.Get(ctx, layout.KEK(kmsapi.ThreadsKEK))
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("the store has no KEK %q; name a key store, restore its backup, or remove it if its init was cut off", kmsapi.ThreadsKEK)
	}
	return err
}

func (a *app) list(ctx context.Context, st store.Store, root keyring.Root) error {
	s, err := kms.New(ctx, kms.Config{Store: st, Root: root})
	if err != nil {
		return err
	}
	defer s.Close()
	keys, err := s.List(ctx)
	if err != nil {
		return err
	}
	return a.show(keys)
}

// withStore opens the store, and makes it if there is none.
func (a *app) withStore(do func(store.Store) error) (err error) {
	st, err := pebblestore.Open(a.dataDir, pebblestore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return do(st)
}

func (a *app) show(keys kms.Keys) error {
	if a.json {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		return enc.Encode(keys)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEK\tVERSION\tSTATE\tCREATED")
	for _, kek := range keys.KEKs {
		for _, v := range kek.Versions {
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", kek.ID, v.Version, v.State, v.Created.Format(time.RFC3339))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.out, "\nDEKs of threads: %d\n", keys.DEKs)
	return err
}
