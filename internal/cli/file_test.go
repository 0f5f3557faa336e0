package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

var puts = map[string]func(string, func(io.ReadWriteSeeker) error) error{"create": CreateFile, "replace": ReplaceFile}

func TestAFileIsWrittenWhenItsNameIsOnTheDiskToo(t *testing.T) {
	real := syncDir
	defer func() { syncDir = real }()
	for name, put := range puts {
		path := filepath.Join(t.TempDir(), "seed")
		full := errors.New("the disk is gone")
		var synced []string
		syncDir = func(dir string) error {
			if text, err := os.ReadFile(path); err != nil || string(text) != "seed" {
				t.Errorf("%s: synced before the name: %q, %v", name, text, err)
			}
			synced = append(synced, dir)
			return errors.Join(real(dir), full)
		}
		err := put(path, Bytes([]byte("seed")))
		if !errors.Is(err, full) || err.Error() != full.Error() || len(synced) != 1 || synced[0] != filepath.Dir(path) {
			t.Errorf("%s: synced %v, answered %v", name, synced, err)
		}
	}
}

// Each write finds a file of somebody else, before it or at its end, or fails.
func TestAFileIsOursWholeOrAsItWas(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		put, there string
		fails      error
		want       string
	}{
		{"create", "", nil, "ours"}, {"create", "before", nil, "theirs"}, {"create", "meanwhile", nil, "theirs"}, {"create", "", broken, ""},
		{"replace", "", nil, "ours"}, {"replace", "before", nil, "ours"}, {"replace", "before", broken, "theirs"},
	} {
		path := filepath.Join(t.TempDir(), "f")
		place := func(when string) error {
			if when != c.there {
				return nil
			}
			return os.WriteFile(path, []byte("theirs"), 0o600)
		}
		placed := place("before")
		err := puts[c.put](path, func(f io.ReadWriteSeeker) error {
			return errors.Join(placed, place("meanwhile"), Bytes([]byte("ours"))(f), c.fails)
		})
		text, _ := os.ReadFile(path)
		left, _ := os.ReadDir(filepath.Dir(path))
		if (err == nil) != (c.want == "ours") || string(text) != c.want || len(left) != min(1, len(c.want)) {
			t.Errorf("%+v: %q, %v, and %v is left", c, text, err, left)
		}
		if info, err := os.Stat(path); err == nil && info.Mode() != 0o600 {
			t.Errorf("%+v: mode %v", c, info.Mode())
		}
	}
}
