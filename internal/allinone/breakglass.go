package allinone

import (
	"context"
	"crypto/ed25519"
	"errors"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/breakglass"
	"github.com/keyfold/keyfold/internal/thread"
)

// check refuses settings of break-glass that do not go together.
func (files BreakGlass) check(cfg Config) error {
	switch {
	case files == BreakGlass{}:
	case files.RootFile == "" || files.KeyringFile == "":
		return errors.New("break-glass needs both the root key file and the exported keyring; name both, or none")
	case cfg.embedded():
		return errors.New("break-glass is for a server whose key process is a process of its own; this one has the keys anyway")
	case cfg.DataDir == "":
		return errors.New("break-glass needs a data directory, for its audit")
	}
	return nil
}

// openBreakGlass sets up what cfg says, with an audit of its own: the KMS's is
// with the KMS. It returns nil where nothing is set.
func (n *Node) openBreakGlass(ctx context.Context, cfg Config) (thread.BreakGlass, error) {
	files := cfg.BreakGlass
	if files == (BreakGlass{}) {
		return nil, nil
	}
	dir := dataDir(cfg.DataDir)
	key, err := audit.OpenOrCreateKeyFile(dir.path("audit.key"))
	if err != nil {
		return nil, err
	}
	log, err := n.openLog(dir.path("audit"), key, cfg)
	if err != nil {
		return nil, err
	}
	reader, err := breakglass.Open(ctx, breakglass.Config{RootFile: files.RootFile, KeyringFile: files.KeyringFile, Audit: log})
	if err != nil {
		return nil, err
	}
	n.opened = append(n.opened, func() error { reader.Close(); return nil })
	return reader, nil
}

// openLog opens an audit, which has the key until it is closed.
func (n *Node) openLog(path string, key ed25519.PrivateKey, cfg Config) (*audit.Log, error) {
	n.opened = append(n.opened, func() error { clear(key); return nil })
	log, err := audit.Open(path, key, audit.Options{Now: cfg.Now})
	if err != nil {
		return nil, err
	}
	n.opened = append(n.opened, log.Close)
	return log, nil
}
