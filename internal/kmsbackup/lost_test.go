package kmsbackup

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"

	"github.com/keyfold/keyfold/internal/store/storespec"
)

// token is a root that lacks one version of a KEK, as a token in which it was
// destroyed.
type token struct {
	keyring.Root
	lacks keyring.Name
}

func (t token) LoadKEK(ctx context.Context, name keyring.Name, stored []byte) (keyring.KEK, error) {
	if name == t.lacks {
		return nil, aead.ErrOpen
	}
	return t.Root.LoadKEK(ctx, name, stored)
}

func TestARestoreNamesTheKEKVersionsThatTheRootLacks(t *testing.T) {
	r := newRig(t)
	_, err := r.kms.CreateKEK(t.Context(), []string{"vault-1"})
	r.must(err)
	_, err = r.kms.RotateKEK(t.Context(), kmsapi.Rotate{KEKID: "vault-1"})
	r.must(err)
	text := r.backup()
	for lacks, want := range map[keyring.Name][]string{
		{}:                               nil,
		{KEKID: "vault-1", Version: 1}:   {"vault-1 v1"},
		{KEKID: "vault-1", Version: 2}:   nil, // the primary: refused
		{KEKID: "not there", Version: 1}: nil,
	} {
		info, err := Restore(t.Context(), bytes.NewReader(text), storespec.InDir(filepath.Join(t.TempDir(), "kms")), token{r.root, lacks}, Options{})
		if refused := lacks.Version == 2; (err != nil) != refused || !slices.Equal(info.Lost, want) {
			t.Errorf("without %v: lost %v, %v", lacks, info.Lost, err)
		}
	}
}
