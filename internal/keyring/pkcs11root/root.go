//go:build cgo && !windows

package pkcs11root

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/miekg/pkcs11"
)

// Root is a token. It may be used by many goroutines. A call that the token's
// library has been given cannot be cancelled.
type Root struct {
	cfg   Config
	mod   *module
	lib   cryptoki // mod's, but for tests
	pause time.Duration

	// guarded by mod.use
	conn   *conn  // nil while the token is away
	serial string // of the token that Open found
	tried  time.Time
	last   error // of the last connect
	wiped  bool
}

// Open logs in to the token and tries it out with a key of the session. Its
// errors name the token and the library's path: they are for the operator at
// start, and no *fault.Error.
func Open(_ context.Context, cfg Config) (keyring.Root, error) {
	r, err := open(cfg, func(lib cryptoki) cryptoki { return lib })
	if err != nil {
		return nil, err // and no Root that holds a nil *Root
	}
	return r, nil
}

func open(cfg Config, over func(cryptoki) cryptoki) (*Root, error) {
	if cfg.Sessions == 0 {
		cfg.Sessions = 2
	}
	if cfg.Sessions < 0 || cfg.Token == "" && cfg.Serial == "" && cfg.Slot == nil || cfg.PIN == nil {
		return nil, errors.New("a PKCS#11 root needs a token, serial or slot-id, a PIN, and at least one session")
	}
	mod, err := acquire(cfg.Module)
	if err != nil {
		return nil, err
	}
	r := &Root{cfg: cfg, mod: mod, lib: over(mod.lib), pause: time.Second}
	if err := r.start(); err != nil {
		r.Wipe()
		return nil, err
	}
	return r, nil
}

func (r *Root) start() error {
	r.mod.use.Lock()
	err := r.connect()
	r.mod.use.Unlock()
	if err != nil {
		return err
	}
	if _, err := r.try(r.selfTest); err != nil {
		return fmt.Errorf("the token is not fit to be a root: %w", err)
	}
	return nil
}

// Kind returns "pkcs11".
func (r *Root) Kind() string { return "pkcs11" }

// Check asks the token whether it is there, and connects again if not. It fails
// with fault.Unavailable.
func (r *Root) Check(context.Context) error { return r.do(r.present) }

// present fails with errAway unless the token can be believed when it says that
// it has no such object. Who is not logged in sees no private object, and
// SoftHSM without its files none at all: then the objects that were there are
// gone, too.
func (r *Root) present(c *conn, s session) error {
	info, err := r.lib.GetSessionInfo(s)
	switch {
	case err != nil:
		return away(err)
	case info.State != pkcs11.CKS_RW_USER_FUNCTIONS:
		return away(errors.New("not logged in"))
	}
	if h, ok := c.any(); ok {
		if _, err := r.lib.GetAttributeValue(s, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, nil)}); err != nil {
			return away(fmt.Errorf("look at a key that was there: %w", err))
		}
	}
	return nil
}

// Wipe logs out and lets go of the library. KEKs that it loaded become unusable.
func (r *Root) Wipe() {
	r.mod.use.Lock()
	wiped := r.wiped
	r.disconnect()
	r.wiped = true
	r.mod.use.Unlock()
	if !wiped {
		r.mod.release()
	}
}

// nameSize is the length of the random part of an object's name, in bytes.
const nameSize = 16

// objectID is the CKA_ID of a KEK's object (32 bytes): it binds what the keyring
// stores, random bytes, to the KEK's ID and version, so that they name nothing
// under another.
func objectID(name keyring.Name, stored []byte) []byte {
	id := sha256.Sum256(aead.AAD("keyfold/pkcs11-kek/v1", name.KEKID, fmt.Sprint(name.Version), string(stored)))
	return id[:]
}

// MakeKEK makes a KEK inside the token and returns the random part of its name (16 bytes).
func (r *Root) MakeKEK(_ context.Context, name keyring.Name) (stored []byte, err error) {
	err = r.do(func(c *conn, s session) error {
		stored = make([]byte, nameSize)
		rand.Read(stored)
		id := objectID(name, stored)
		h, err := r.generate(s, true, fmt.Sprintf("keyfold %s v%d", name.KEKID, name.Version), id)
		if err == nil {
			c.remember(id, h)
		}
		return err
	})
	return stored, err
}

// LoadKEK returns the KEK whose object stored names.
func (r *Root) LoadKEK(_ context.Context, name keyring.Name, stored []byte) (keyring.KEK, error) {
	k := &kek{root: r, id: objectID(name, stored)}
	err := r.do(func(c *conn, s session) error {
		h, err := r.find(c, s, k.id)
		if err == nil {
			err = r.checkAttributes(s, h)
		}
		return err
	})
	if errors.Is(err, errNoObject) || errors.Is(err, errWeak) {
		err = fmt.Errorf("%w: %w", aead.ErrOpen, err)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// DestroyKEK destroys the KEK's object. That it is gone already is believed of a
// search alone: a handle is invalid as well when the token is away.
func (r *Root) DestroyKEK(_ context.Context, name keyring.Name, stored []byte) error {
	id := objectID(name, stored)
	err := r.do(func(c *conn, s session) error {
		h, err := r.find(c, s, id)
		if err != nil {
			return err
		}
		c.forget(id)
		if err := r.lib.DestroyObject(s, h); err != nil {
			return away(err)
		}
		return nil
	})
	if errors.Is(err, errNoObject) {
		return nil
	}
	return err
}
