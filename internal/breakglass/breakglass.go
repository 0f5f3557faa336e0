// Package breakglass answers reads of messages while the KMS is away, on a
// server whose operator has set that up: with the root key file and a keyring
// that "keyfold-kms export-breakglass" wrote.
//
// It owns nothing that is stored. It holds the threads' KEK in this process,
// which an external KMS otherwise keeps out of it: that is its price, and why it
// is off unless both files are named. It reads messages and nothing else; it
// cannot encrypt.
//
// That it was set up, and each read with who reads what, is in the audit before
// anything is opened; a read that cannot be recorded is not answered. After a
// crash the audit may hold a read that was not answered.
package breakglass

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/thread"
)

// Config is what a Reader stands on. All of it is required.
type Config struct {
	RootFile    string         // the root key file of the KMS
	KeyringFile string         // the exported keyring, at most 1 MiB
	Audit       audit.Recorder // stays the caller's to close, after the Reader
}

const maxKeyring = 1 << 20

// Reader is a thread.BreakGlass. It may be used by many goroutines.
type Reader struct {
	offline *kms.Offline
	audit   audit.Recorder
}

// Open reads both files, and records that break-glass is set up. Its errors
// name paths: they are for the operator at start.
func Open(ctx context.Context, cfg Config) (*Reader, error) {
	offline, err := openFiles(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("set up break-glass: %w", err)
	}
	r := &Reader{offline: offline, audit: cfg.Audit}
	err = cfg.Audit.Record(ctx, audit.Event{
		Actor: "process", Action: "breakglass.open", Target: kmsapi.ThreadsKEK,
		Detail: map[string]any{"kek_version": offline.KEKVersion()},
	})
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("set up break-glass: %w", err)
	}
	return r, nil
}

func openFiles(ctx context.Context, cfg Config) (*kms.Offline, error) {
	f, err := os.Open(cfg.KeyringFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyring))
	if err != nil {
		return nil, err
	}
	root, err := keyring.OpenFileRoot(cfg.RootFile)
	if err != nil {
		return nil, err
	}
	defer root.Wipe() // the KEKs that it loaded stay
	offline, err := kms.OpenOffline(ctx, root, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.KeyringFile, err)
	}
	return offline, nil
}

// OpenOffline is as thread.BreakGlass says.
func (r *Reader) OpenOffline(ctx context.Context, read thread.OfflineRead) ([]kmsapi.DecryptResult, error) {
	err := r.audit.Record(ctx, audit.Event{
		Actor: read.Reader, Action: "breakglass.read", Target: read.ThreadID,
		Detail: map[string]any{"messages": len(read.Items), "first": read.First, "last": read.Last},
	})
	if err != nil {
		return nil, err
	}
	return r.offline.Decrypt(ctx, read.DEK, read.ThreadID, read.Items)
}

// Close wipes the keys. Later reads fail.
func (r *Reader) Close() { r.offline.Wipe() }
