package roottest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// SoftHSM is a SoftHSM of a test's own, in a directory of its own, with one
// token. Tests with one cannot run in parallel: SOFTHSM2_CONF names it.
type SoftHSM struct {
	Library string // path of the PKCS#11 library
	Dir     string // of the tokens
	Token   string // label
	PIN     string
	pinFile string
}

// NewSoftHSM makes a SoftHSM. Where it is not installed the test is skipped, or
// fails under CI=true.
func NewSoftHSM(t testing.TB) SoftHSM {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	h := SoftHSM{Library: library(t), Dir: filepath.Join(dir, "tokens"), Token: "keyfold", PIN: "canary-pin-73190", pinFile: filepath.Join(dir, "pin")}
	err := errors.Join(os.Mkdir(h.Dir, 0o700), os.WriteFile(h.pinFile, []byte(h.PIN+"\n"), 0o600),
		os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nlog.level = ERROR\n", h.Dir), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	h.InitToken(t, h.Token)
	return h
}

// InitToken makes a token of this label in a free slot, with the same PIN.
func (h SoftHSM) InitToken(t testing.TB, label string) {
	t.Helper()
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "so-pin-1234", "--pin", h.PIN).CombinedOutput()
	if err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
}

// URI is the token as rootspec takes it.
func (h SoftHSM) URI() string {
	return fmt.Sprintf("pkcs11:token=%s?module-path=%s&pin-source=file:%s", url.PathEscape(h.Token), h.Library, h.pinFile)
}

func library(t testing.TB) string {
	t.Helper()
	_, err := exec.LookPath("softhsm2-util")
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so"} {
		if _, no := os.Stat(path); no == nil && err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("SoftHSM is not installed, and CI skips nothing: run scripts/deps.sh")
	}
	t.Skip("SoftHSM is not installed: run scripts/deps.sh (Debian: apt-get install softhsm2)")
	return ""
}
