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
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// init makes a root key and a key store under it. A key store that is there is
// left alone, and so is a root key: without its store, as an init that was cut
// off leaves it, it gets one.
func (a *app) init(ctx context.Context, rootFile string) error {
	if a.storeIsThere() {
		return fmt.Errorf("there is a key store in %s already; look at it with: keyfold-kms keys --data-dir %s", a.dataDir, a.dataDir)
	}
	root, err := openOrCreate(rootFile)
	if err != nil {
		return err
	}
	defer root.Wipe()
	if err := a.withKMS(ctx, root, func(*kms.Service) error { return nil }); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "root key   %s (keep a copy where only you can read it: nothing else opens the keys)\n", rootFile)
	fmt.Fprintf(a.out, "key store  %s\n", a.dataDir)
	return nil
}

func (a *app) storeIsThere() bool {
	_, err := os.Stat(a.dataDir)
	return !errors.Is(err, fs.ErrNotExist)
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

// keys shows what lies in the key store.
func (a *app) keys(ctx context.Context, rootFile string) error {
	if !a.storeIsThere() {
		return fmt.Errorf("there is no key store in %s; make one with: keyfold-kms init --data-dir %s", a.dataDir, a.dataDir)
	}
	root, err := keyring.OpenFileRoot(rootFile)
	if err != nil {
		return err
	}
	defer root.Wipe()
	return a.withKMS(ctx, root, func(s *kms.Service) error {
		keys, err := s.List(ctx)
		if err != nil {
			return err
		}
		return a.show(keys)
	})
}

func (a *app) withKMS(ctx context.Context, root keyring.Root, do func(*kms.Service) error) (err error) {
	st, err := pebblestore.Open(a.dataDir, pebblestore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	s, err := kms.New(ctx, kms.Config{Store: st, Root: root})
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s)
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
