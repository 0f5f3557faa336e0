//go:build !cgo || windows

package pkcs11root

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/internal/keyring"
)

// Open fails: this binary cannot load a PKCS#11 library.
func Open(context.Context, Config) (keyring.Root, error) {
	return nil, errors.New("this binary was built without cgo, which leaves PKCS#11 out; build it with CGO_ENABLED=1 (and not for Windows), or name another root")
}
