//go:build !cgo || windows

package pkcs11root

import (
	"strings"
	"testing"
)

func TestABinaryWithoutCgoSaysSo(t *testing.T) {
	if r, err := Open(t.Context(), Config{}); r != nil || err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("%v, %v", r, err)
	}
}
