//go:build cgo && !windows

package pkcs11root

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/miekg/pkcs11"
)

var (
	errAway     = errors.New("the token does not do what it is asked") // do connects again and asks once more
	errPIN      = errors.New("the token does not accept the PIN")      // never tried again: a token locks after a few
	errReplaced = errors.New("another token is in its place")
	errWiped    = errors.New("the root was wiped")
)

func away(cause error) error { return fmt.Errorf("%w: %w", errAway, cause) }

// conn is a login on the token: its sessions, and the handles that are valid in
// them.
type conn struct {
	epoch int // of the module
	slot  uint
	all   []session
	free  chan session

	mu      sync.Mutex
	handles map[string]object // by CKA_ID
}

// do calls f with a session. If f fails with errAway, do connects again and
// calls f once more.
func (r *Root) do(f func(*conn, session) error) error {
	c, err := r.try(f)
	if errors.Is(err, errAway) {
		if err = r.reconnect(c, err); err == nil {
			_, err = r.try(f)
		}
	}
	return named(err)
}

func (r *Root) try(f func(*conn, session) error) (*conn, error) {
	r.mod.use.RLock()
	defer r.mod.use.RUnlock()
	c := r.conn
	switch {
	case r.wiped:
		return c, errWiped
	case c == nil:
		return c, away(errors.New("no connection"))
	case c.epoch != r.mod.epoch:
		return c, away(errors.New("the library was started again"))
	}
	s := <-c.free
	defer func() { c.free <- s }()
	return c, f(c, s)
}

// reconnect replaces old, which failed with cause, unless that was done since.
// Between two tries is a pause, so that a token which is away is not asked by
// every call. A token whose library is started again to find it disturbs the
// other Roots of that library for one call: their do sees that and connects.
func (r *Root) reconnect(old *conn, cause error) error {
	r.mod.use.Lock()
	defer r.mod.use.Unlock()
	switch {
	case r.wiped:
		return errWiped
	case r.conn != old:
		return nil
	case errors.Is(r.last, errPIN):
		return away(r.last)
	case time.Since(r.tried) < r.pause:
		return away(errors.Join(cause, r.last))
	}
	r.disconnect()
	r.last = r.connect()
	if r.last != nil && !errors.Is(r.last, errPIN) {
		if r.last = r.mod.restart(); r.last == nil {
			r.last = r.connect()
		}
	}
	r.tried = time.Now()
	if r.last != nil {
		return away(r.last)
	}
	return nil
}

// disconnect closes the sessions. mod.use is held.
func (r *Root) disconnect() {
	if r.conn != nil && r.conn.epoch == r.mod.epoch {
		for _, s := range r.conn.all {
			r.lib.CloseSession(s)
		}
	}
	r.conn = nil
}

// connect finds the token, logs in and learns its objects. mod.use is held.
func (r *Root) connect() error {
	slot, info, err := r.findToken()
	if err != nil {
		return err
	}
	if r.serial != "" && info.SerialNumber != r.serial {
		return fmt.Errorf("%w: token %q has the serial number %s and had %s; put the former one back", errReplaced, info.Label, info.SerialNumber, r.serial)
	}
	c := &conn{epoch: r.mod.epoch, slot: slot, free: make(chan session, r.cfg.Sessions), handles: map[string]object{}}
	r.conn = c
	if err := r.openSessions(c, info); err != nil {
		r.disconnect()
		return err
	}
	r.serial = info.SerialNumber
	return nil
}

func (r *Root) openSessions(c *conn, info pkcs11.TokenInfo) error {
	for range r.cfg.Sessions {
		s, err := r.lib.OpenSession(c.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			return fmt.Errorf("open session %d of %d on token %q: %w", len(c.all)+1, r.cfg.Sessions, info.Label, err)
		}
		c.all = append(c.all, s)
		c.free <- s
	}
	if err := r.login(c.all[0], info); err != nil {
		return err
	}
	return r.index(c)
}

func (r *Root) login(s session, info pkcs11.TokenInfo) error {
	if info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0 {
		return fmt.Errorf("%w: token %q locks itself after one more wrong PIN; log in with the token's own tool once, and start again", errPIN, info.Label)
	}
	pin, err := r.cfg.PIN()
	if err != nil {
		return fmt.Errorf("read the PIN of token %q: %w", info.Label, err)
	}
	defer clear(pin)
	switch err := r.lib.login(s, pin); {
	case err == nil, errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)):
		return nil
	case isPINError(err):
		return fmt.Errorf("%w of token %q (%w); correct the PIN and start again: it is not tried a second time", errPIN, info.Label, err)
	default:
		return fmt.Errorf("log in to token %q: %w", info.Label, err)
	}
}

func isPINError(err error) bool {
	code, ok := errors.AsType[pkcs11.Error](err)
	return ok && slices.Contains([]pkcs11.Error{pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE,
		pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED}, code)
}

// findToken returns the one token that cfg describes.
func (r *Root) findToken() (slot uint, info pkcs11.TokenInfo, err error) {
	slots, err := r.lib.GetSlotList(true)
	if err != nil {
		return 0, info, fmt.Errorf("list the tokens of %s: %w", r.cfg.Module, err)
	}
	var found, present []string
	for _, s := range slots {
		i, err := r.lib.GetTokenInfo(s)
		if err != nil || i.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		text := fmt.Sprintf("token=%s serial=%s slot-id=%d", i.Label, i.SerialNumber, s)
		present = append(present, text)
		if r.cfg.matches(s, i) {
			found = append(found, text)
			slot, info = s, i
		}
	}
	switch len(found) {
	case 0:
		return 0, info, fmt.Errorf("%s has no such token; it has: [%s]. Put the token in, or correct token, serial or slot-id", r.cfg.Module, strings.Join(present, "; "))
	case 1:
		return slot, info, nil
	}
	return 0, info, fmt.Errorf("more than one token fits: [%s]; name one by its serial", strings.Join(found, "; "))
}

func (c Config) matches(slot uint, info pkcs11.TokenInfo) bool {
	return (c.Token == "" || c.Token == info.Label) && (c.Serial == "" || c.Serial == info.SerialNumber) && (c.Slot == nil || *c.Slot == slot)
}

// named gives an error of the token the message that a caller may see.
func named(err error) error {
	switch {
	case errors.Is(err, errPIN):
		return fault.Wrap(fault.Unavailable, err, "the root key's token does not accept the PIN; correct it and start the KMS again")
	case errors.Is(err, errReplaced):
		return fault.Wrap(fault.Unavailable, err, "another token, or a newly initialised one, is in the place of the root key's token; put the former one back")
	case errors.Is(err, errAway):
		return fault.Wrap(fault.Unavailable, err, "the root key's token does not answer, or refuses (the KMS's log says why); put it back, and the KMS goes on by itself")
	}
	return err
}
