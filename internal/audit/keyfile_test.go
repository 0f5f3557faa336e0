package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
)

func TestAKeyFileIsMadeOnceAndReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.key")
	keys := make([]ed25519.PrivateKey, 8)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			key, err := OpenOrCreateKeyFile(path)
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	all.Wait()
	for _, key := range keys {
		if !bytes.Equal(key, keys[0]) {
			t.Error("two who asked at once have two keys")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), FormatPublicKey(keys[0].Public().(ed25519.PublicKey))) {
		t.Error("the file does not name the public key")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("beside the file there is more: %v", left)
	}
}

// The tests of package private say what more a key file must be.
func TestAKeyFileThatIsNotOneIsRefusedWithAdvice(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"readable by the group":  {key, 0o640, "chmod 600"},
		"no key":                 {"# nothing\n", 0o600, "restore it from its backup"},
		"empty":                  {"", 0o600, "restore it from its backup"},
		"a key and a large rest": {key + "\n" + strings.Repeat("#", 4<<10), 0o600, "is over"},
	} {
		path := filepath.Join(t.TempDir(), "audit.key")
		if err := errors.Join(os.WriteFile(path, []byte(c.text), 0o600), os.Chmod(path, c.mode)); err != nil {
			t.Fatal(err)
		}
		_, err := OpenOrCreateKeyFile(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), key[:20]) {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile(path); string(after) != c.text {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestAnchorsAndPublicKeysAreReadAsTheyAreWritten(t *testing.T) {
	a := Anchor{Seq: 7, hash: hash{1, 2}}
	if b, err := ParseAnchor(a.String()); b != a || err != nil {
		t.Errorf("%v, %v", b, err)
	}
	for _, bad := range []string{"", "7", "7:", "x:" + zeros, "-1:" + zeros, "7:" + zeros[1:], "7:" + zeros + "0", "7:" + strings.Repeat("A", 64)} {
		if _, err := ParseAnchor(bad); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if key, err := ParsePublicKey(FormatPublicKey(pubOf(1))); !bytes.Equal(key, pubOf(1)) || err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "AAAA", "!", base64.StdEncoding.EncodeToString(make([]byte, 33))} {
		if _, err := ParsePublicKey(bad); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
