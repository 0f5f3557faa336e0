//go:build unix

package keyring

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var key64 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xAB}, 32))

func writeFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAMadeRootFileIsPrivateAndOpensWhatItMade(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "root.key")
	root := must(CreateFileRoot(path))(t)
	if info := must(os.Stat(path))(t); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	row := newRing(t, root, "a").Marshal()
	if _, err := Parse(ctx, must(OpenFileRoot(path))(t), "a", row); err != nil {
		t.Errorf("the same file opened again: %v", err)
	}
	text := string(must(os.ReadFile(path))(t))
	if !strings.HasPrefix(text, "# Keyfold root key") || strings.Count(text, "\n") != 4 {
		t.Errorf("%d lines", strings.Count(text, "\n"))
	}
}

func TestTwoMadeRootsDiffer(t *testing.T) {
	row := newRing(t, newRoot(t), "a").Marshal()
	r, err := Parse(ctx, newRoot(t), "a", row)
	mustBeDamaged(t, "another made root", r, err)
}

// The tests of package private say what more a root key file must be.
func TestWhatIsNoRootFileIsRefusedWithAdvice(t *testing.T) {
	for path, want := range map[string]string{
		writeFile(t, key64, 0o644):                              "chmod 600",
		writeFile(t, "# only words\n", 0o600):                   "restore it from its backup",
		writeFile(t, key64+strings.Repeat("#\n", 2<<10), 0o600): "is over",
		filepath.Join(t.TempDir(), "none"):                      "unless this is a first start",
	} {
		root, err := OpenFileRoot(path)
		if root != nil || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), key64[:8]) {
			t.Errorf("%v; want %q", err, want)
		}
		if _, err := CreateFileRoot(path); errors.Is(err, fs.ErrExist) == (want == "unless this is a first start") {
			t.Errorf("made over it: %v", err)
		}
	}
}

func TestAWipedRootOpensAndMakesNothing(t *testing.T) {
	root := newRoot(t)
	r := newRing(t, root, "a")
	root.Wipe()
	if _, err := New(ctx, root, "b", day); err == nil {
		t.Error("a wiped root makes a KEK")
	}
	if _, err := Parse(ctx, root, "a", r.Marshal()); err == nil {
		t.Error("a wiped root loads a KEK")
	}
	w, n := wrap(t, r)
	mustUnwrap(t, r, n, w) // what was loaded stays
}
