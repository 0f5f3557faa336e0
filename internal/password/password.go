// Package password hashes passwords with Argon2id, at most so many at once.
//
// A hash is kept as a PHC string:
//
//	$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>
//
// with m in KiB, and a salt of 16 and a hash of 32 bytes in base64 without
// padding. The default parameters are OWASP's: 19 MiB, two passes, one lane,
// about 26 ms of one core. Verify reports a hash that has others as stale, so
// that its owner's next sign-in can replace it.
//
// Hashing is what an attacker makes a server do: as many run at once as there
// are processors, some more wait, and the rest are turned away. It trusts its
// caller with the hashes and keeps nothing.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"runtime"
	"sync/atomic"

	"golang.org/x/crypto/argon2"
)

// ErrBusy says that too many hashes are waiting already; try again in a second.
var ErrBusy = errors.New("password: too many sign-ins at once")

// ErrDamaged says that a stored hash is no PHC string of ours.
var ErrDamaged = errors.New("password: the stored hash is damaged")

// waiting is how many hashes may wait for each that runs: about a second's.
const waiting = 32

const (
	saltSize = 16
	hashSize = 32
)

// Hasher hashes and verifies. It may be used by many goroutines.
type Hasher struct {
	params Params
	slots  chan struct{}
	queue  atomic.Int64 // hashes that run or wait
	hashes atomic.Int64 // done so far
}

// New returns a Hasher that makes hashes with p; zero fields have OWASP's value.
func New(p Params) *Hasher {
	return &Hasher{params: p.withDefaults(), slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// Hashes is how many hashes were made, those of Verify among them.
func (h *Hasher) Hashes() int64 { return h.hashes.Load() }

// Hash returns the PHC string of a password. Errors: ErrBusy, those of ctx.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails: see crypto/rand
	sum, err := h.key(ctx, password, salt, h.params)
	if err != nil {
		return "", err
	}
	return phc{h.params, salt, sum}.String(), nil
}

// Verify reports whether text is the PHC string of a password, and whether it is
// stale: made with other parameters than Hash makes. An empty text is no
// password's, and that takes as long to find out. Errors: ErrDamaged, ErrBusy,
// those of ctx.
func (h *Hasher) Verify(ctx context.Context, text, password string) (ok, stale bool, err error) {
	want := phc{h.params, make([]byte, saltSize), make([]byte, hashSize)}
	if text != "" {
		if want, err = parse(text); err != nil {
			return false, false, err
		}
	}
	sum, err := h.key(ctx, password, want.salt, want.params)
	if err != nil {
		return false, false, err
	}
	ok = subtle.ConstantTimeCompare(sum, want.hash) == 1 && text != ""
	return ok, ok && want.params != h.params, nil
}

// key runs Argon2id when its turn has come.
func (h *Hasher) key(ctx context.Context, password string, salt []byte, p Params) ([]byte, error) {
	defer h.queue.Add(-1)
	if h.queue.Add(1) > int64(cap(h.slots)*(1+waiting)) {
		return nil, ErrBusy
	}
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()
	h.hashes.Add(1)
	return idKey([]byte(password), salt, p.Passes, p.Memory, p.Lanes, hashSize), nil
}

var idKey = argon2.IDKey // a test looks into it
