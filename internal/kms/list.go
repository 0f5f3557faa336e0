package kms

import (
	"context"
	"strings"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Keys describes every KEK, and how many DEKs of threads there are. It holds
// no material.
type Keys struct {
	KEKs []KEKVersions `json:"keks"`
	DEKs int           `json:"thread_deks"`
}

// KEKVersions describes one KEK.
type KEKVersions struct {
	ID       string                `json:"kek_id"`
	Versions []keyring.VersionInfo `json:"versions"`
}

// List reads all keys of the store, and proves on the way that the root key
// opens every KEK. It fails with fault.Damaged where it does not.
func (s *Service) List(ctx context.Context) (Keys, error) {
	var keys Keys
	prefix := layout.KEK("")
	for rec, err := range store.All(ctx, s.store, store.Prefix(prefix)) {
		if err != nil {
			return Keys{}, asFault(err)
		}
		id := strings.TrimPrefix(rec.Key, prefix)
		ring, err := keyring.Parse(ctx, s.root, id, rec.Value)
		if err != nil {
			return Keys{}, err
		}
		keys.KEKs = append(keys.KEKs, KEKVersions{ID: id, Versions: ring.Versions()})
		ring.Wipe()
	}
	for _, err := range store.All(ctx, s.store, store.Prefix(layout.DEK(""))) {
		if err != nil {
			return Keys{}, asFault(err)
		}
		keys.DEKs++
	}
	return keys, nil
}
