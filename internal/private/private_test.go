//go:build unix

package private

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

var key64 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xAB}, keySize))

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func writeFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(text string) func(*os.File) error {
	return func(f *os.File) error { _, err := f.WriteString(text); return err }
}

func TestAFileThatOthersMayReadIsRefusedWithTheCommandToMendIt(t *testing.T) {
	for _, mode := range []os.FileMode{0o400, 0o600} {
		if text, err := Read(writeFile(t, "secret", mode), "thing"); string(text) != "secret" {
			t.Errorf("%#o: %q, %v", mode, text, err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o660, 0o602, 0o610, 0o601, 0o700, 0o500, 0o440, 0o666, 0o777} {
		path := writeFile(t, "secret", mode)
		text, err := Read(path, "thing")
		if text != nil || err == nil || !strings.Contains(err.Error(), "chmod 600 \""+path+"\"") {
			t.Errorf("%#o: %q, %v", mode, text, err)
		}
	}
}

type fileOf struct {
	fs.FileInfo
	uid uint32
}

func (f fileOf) Sys() any { return &syscall.Stat_t{Uid: f.uid} }

func TestAFileOfAnotherUserIsRefused(t *testing.T) {
	info := must(os.Stat(writeFile(t, "", 0o600)))(t)
	for _, c := range []struct {
		uid  uint32
		euid int
		good bool
	}{{1000, 1000, true}, {0, 1000, true}, {0, 0, true}, {1001, 1000, false}, {1000, 0, false}} {
		err := check("thing", "/path", fileOf{info, c.uid}, c.euid, 0o600)
		if (err == nil) != c.good || err != nil && !strings.Contains(err.Error(), "run: chown") {
			t.Errorf("of %d, read by %d: %v", c.uid, c.euid, err)
		}
	}
	if os.Geteuid() != 0 {
		return // only root can give a file away
	}
	path := writeFile(t, "", 0o600)
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, "thing"); err == nil || !strings.Contains(err.Error(), "run: chown 0") {
		t.Errorf("read by root: %v", err)
	}
}

func TestOnlyARegularFileIsRead(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, os.DevNull} {
		if _, err := Read(path, "thing"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Read(filepath.Join(dir, "none"), "thing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestALinkIsJudgedByTheFileThatItNames(t *testing.T) {
	for mode, good := range map[os.FileMode]bool{0o600: true, 0o644: false} {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(writeFile(t, "secret", mode), link); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(link, "thing"); (err == nil) != good {
			t.Errorf("link to a file of mode %#o: %v", mode, err)
		}
	}
}

func TestASecretHasAtMost4KiB(t *testing.T) {
	for n, good := range map[int]bool{0: true, maxSecret: true, maxSecret + 1: false, 1 << 20: false} {
		text, err := Read(writeFile(t, strings.Repeat("s", n), 0o600), "thing")
		if (err == nil) != good || good && len(text) != n || !good && (!strings.Contains(err.Error(), "is over 4096 bytes") || strings.Contains(err.Error(), "sss")) {
			t.Errorf("%d bytes: %d, %v", n, len(text), err)
		}
	}
}

func TestAFileIsNeverReplaced(t *testing.T) {
	path := writeFile(t, "mine", 0o600)
	if err := Create(path, write("yours")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if text := must(os.ReadFile(path))(t); string(text) != "mine" {
		t.Error("the file was changed")
	}
	link, target := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := Create(link, write("yours")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("through a dangling link: %v", err)
	}
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the link's target was made")
	}
}

// What stands under the name at any moment is what a crash would leave there.
func TestAFileIsWholeOrNotThere(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "key")
	look := func(f *os.File) {
		t.Helper()
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("there is a file before it is whole: %v", err)
		}
		if info := must(f.Stat())(t); info.Mode() != 0o600 || filepath.Dir(f.Name()) != filepath.Dir(path) {
			t.Errorf("it is written to %s with mode %v", f.Name(), info.Mode())
		}
	}
	cut := errors.New("cut off")
	if err := Create(path, func(f *os.File) error { look(f); return cut }); !errors.Is(err, cut) {
		t.Errorf("a failed write: %v", err)
	}
	if left := must(os.ReadDir(filepath.Dir(path)))(t); len(left) != 0 {
		t.Errorf("a failed write leaves %v", left)
	}
	if err := Create(path, func(f *os.File) error { look(f); defer look(f); return write("secret")(f) }); err != nil {
		t.Fatal(err)
	}
	if text := must(Read(path, "thing"))(t); string(text) != "secret" {
		t.Errorf("%q", text)
	}
	if left := must(os.ReadDir(filepath.Dir(path)))(t); len(left) != 1 {
		t.Errorf("beside the file there is more: %v", left)
	}
}

func TestWhatACrashLeftBesideAFileDoesNotMatter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, torn := range []string{"", "# c\n", "# c\n" + key64[:20]} {
		f := must(os.CreateTemp(filepath.Dir(path), ".key-*"))(t)
		f.WriteString(torn)
		f.Close()
	}
	if err := Create(path, write("secret")); err != nil {
		t.Fatal(err)
	}
	must(Read(path, "thing"))(t)
}

func TestOfManyWhoMakeAFileOneDoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	var made atomic.Int32
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			err := Create(path, write("secret"))
			if err == nil {
				made.Add(1)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
			if text, err := Read(path, "thing"); string(text) != "secret" {
				t.Errorf("after all: %q, %v", text, err)
			}
		})
	}
	if all.Wait(); made.Load() != 1 {
		t.Errorf("%d made it", made.Load())
	}
}

func TestADirectoryIsPrivate(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "dir")
	for range 2 { // made, and there
		if err := MakeDir(dir, "thing"); err != nil {
			t.Fatal(err)
		}
	}
	if info := must(os.Stat(dir))(t); info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("mode %v", info.Mode())
	}
	for _, mode := range []os.FileMode{0o750, 0o705, 0o755, 0o701, 0o777} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if err := MakeDir(dir, "thing"); err == nil || !strings.Contains(err.Error(), "chmod 700 \""+dir+"\"") {
			t.Errorf("%#o: %v", mode, err)
		}
	}
	if err := MakeDir(writeFile(t, "", 0o700), "thing"); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file: %v", err)
	}
}
