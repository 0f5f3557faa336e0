package identity

import (
	"context"
	"crypto/sha256"
	"sync"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// credentialRows remembers, of credentials that were live, under which keys the rows
// lie that say so, so that at the next request all are read at once. It holds nothing of what
// they say: each request reads them, and one that reads others than were guessed has
// lost a little time.
type credentialRows struct {
	mu    sync.RWMutex
	known map[[sha256.Size]byte][]string
}

const maxCredentialRows = 10_000 // credentials, of some 400 bytes

// ahead returns a context in which those rows are read together.
func (c *credentialRows) ahead(ctx context.Context, s store.Store, credential [sha256.Size]byte) context.Context {
	c.mu.RLock()
	keys := c.known[credential]
	c.mu.RUnlock()
	if keys == nil {
		return ctx
	}
	return store.Ahead(ctx, s, keys...)
}

// remember keeps where the rows of p's credential are: its own, those of who p is, and
// his org's.
func (c *credentialRows) remember(credential [sha256.Size]byte, own string, p access.Principal) {
	c.mu.RLock()
	known := c.known[credential] != nil
	c.mu.RUnlock()
	if known {
		return
	}
	keys := []string{own, layout.Org(p.OrgID)}
	switch p.Kind {
	case access.Agent:
		keys = append(keys, layout.Agent(p.OrgID, p.ID))
	case access.User:
		keys = append(keys, layout.User(p.ID))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) == maxCredentialRows {
		c.known = map[[sha256.Size]byte][]string{}
	}
	c.known[credential] = keys
}
