package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/cmek/keyshare"
)

// Neither the key, nor the passphrase, nor a share's value is printed, whether a
// command succeeds or not, and the files hold no more than they should.
func TestBackupsAndSharesPrintNoSecret(t *testing.T) {
	const passphrase = "canary-of-a-passphrase"
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	sh := &shell{t: t, env: map[string]string{"KEYFOLD_CMEK_KEY_FILE": in("my.key")}}
	sh.run("cmek", "keygen", "--out", in("my.key"))
	sh.try(passphrase, "cmek", "export", "--passphrase", "--out", in("backup"))
	sh.try(passphrase, "cmek", "import", in("backup"), "--out", in("back.key"))
	sh.try(passphrase, "cmek", "import", in("my.key"))
	sh.try("canary", "cmek", "export", "--passphrase")
	sh.run("cmek", "split", "--threshold", "2", "--shares", "2", "--out", in("s"))
	shares := []string{in("s-1-of-2.share"), in("s-2-of-2.share")}
	sh.run("cmek", "combine", shares[0], shares[1], "--out", in("combined.key"))
	sh.try("", "cmek", "combine", shares[0])
	sh.try("", "cmek", "combine", in("my.key"), in("backup"))
	sh.try("", "cmek", "combine", shares[1], writeTemp(t, "bad", strings.TrimSuffix(readTemp(t, shares[0]), "=\n")))

	forbidden := append(keyTexts(t, in("my.key")), passphrase, "canary")
	for _, file := range append(shares, in("backup")) {
		for _, text := range forbidden {
			if strings.Contains(readTemp(t, file), text) {
				t.Errorf("%s holds %q", file, text)
			}
		}
	}
	for _, file := range shares {
		_, value, _ := strings.Cut(readTemp(t, file), "\nvalue: ")
		if _, err := keyshare.Parse([]byte(readTemp(t, file))); err != nil || len(value) != 45 {
			t.Fatalf("%s: no value found to look for: %v", file, err)
		}
		forbidden = append(forbidden, strings.TrimSpace(value))
	}
	for _, text := range forbidden {
		if strings.Contains(sh.all.String(), text) {
			t.Errorf("the output holds %q", text)
		}
	}
}

func readTemp(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
