//go:build cgo && !windows

package pkcs11root

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
)

const pin = "canary-pin-73190"

var (
	ctx = context.Background()
	dek = bytes.Repeat([]byte{7}, aead.KeySize)
	aad = []byte("the caller's")
)

// hsm is a SoftHSM of the test's own, with one token.
type hsm struct {
	testing.TB
	dir    string // of the tokens
	config Config
}

// softHSM returns the paths of SoftHSM's library and tool, or skips.
func softHSM(t testing.TB) (library, tool string) {
	t.Helper()
	tool, err := exec.LookPath("softhsm2-util")
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so"} {
		if _, no := os.Stat(path); no == nil && err == nil {
			return path, tool
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("SoftHSM is not installed, and CI must not skip: run scripts/deps.sh")
	}
	t.Skip("SoftHSM is not installed: run scripts/deps.sh (Debian: apt-get install softhsm2)")
	return "", ""
}

func newHSM(t testing.TB) *hsm {
	t.Helper()
	library, _ := softHSM(t)
	dir := t.TempDir()
	h := &hsm{TB: t, dir: filepath.Join(dir, "tokens")}
	h.must(os.Mkdir(h.dir, 0o700))
	conf := filepath.Join(dir, "softhsm2.conf")
	h.must(os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nlog.level = ERROR\n", h.dir), 0o600))
	t.Setenv("SOFTHSM2_CONF", conf)
	h.initToken("keyfold")
	h.config = Config{Module: library, Token: "keyfold", PIN: func() ([]byte, error) { return []byte(pin), nil }}
	return h
}

func (h *hsm) initToken(label string) {
	h.Helper()
	_, tool := softHSM(h)
	out, err := exec.Command(tool, "--init-token", "--free", "--label", label, "--so-pin", "so-pin-1234", "--pin", pin).CombinedOutput()
	if err != nil {
		h.Fatalf("%s: %v: %s", tool, err, out)
	}
}

func (h *hsm) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// open returns a Root on the token, which tries again at once when it is away.
func (h *hsm) open() *Root {
	h.Helper()
	return h.openOver(func(lib cryptoki) cryptoki { return lib })
}

func (h *hsm) openOver(over func(cryptoki) cryptoki) *Root {
	h.Helper()
	r, err := open(h.config, over)
	h.must(err)
	h.Cleanup(r.Wipe)
	r.pause = 0
	return r
}

func (h *hsm) kek(r *Root, name keyring.Name) (keyring.KEK, []byte) {
	h.Helper()
	stored, err := r.MakeKEK(ctx, name)
	h.must(err)
	k, err := r.LoadKEK(ctx, name, stored)
	h.must(err)
	return k, stored
}

func (h *hsm) wrap(k keyring.KEK) []byte {
	h.Helper()
	wrapped, err := k.Wrap(dek, aad)
	h.must(err)
	return wrapped
}

func (h *hsm) mustUnwrap(k keyring.KEK, wrapped []byte) {
	h.Helper()
	got, err := k.Unwrap(wrapped, aad)
	if err != nil || !bytes.Equal(got, dek) {
		h.Fatalf("it does not unwrap its own: %v", err)
	}
}

func (h *hsm) mustBeAway(what string, err error) {
	h.Helper()
	if !errors.Is(err, fault.Unavailable) || errors.Is(err, aead.ErrOpen) {
		h.Errorf("%s: %v (%v); want fault.Unavailable", what, err, errors.Unwrap(err))
	}
}
