package allinone

import (
	"context"
	"fmt"
	"time"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/store"
)

// holder is who works on the jobs of s. In a store that one process alone has open
// the name is the same after a restart, which then takes up at once what it held; of a
// store that is shared each process has a name of its own.
func holder(s store.Store) string {
	if store.Shared(s) {
		return ""
	}
	return "allinone"
}

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
	b.KMS = newMeasured(b.KMS, n.metrics)
	if cfg.WrapKMS != nil {
		b.KMS = cfg.WrapKMS(b.KMS)
	}
	b.store = n.Store
	return b, cfg.greet(ctx, b)
}

func (cfg Config) embedded() bool { return cfg.KMSURL == "" || cfg.KMSURL == Embedded }

// openEmbedded opens the KMS of dir inside this process.
func (n *Node) openEmbedded(ctx context.Context, dir dataDir, cfg Config) (b *bound, err error) {
	if keys := cfg.Parts.KMS; keys != nil {
		return &bound{KMS: keys, health: keys.Check, adopt: true}, nil
	}
	if n.KeyStore, err = n.openStore(ctx, dir.keys(cfg), cfg); err != nil {
		return nil, err
	}
	root, err := dir.root(ctx, n.Store, n.KeyStore, cfg)
	if err != nil {
		return nil, err
	}
	n.opened = append(n.opened, func() error { root.Wipe(); return nil })
	with := kms.Config{Store: n.KeyStore, Root: root, Now: cfg.Now, Log: cfg.Log, Holder: holder(n.KeyStore), ImportKEK: cfg.Dev, Tracer: cfg.Tracer}
	if dir != "" {
		if with.Audit, err = n.openAudit(ctx, dir, root, cfg); err != nil {
			return nil, err
		}
	}
	keys, err := kms.New(ctx, with)
	if err != nil {
		return nil, err
	}
	n.opened = append(n.opened, func() error { keys.Close(); return nil })
	return &bound{KMS: keys, health: keys.Check, inside: keys, adopt: true}, nil
}

// openAudit opens the audit of the embedded KMS.
func (n *Node) openAudit(ctx context.Context, dir dataDir, root keyring.Root, cfg Config) (audit.Recorder, error) {
	now := time.Now
	if cfg.Now != nil {
		now = cfg.Now
	}
	key, err := kms.AuditKey(ctx, n.KeyStore, root, now())
	if err != nil {
		return nil, err
	}
	return n.openLog(dir.path("kms.audit"), key, cfg)
}

// openExternal makes a client of the KMS at cfg.KMSURL. It calls nobody yet.
func (n *Node) openExternal(_ context.Context, _ dataDir, cfg Config) (b *bound, err error) {
	to := kmsclient.Config{Endpoint: cfg.KMSURL, Log: cfg.Log, Observe: batches(n.metrics)}
	if cfg.KMSTLS != (TLSFiles{}) {
		if to.TLS, err = kmsclient.LoadTLS(cfg.KMSTLS.Cert, cfg.KMSTLS.Key, cfg.KMSTLS.CA); err != nil {
			return nil, withCause(err)
		}
	}
	keys, err := kmsclient.New(to)
	if err != nil {
		return nil, err
	}
	n.opened = append(n.opened, func() error { keys.Close(); return nil })
	b = &bound{KMS: keys, health: keys.Health}
	if len(kmsclient.Endpoints(cfg.KMSURL)) > 1 {
		b.several = keys.Answering
	}
	return b, nil
}

// withCause shows the operator what a fault keeps for the log.
func withCause(err error) error {
	if cause := fault.Of(err).Unwrap(); cause != nil {
		return fmt.Errorf("%w: %v", err, cause)
	}
	return err
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
	if !away(err) {
		return fmt.Errorf("%s: %w", cfg.KMSURL, err)
	}
	cfg.Log.WarnContext(ctx, "the key process does not answer; until it does, nothing that needs a key can be done", "kms", cfg.KMSURL, "error", err)
	return nil
}
