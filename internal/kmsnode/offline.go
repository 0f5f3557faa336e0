package kmsnode

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// HasStore is an error unless there is the key store of cfg. It makes none.
func HasStore(ctx context.Context, cfg Config) error {
	there, err := cfg.store().Exists(ctx)
	switch {
	case err == nil && !there && cfg.Store.IsZero():
		err = fmt.Errorf("there is no key store in %s; if its store is a database, set KEYFOLD_KMS_STORE_FILE; if there is none yet, make one with: keyfold-kms init %s", cfg.place(), cfg.flag())
	case err == nil && !there:
		err = fmt.Errorf("there is no key store in %s; make one with: keyfold-kms init %s", cfg.place(), cfg.flag())
	}
	return err
}

// hasKeys is an error unless st has the KEK that every key store has.
func hasKeys(ctx context.Context, st store.Store) error {
	_, err := st.Get(ctx, layout.KEK(kmsapi.ThreadsKEK))
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("the store has no KEK %q; name a key store, restore its backup, or remove it if its init or restore was cut off", kmsapi.ThreadsKEK)
	}
	return err
}

// withStore opens the key store of a stopped process for do.
func withStore(ctx context.Context, cfg Config, do func(store.Store) error) (err error) {
	if err := HasStore(ctx, cfg); err != nil {
		return err
	}
	if err := OursToWrite(cfg); err != nil {
		return err
	}
	st, err := cfg.store().Open(ctx, storespec.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := hasKeys(ctx, st); err != nil {
		return err
	}
	return do(st)
}

// Offline opens the KMS of a stopped process for do, which must change nothing:
// no audit is written.
func Offline(ctx context.Context, cfg Config, do func(*kms.Service) error) error {
	return withStore(ctx, cfg, func(st store.Store) error {
		s, err := kms.New(ctx, kms.Config{Store: st, Root: cfg.Root, NoJobs: true})
		if err != nil {
			return err
		}
		defer s.Close()
		return do(s)
	})
}

// AuditKey returns the public key of the audit of a stopped process.
func AuditKey(ctx context.Context, cfg Config) (public string, err error) {
	err = withStore(ctx, cfg, func(st store.Store) error {
		key, err := kms.AuditKey(ctx, st, cfg.Root, withDefaults(cfg).Now())
		if err != nil {
			return err
		}
		defer clear(key)
		public = publicText(key)
		return nil
	})
	return public, err
}

func publicText(key ed25519.PrivateKey) string {
	return audit.FormatPublicKey(key.Public().(ed25519.PublicKey))
}
