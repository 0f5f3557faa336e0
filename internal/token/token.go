// Package token issues and verifies the texts that stand for a sign-in: access
// tokens, which are JWTs signed with Ed25519 (claims.go), the refresh tokens of
// a session (refresh.go), and one-time texts of what is half done (challenge.go).
//
// It owns the rows of layout/token.go and the sealed rows of kind "tokenkey".
// Signing keys lie sealed by the KMS, and everything that verifies is derived
// from what the KMS opened: whoever has the store alone can neither sign nor
// bring in a key of his own. It does trust the store not to lose a row, such as
// one that says that a token is revoked, and the clocks of the servers that
// share it to within Leeway.
//
// Of a text only the SHA-256 is stored. Everything answered without an error is
// on stable storage, each change is one commit, and a crash leaves nothing half
// done. Rows whose end is past are removed a few at a time by the commits that
// make new ones.
package token

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
)

// Config is what a Service stands on.
type Config struct {
	Store store.Store
	Box   *sealed.Box
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: slog.Default()
}

// Service issues and verifies. It may be used by many goroutines, and many
// servers may share one store.
type Service struct {
	store  store.Store
	box    *sealed.Box
	now    func() time.Time
	log    *slog.Logger
	parser *jwt.Parser
	cache  cache

	keys atomic.Pointer[keys] // as last read; nil: never

	mu   sync.Mutex // is held while the keys are read again
	last atomic.Pointer[reading]
}

// New returns a Service. It reads nothing yet, and has nothing to close.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &Service{store: c.Store, box: c.Box, now: c.Now, log: c.Log}
	s.parser = newParser(c.Now)
	return s
}

// textBytes is how many bytes a text stands for.
const textBytes = 32

// newText returns the text of begin and of random bytes after it.
func newText(prefix string, begin []byte) string {
	raw := make([]byte, textBytes)
	rand.Read(raw[copy(raw, begin):]) // never fails: see crypto/rand
	return prefix + base64.RawURLEncoding.EncodeToString(raw)
}

// parseText returns the bytes of a text of this prefix. There is one text per
// value: the last character may not hold bits that mean nothing.
func parseText(prefix, text string) (raw []byte, ok bool) {
	body, ok := strings.CutPrefix(text, prefix)
	if !ok || len(body) != base64.RawURLEncoding.EncodedLen(textBytes) {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	return raw, err == nil && len(raw) == textBytes
}

func hash[T string | []byte](text T) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

const (
	keep  = time.Hour // how long a row outlives its end, for clocks that are behind
	sweep = 32        // entries that one commit removes at most; each adds one or two
)

// ends adds to b that the row under key, and other unless it is empty, end at t.
func ends(b *store.Batch, t time.Time, key, other string) {
	b.Put(layout.TokenEnd(t, key), []byte(other))
}

// commit applies b, after the removal of some rows that are past, which b may
// put again.
func (s *Service) commit(ctx context.Context, b *store.Batch) error {
	past := store.Range{Start: layout.TokenEnds(time.Time{}), End: layout.TokenEnds(s.now().Add(-keep))}
	recs, err := s.store.Scan(ctx, past, store.ScanOptions{Limit: sweep})
	if err != nil {
		return err
	}
	all := store.Batch{Preconditions: b.Preconditions}
	for _, rec := range recs {
		all.Delete(rec.Key)
		all.Delete(layout.TokenEnding(rec.Key))
		if len(rec.Value) > 0 {
			all.Delete(string(rec.Value))
		}
	}
	all.Writes = append(all.Writes, b.Writes...)
	_, err = s.store.Commit(ctx, &all)
	return err
}

// retry runs try until its commit meets no other, and names its error.
func retry(ctx context.Context, try func() error) error { return store.Fault(store.Retry(ctx, try)) }

// damaged names a row that does not parse. The cause is left out: it may quote the row.
func damaged(key string) error {
	return fault.New(fault.Damaged, "a row of package token is damaged (%s); restore the store from a backup", key)
}

func isAbsent(err error) bool { return errors.Is(err, store.ErrNotFound) }
