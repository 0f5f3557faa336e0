//go:build unix

package private

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAKeyIsReadAsItWasMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	made := bytes.Repeat([]byte{0xAB}, keySize)
	if err := CreateKey(path, "# a comment\n# and more\n", made); err != nil {
		t.Fatal(err)
	}
	if text := must(os.ReadFile(path))(t); string(text) != "# a comment\n# and more\n"+key64+"\n" {
		t.Errorf("%q", text)
	}
	key := must(ParseKey(must(Read(path, "thing"))(t), "thing"))(t)
	if !bytes.Equal(key, made) {
		t.Errorf("%x", key)
	}
}

func TestOnlyOneWholeKeyIsAKeyFile(t *testing.T) {
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xAB}, n)) }
	for _, text := range []string{
		key64, key64 + "\n", "# c\n\n" + key64 + "\n# d\n", "\r\n" + key64 + "\r\n", "  " + key64 + "\t\n",
		strings.Repeat("#\n", (maxSecret-44)/2) + key64,
	} {
		if key, err := ParseKey([]byte(text), "thing"); err != nil || len(key) != keySize {
			t.Errorf("%.60q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "\n", "# only words\n", "#" + key64, b64(31), b64(33), b64(16), b64(64), b64(0),
		key64 + key64, key64 + "\n" + key64, key64 + "\nx", "x\n" + key64, key64[:43], key64[1:], key64 + "=", "=" + key64,
		strings.TrimRight(key64, "="), key64[:42] + "t=", // bits beyond the last byte
		strings.ReplaceAll(key64, "q", "-"), key64[:20] + "\n" + key64[20:], key64[:20] + " " + key64[20:], key64[:20] + "\x00" + key64[21:],
		strings.Repeat("ab", 32),
	} {
		key, err := ParseKey([]byte(text), "thing")
		if key != nil || err == nil || !strings.Contains(err.Error(), "the thing must hold one line") || strings.Contains(err.Error(), key64[:8]) {
			t.Errorf("%.60q: %d bytes, %v", text, len(key), err)
		}
	}
}
