package keybackup

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/cmek"
)

// cheap costs the tests little.
var cheap = cost{memory: 8, passes: 1, lanes: 1}

const good = "correct horse battery staple"

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

type vector struct {
	Name, Passphrase, Key, Class string
	File                         []byte
}

func vectors(t testing.TB) []vector {
	t.Helper()
	var all struct {
		Backups []vector `json:"passphrase_files"`
	}
	if err := json.Unmarshal(must(os.ReadFile("../testdata/vectors.json"))(t), &all); err != nil {
		t.Fatal(err)
	}
	return all.Backups
}

func TestVectors(t *testing.T) {
	classes := map[string]error{"": nil, "not_backup": ErrNotBackup, "not_opened": ErrNotOpened}
	n := map[string]int{}
	for _, v := range vectors(t) {
		k, err := Open(v.File, v.Passphrase)
		want, known := classes[v.Class]
		if !known || err != want || (k == nil) != (want != nil) {
			t.Errorf("%s: %v, want class %q", v.Name, err, v.Class)
		} else if k != nil && hex.EncodeToString(k.Bytes()) != v.Key {
			t.Errorf("%s: another key", v.Name)
		}
		if Is(v.File) != (v.Class != "not_backup") {
			t.Errorf("%s: Is = %v", v.Name, Is(v.File))
		}
		n[v.Class]++
	}
	if n[""] < 5 || n["not_backup"] < 20 || n["not_opened"] < 8 {
		t.Errorf("too few vectors: %v", n)
	}
}

func TestABackupOpensWithItsPassphraseOnly(t *testing.T) {
	k := cmek.Generate()
	info := cmek.KeyFileInfo{VaultID: "a-vault", Created: time.Date(2026, 11, 21, 23, 24, 0, 0, time.UTC)}
	text := must(seal(k, good, info, cheap))(t)
	if !strings.Contains(string(text), "# vault: a-vault\n# created: 2026-11-21T23:24:00Z\n") {
		t.Errorf("the comments are missing:\n%s", text)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if doc := must(os.ReadFile("../FORMAT.md"))(t); !strings.Contains(string(doc), first) {
		t.Errorf("FORMAT.md does not show %q", first)
	}
	if got, err := Open(text, good); err != nil || !bytes.Equal(got.Bytes(), k.Bytes()) {
		t.Errorf("another key came back: %v", err)
	}
	for _, other := range []string{"", good + " ", good[1:], strings.ToUpper(good)} {
		if got, err := Open(text, other); err != ErrNotOpened || got != nil {
			t.Errorf("%q: %v", other, err)
		}
	}
	for _, form := range []string{string(k.Bytes()), hex.EncodeToString(k.Bytes()), good} {
		if strings.Contains(string(text), form) {
			t.Error("key or passphrase is in the clear")
		}
	}
	again := must(seal(k, good, info, cheap))(t)
	if bytes.Equal(must(parse(again))(t).salt, must(parse(text))(t).salt) {
		t.Error("two backups have one salt")
	}
}

func TestEveryByteOfABackupIsBound(t *testing.T) {
	text := must(seal(cmek.Generate(), good, cmek.KeyFileInfo{}, cheap))(t)
	begin := bytes.IndexByte(text, '\n') + 1 // a comment is nobody's
	for i := begin; i < len(text)-1; i++ {
		changed := bytes.Clone(text)
		changed[i] ^= 1
		if k, err := Open(changed, good); err == nil {
			t.Errorf("byte %d (%q) is not bound: %s", i, text[i], k.Fingerprint())
		}
	}
}

func TestAWeakPassphraseIsRefused(t *testing.T) {
	for _, p := range []string{"", "short", "elevenchars", strings.Repeat("ж", 11), strings.Repeat("x", 1025), "not UTF-8, at all \xff"} {
		if text, err := Seal(cmek.Generate(), p, cmek.KeyFileInfo{}); err != ErrPassphrase || text != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestWhatCannotBeSealedIsNot(t *testing.T) {
	k := cmek.Generate()
	if text, err := seal(k, good, cmek.KeyFileInfo{VaultID: "two\nlines"}, cheap); err == nil || text != nil {
		t.Errorf("a vault ID of two lines: %s", text)
	}
	k.Wipe()
	if text, err := seal(k, good, cmek.KeyFileInfo{}, cheap); err == nil || text != nil {
		t.Errorf("a wiped key: %s", text)
	}
}

func TestTheUsualCostIsWithinWhatIsOpened(t *testing.T) {
	text := must(Seal(cmek.Generate(), good, cmek.KeyFileInfo{}))(t)
	if b, err := parse(text); err != nil || b.cost != usual || usual.memory < 64<<10 || usual.passes < 3 {
		t.Errorf("%+v, %v", b.cost, err)
	}
	if _, err := Open(text, good); err != nil {
		t.Error(err)
	}
}

func TestABackupIsToldFromAKeyFile(t *testing.T) {
	k := cmek.Generate()
	if Is(must(cmek.MarshalKeyFile(k, cmek.KeyFileInfo{}))(t)) {
		t.Error("a key file is taken for a backup")
	}
	if _, err := cmek.ParseKeyFile(must(seal(k, good, cmek.KeyFileInfo{}, cheap))(t)); !errors.Is(err, cmek.ErrBackup) {
		t.Errorf("ParseKeyFile of a backup: %v", err)
	}
}

// FuzzBackup: whatever parses is written, and read back, as the same.
func FuzzBackup(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.File)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parse(data)
		if err != nil {
			return
		}
		again, err := parse(b.text(nil))
		if err != nil || !bytes.Equal(again.text(nil), b.text(nil)) || b.memory > most.memory || b.passes > most.passes || b.lanes > most.lanes {
			t.Fatalf("%+v is read back as %+v, %v", b, again, err)
		}
	})
}
