package client

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
)

// KeySource returns the CMEK key with this fingerprint. A source that has no
// such key returns any key that it has, so that the error can tell which, or
// nil. The fingerprint is empty when the server did not say which key it was;
// the source then returns the key to try. It is empty also before a write to a
// vault that is not sealed: a key, or an error, keeps the value here
// ([ErrNotSealed]), nil lets it go.
type KeySource func(ctx context.Context, fingerprint string) (CMEK, error)

func fixedKeys(keys []CMEK) KeySource {
	return func(_ context.Context, fingerprint string) (CMEK, error) {
		for _, k := range keys {
			if k.Fingerprint() == fingerprint {
				return k, nil
			}
		}
		if len(keys) > 0 {
			return keys[0], nil
		}
		return nil, nil
	}
}

// KeyError says that a value, or a write to a vault, needs a CMEK key that the
// client was not given.
type KeyError struct {
	Fingerprint string // of the key that is needed; empty when the server did not say
	Given       string // of the key that was given; empty when there was none

	of string // what is under the key: vault or thread; empty: a value
}

// Error names both keys by their fingerprints.
func (e *KeyError) Error() string {
	what, need := cmp.Or(e.of, "value"), "with a CMEK key"
	if e.Fingerprint != "" {
		need = "with the CMEK key " + e.Fingerprint
	}
	if e.Given == "" {
		return fmt.Sprintf("the %s is sealed %s and no key was given", what, need)
	}
	return fmt.Sprintf("the %s is sealed %s; the key that was given is %s", what, need, e.Given)
}

// ErrUnsealed is the answer to a write to a vault that this client has seen
// sealed and that is not sealed any more: somebody else disabled CMEK, or the
// server pretends so. A new Client accepts the new state.
var ErrUnsealed = errors.New("client: the vault was sealed and now is not; the value was not sent in the clear")

// ErrUnbound is the answer to a write to a vault that this client has seen take
// bound blobs and that takes unbound ones now, under the same key: somebody else
// disabled CMEK and enabled it anew, or the server pretends so, to move a blob to
// another path. A new Client accepts the new state.
var ErrUnbound = errors.New("client: the vault took bound blobs and now does not; nothing was sent")

// ErrNotSealed is the answer to a write to a vault that is not sealed, by a
// client that has a CMEK key: CMEK was never enabled, or the server pretends
// so. Nothing was sent. PutOptions.AllowUnsealed says that it is meant.
var ErrNotSealed = errors.New("client: a CMEK key is given and the vault is not sealed; the value was not sent in the clear")

// mayBeOpen returns nil when there is no key that a value could be sealed with.
func (c *Client) mayBeOpen(ctx context.Context) error {
	k, err := c.keys(ctx, "")
	if err != nil {
		return fmt.Errorf("client: getting the CMEK key: %w", err)
	}
	if k != nil {
		return ErrNotSealed
	}
	return nil
}

// key returns the key with the fingerprint, and a *KeyError when the source has another or none.
func (c *Client) key(ctx context.Context, fingerprint string) (CMEK, error) {
	k, err := c.keys(ctx, fingerprint)
	if err != nil {
		return nil, fmt.Errorf("client: getting the CMEK key: %w", err)
	}
	if k == nil {
		return nil, &KeyError{Fingerprint: fingerprint}
	}
	if fingerprint != "" && k.Fingerprint() != fingerprint {
		return nil, &KeyError{Fingerprint: fingerprint, Given: k.Fingerprint()}
	}
	return k, nil
}

// ErrKeyCheck is the answer to a write with a key whose fingerprint is the
// vault's, but which did not make the vault's key check. Nothing was sent.
var ErrKeyCheck = errors.New("client: the key has the fingerprint that the server names for this vault, but not the key check that was stored when CMEK was enabled; nothing was sent")

// vaultState is what a write must know of a vault.
type vaultState struct {
	fingerprint string // of the vault's CMEK key; empty when it is not sealed
	next        string // of the key that a rotation brings; empty without one
	blobVersion int    // 2: writes bring bound blobs
	check       string // the key check of fingerprint's key; empty when the vault keeps none
	until       time.Time
	stale       bool // the server contradicted; ask again
}

// openStateLives bounds how long a vault is believed not to be sealed. A value
// that is sent so to a vault that somebody has sealed meanwhile is refused, but
// has left in the clear.
const openStateLives = time.Minute

func (s vaultState) usable(now time.Time) bool {
	return !s.stale && (s.fingerprint != "" || now.Before(s.until))
}

// state returns the vault's state, remembered or asked for.
func (c *Client) state(ctx context.Context, vaultID string) (vaultState, error) {
	c.mu.Lock()
	old := c.sealed[vaultID]
	c.mu.Unlock()
	if old.usable(time.Now()) {
		return old, nil
	}
	v, err := c.cmekStatus(ctx, vaultID, url.Values{"keys": {"false"}})
	if err != nil {
		return vaultState{}, err
	}
	return c.remember(vaultID, v, false)
}

// remember keeps what the server says of the vault that was asked for. Answers
// may come in another order than they were made: none turns a sealed vault into
// an open one, but that to our own DisableCMEK.
func (c *Client) remember(vaultID string, v api.CMEKStatus, weDisabled bool) (vaultState, error) {
	s := vaultState{until: time.Now().Add(openStateLives)}
	if v.Enabled {
		s.fingerprint, s.check, s.blobVersion = strings.ToLower(v.Fingerprint), v.KeyCheck, v.BlobVersion
		if s.fingerprint == "" {
			return s, errors.New("client: the server says that the vault is sealed and not with which key")
		}
		if v.Rotation != nil {
			s.next = v.Rotation.NewFingerprint
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.fingerprint == "" && c.sealed[vaultID].fingerprint != "" && !weDisabled {
		return vaultState{}, ErrUnsealed
	}
	if had := c.sealed[vaultID]; had.blobVersion == 2 && s.blobVersion != 2 && s.fingerprint == had.fingerprint && !weDisabled {
		return vaultState{}, ErrUnbound
	}
	c.sealed[vaultID] = s
	return s, nil
}

// doubt marks what is remembered of a vault as contradicted; that it was
// sealed is not forgotten.
func (c *Client) doubt(vaultID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sealed[vaultID]
	s.stale = true
	c.sealed[vaultID] = s
}

// contradicts reports an error that shows the remembered state to be wrong, or
// that a state from a minute ago must not decide. Nothing was stored then.
func contradicts(err error) bool {
	return errors.Is(err, ErrNotSealed) || hasType(err, api.ProblemCMEKKeyMismatch) || hasType(err, api.ProblemCMEKBlobRequired)
}

// sealer returns the key to seal a new version with: the vault's, or, while it
// is rotated, the next one if the client has it. *KeyError: it has neither.
func (c *Client) sealer(ctx context.Context, vaultID string, s vaultState) (CMEK, error) {
	if s.next != "" {
		if k, err := c.key(ctx, s.next); err == nil {
			return k, nil
		}
	}
	k, err := c.key(ctx, s.fingerprint)
	if e, ok := err.(*KeyError); ok {
		e.of = "vault"
	}
	if err != nil {
		return nil, err
	}
	return k, checkKey(ctx, k, vaultID, s.check)
}

// checkKey returns ErrKeyCheck when k can tell that it did not make check.
func checkKey(ctx context.Context, k CMEK, vaultID, check string) error {
	checker, ok := k.(KeyChecker)
	if !ok || check == "" {
		return nil
	}
	own, err := checker.Check(ctx, vaultID)
	if err == nil && subtle.ConstantTimeCompare([]byte(own), []byte(strings.ToLower(check))) == 0 {
		err = ErrKeyCheck
	}
	return err
}
