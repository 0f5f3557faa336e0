package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/harden"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/keyring/rootspec"
)

// openRoot opens the root key, once this process is hardened. It returns the
// protections of memory that the system does not give.
func (a *app) openRoot(ctx context.Context) (root keyring.Root, missing []string, err error) {
	missing = harden.Apply()
	if root, err = rootspec.Open(ctx, a.set.Root, a.getenv); errors.Is(err, fs.ErrNotExist) {
		err = cli.Advise(err, "where it is somewhere else, name it: --root file:PATH")
	}
	return root, missing, err
}

// makeRoot opens the root key, and makes one when it is a file that is not there.
func (a *app) makeRoot(ctx context.Context) (keyring.Root, error) {
	root, _, err := a.openRoot(ctx)
	if !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	spec, err := rootspec.Parse(a.set.Root, a.getenv)
	if err != nil {
		return nil, err
	}
	if path, ok := strings.CutPrefix(a.set.Root, "file:"); ok {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("make the root key file: %w", err)
		}
	}
	return spec.Create()
}
