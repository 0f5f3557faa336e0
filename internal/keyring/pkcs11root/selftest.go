//go:build cgo && !windows

package pkcs11root

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/keyfold/keyfold/internal/aead"
)

// selfTest wraps and unwraps with a key that goes with the session, and fails
// unless what was changed, or bound to another AAD, does not unwrap, and two
// wraps of one DEK differ.
func (r *Root) selfTest(_ *conn, s session) error {
	h, err := r.generate(s, false, "keyfold self-test", []byte("keyfold self-test"))
	if err != nil {
		return err
	}
	defer r.lib.DestroyObject(s, h)
	dek, aad := aead.GenerateRaw(), []byte("keyfold self-test")
	one, err := r.wrap(s, h, dek, aad)
	if err != nil {
		return err
	}
	two, err := r.wrap(s, h, dek, aad)
	if err != nil {
		return err
	}
	if bytes.Equal(one[:nonceSize], two[:nonceSize]) || bytes.Equal(one[nonceSize:], two[nonceSize:]) {
		return errors.New("it uses a nonce twice")
	}
	if got, err := r.unwrap(s, h, one, aad); err != nil || !bytes.Equal(got, dek) {
		return fmt.Errorf("it does not unwrap what it wrapped: %v", err)
	}
	for _, at := range []int{0, nonceSize, wrappedSize - 1} {
		bad := bytes.Clone(one)
		bad[at] ^= 1
		if _, err := r.unwrap(s, h, bad, aad); err == nil {
			return errors.New("it unwraps what was changed")
		}
	}
	if _, err := r.unwrap(s, h, one, []byte("another")); err == nil {
		return errors.New("it unwraps under another AAD")
	}
	return nil
}
