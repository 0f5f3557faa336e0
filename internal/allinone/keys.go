package allinone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kms"
)

// firstCall is how long a start waits for an external KMS to answer.
const firstCall = 5 * time.Second

// openKMS opens the KMS that cfg names and looks whether it is the one of the
// server's store.
func (n *Node) openKMS(ctx context.Context, dir dataDir, cfg Config) (*bound, error) {
	open := n.openExternal
	if cfg.embedded() {
		open = n.openEmbedded
	}
	b, err := open(ctx, dir, cfg)
	if err != nil {
		return nil, err
	}
	if cfg.WrapKMS != nil {
		b.KMS = cfg.WrapKMS(b.KMS)
	}
	b.store = n.Store
	return b, cfg.greet(ctx, b)
}

func (cfg Config) embedded() bool { return cfg.KMSURL == "" || cfg.KMSURL == Embedded }

// openEmbedded opens the KMS of dir inside this process.
func (n *Node) openEmbedded(ctx context.Context, dir dataDir, cfg Config) (b *bound, err error) {
	if n.KeyStore, err = n.openStore(dir, "kms", cfg); err != nil {
		return nil, err
	}
	root, err := dir.root(ctx, n.Store, n.KeyStore)
	if err != nil {
		return nil, err
	}
	n.opened = append(n.opened, func() error { root.Wipe(); return nil })
	keys, err := kms.New(ctx, kms.Config{Store: n.KeyStore, Root: root, Now: cfg.Now})
	if err != nil {
		return nil, err
	}
	n.opened = append(n.opened, func() error { keys.Close(); return nil })
	return &bound{KMS: keys, health: answers(n.KeyStore), adopt: true}, nil
}

// openExternal makes a client of the KMS at cfg.KMSURL. It calls nobody yet.
func (n *Node) openExternal(_ context.Context, _ dataDir, cfg Config) (*bound, error) {
	return nil, errors.New("external")
}

// greet meets the KMS for the first time. One that is external may be away.
func (cfg Config) greet(ctx context.Context, b *bound) error {
	if cfg.embedded() {
		return b.prove(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, firstCall)
	defer cancel()
	err := b.prove(ctx)
	if err == nil {
		return nil
	}
	away := errors.Is(err, fault.Unavailable) && !errors.Is(err, errOtherKMS) && !errors.Is(err, errUnbound)
	if !away {
		return fmt.Errorf("%s: %w", cfg.KMSURL, err)
	}
	cfg.Log.WarnContext(ctx, "the key process does not answer; until it does, nothing that needs a key can be done", "kms", cfg.KMSURL, "error", err)
	return nil
}
