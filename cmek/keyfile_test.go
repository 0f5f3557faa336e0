package cmek

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

var testInfo = KeyFileInfo{
	VaultID: "7f1e7d0c-5f43-4c8c-8e0b-6f1d6f0a2b11",
	Created: time.Date(2026, 11, 22, 1, 24, 0, 5e8, time.FixedZone("", 2*3600)),
}

func TestTheKeyFileIsAsFORMATSays(t *testing.T) {
	got, err := MarshalKeyFile(countingKey(t), testInfo)
	want := `# Keyfold CMEK key. It opens what was encrypted under it, and nothing else does: keep it secret, and do not lose it.
# vault: 7f1e7d0c-5f43-4c8c-8e0b-6f1d6f0a2b11
# fingerprint: 630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd
# created: 2026-11-21T23:24:00Z
AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
`
	if err != nil || string(got) != want {
		t.Errorf("MarshalKeyFile = %v\n%s", err, got)
	}
	if doc, err := os.ReadFile("FORMAT.md"); err != nil || !strings.Contains(string(doc), want) {
		t.Errorf("FORMAT.md does not show this file (%v)", err)
	}
}

func TestAKeyFileIsReadBack(t *testing.T) {
	for _, info := range []KeyFileInfo{{}, testInfo, {VaultID: "ключ # fingerprint: x"}, {VaultID: strings.Repeat("v", 200)}} {
		path := filepath.Join(t.TempDir(), "k.key")
		k := Generate()
		if err := WriteKeyFile(path, k, info); err != nil {
			t.Fatal(err)
		}
		got, err := ReadKeyFile(path)
		if err != nil || string(got.Bytes()) != string(k.Bytes()) {
			t.Errorf("%+v: another key came back: %v", info, err)
		}
		if st, _ := os.Stat(path); runtime.GOOS != "windows" && st.Mode() != 0o600 {
			t.Errorf("mode %v, want 0600", st.Mode())
		}
	}
}

func TestWriteKeyFileReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "k.key")
	if err := WriteKeyFile(path, Generate(), KeyFileInfo{}); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	target := filepath.Join(dir, "target")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, link, dir} {
		if err := WriteKeyFile(p, Generate(), KeyFileInfo{}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v, want ErrExist", filepath.Base(p), err)
		}
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the first file changed")
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("a key was written through the link")
	}
}

func TestAFailedWriteLeavesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k.key")
	wiped := Generate()
	wiped.Wipe()
	for why, err := range map[string]error{
		"wiped key":            WriteKeyFile(path, wiped, KeyFileInfo{}),
		"vault ID of 2 lines":  WriteKeyFile(path, Generate(), KeyFileInfo{VaultID: "v\n# fingerprint: x"}),
		"vault ID with CR":     WriteKeyFile(path, Generate(), KeyFileInfo{VaultID: "v\r"}),
		"vault ID with NUL":    WriteKeyFile(path, Generate(), KeyFileInfo{VaultID: "v\x00"}),
		"vault ID not UTF-8":   WriteKeyFile(path, Generate(), KeyFileInfo{VaultID: "\xff"}),
		"vault ID too long":    WriteKeyFile(path, Generate(), KeyFileInfo{VaultID: strings.Repeat("v", 201)}),
		"no such directory":    WriteKeyFile(filepath.Join(path, "x.key"), Generate(), KeyFileInfo{}),
		"an empty path":        WriteKeyFile("", Generate(), KeyFileInfo{}),
		"closed while writing": finish(closedFile(t), []byte("x")),
	} {
		if err == nil {
			t.Errorf("%s: written", why)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
}

func closedFile(t *testing.T) *os.File {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return f
}

func TestEveryCutOfAKeyFileIsRefused(t *testing.T) {
	text, err := MarshalKeyFile(countingKey(t), testInfo)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(text) - 2 { // the padding and the line break may go
		if _, err := ParseKeyFile(text[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are a key file", n, len(text))
		}
	}
}

func TestAKeyWithOneCharacterChangedIsRefused(t *testing.T) {
	text, err := MarshalKeyFile(countingKey(t), testInfo)
	if err != nil {
		t.Fatal(err)
	}
	keyLine := len(text) - 45
	for i := keyLine; i < keyLine+43; i++ {
		changed := []byte(string(text))
		changed[i] ^= 1
		if _, err := ParseKeyFile(changed); err == nil {
			t.Errorf("character %d changed from %q to %q and nobody noticed", i-keyLine, text[i], changed[i])
		}
	}
}

func TestReadKeyFileNamesThePathAndNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k.key")
	if _, err := ReadKeyFile(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	if _, err := ReadKeyFile(filepath.Dir(path)); err == nil {
		t.Error("a directory is a key")
	}
	text := "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= x"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ReadKeyFile(path)
	if !errors.Is(err, ErrKeyEncoding) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), text[:8]) {
		t.Errorf("garbage: %v", err)
	}
}
