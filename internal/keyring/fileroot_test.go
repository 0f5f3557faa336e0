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
	"sync"
	"sync/atomic"
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

func TestARootFileIsNeverOverwritten(t *testing.T) {
	path := writeFile(t, "# mine\n", 0o600)
	if _, err := CreateFileRoot(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if text := must(os.ReadFile(path))(t); string(text) != "# mine\n" {
		t.Error("the file was changed")
	}
	link := filepath.Join(t.TempDir(), "link")
	target := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateFileRoot(link); !errors.Is(err, fs.ErrExist) {
		t.Errorf("through a dangling link: %v", err)
	}
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the link's target was made")
	}
}

// What stands under the name at any moment is what a crash would leave there.
func TestARootFileIsWholeOrNotThere(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "root.key")
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
	if err := createWhole(path, func(f *os.File) error { look(f); return cut }); !errors.Is(err, cut) {
		t.Errorf("a failed write: %v", err)
	}
	if left := must(os.ReadDir(filepath.Dir(path)))(t); len(left) != 0 {
		t.Errorf("a failed write leaves %v", left)
	}
	if err := createWhole(path, func(f *os.File) error { look(f); defer look(f); return writeRoot(f) }); err != nil {
		t.Fatal(err)
	}
	must(OpenFileRoot(path))(t)
	if left := must(os.ReadDir(filepath.Dir(path)))(t); len(left) != 1 {
		t.Errorf("beside the file there is more: %v", left)
	}
}

func TestWhatACrashLeftBesideTheRootFileDoesNotMatter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	for _, torn := range []string{"", rootFileHead, rootFileHead + key64[:20]} {
		f := must(os.CreateTemp(filepath.Dir(path), ".root.key-*"))(t)
		f.WriteString(torn)
		f.Close()
	}
	must(CreateFileRoot(path))(t)
	must(OpenFileRoot(path))(t)
}

func TestOfManyWhoMakeARootFileOneDoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	var made atomic.Int32
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			_, err := CreateFileRoot(path)
			if err == nil {
				made.Add(1)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
			if _, err := OpenFileRoot(path); err != nil {
				t.Errorf("after all, the file does not open: %v", err)
			}
		})
	}
	if all.Wait(); made.Load() != 1 {
		t.Errorf("%d made it", made.Load())
	}
}

func TestARootFileThatOthersMayReadIsRefusedWithTheCommandToMendIt(t *testing.T) {
	for _, mode := range []os.FileMode{0o400, 0o600} {
		if _, err := OpenFileRoot(writeFile(t, key64, mode)); err != nil {
			t.Errorf("%#o: %v", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o660, 0o602, 0o610, 0o601, 0o700, 0o500, 0o440, 0o666, 0o777} {
		path := writeFile(t, key64, mode)
		_, err := OpenFileRoot(path)
		if err == nil || !strings.Contains(err.Error(), "chmod 600 \""+path+"\"") {
			t.Errorf("%#o: %v", mode, err)
		}
	}
}

func TestARootFileOfAnotherUserIsRefused(t *testing.T) {
	path := writeFile(t, key64, 0o600)
	euid, stranger := os.Geteuid(), os.Geteuid()+1
	if euid == 0 { // root's files are anybody's to use: give this one away
		if err := os.Chown(path, 12345, -1); err != nil {
			t.Fatal(err)
		}
		euid, stranger = 12345, 0
	}
	info := must(os.Stat(path))(t)
	if err := checkOwner("root key file", path, info, euid); err != nil {
		t.Errorf("its owner: %v", err)
	}
	if err := checkOwner("root key file", path, info, stranger); err == nil || !strings.Contains(err.Error(), "run: chown") {
		t.Errorf("a stranger: %v", err)
	}
}

func TestOnlyARegularFileIsARootFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, os.DevNull} {
		if _, err := OpenFileRoot(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := OpenFileRoot(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestALinkIsJudgedByTheFileThatItNames(t *testing.T) {
	for mode, good := range map[os.FileMode]bool{0o600: true, 0o644: false} {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(writeFile(t, key64, mode), link); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFileRoot(link); (err == nil) != good {
			t.Errorf("link to a file of mode %#o: %v", mode, err)
		}
	}
}

func TestOnlyOneWholeKeyIsARootFile(t *testing.T) {
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xAB}, n)) }
	for _, text := range []string{
		key64, key64 + "\n", "# c\n\n" + key64 + "\n# d\n", "\r\n" + key64 + "\r\n", "  " + key64 + "\t\n",
		strings.Repeat("#\n", (4<<10-44)/2) + key64,
	} {
		if _, err := OpenFileRoot(writeFile(t, text, 0o600)); err != nil {
			t.Errorf("%.60q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "\n", "# only words\n", "#" + key64, b64(31), b64(33), b64(16), b64(64), b64(0),
		key64 + key64, key64 + "\n" + key64, key64 + "\nx", "x\n" + key64, key64[:43], key64[1:], key64 + "=", "=" + key64,
		strings.TrimRight(key64, "="), key64[:42] + "t=", // bits beyond the last byte
		strings.ReplaceAll(key64, "q", "-"), key64[:20] + "\n" + key64[20:], key64[:20] + " " + key64[20:], key64[:20] + "\x00" + key64[21:],
		strings.Repeat("#\n", 2<<10) + key64, strings.Repeat("ab", 32),
	} {
		_, err := OpenFileRoot(writeFile(t, text, 0o600))
		if err == nil {
			t.Errorf("%.60q is taken", text)
		} else if strings.Contains(err.Error(), key64[:8]) {
			t.Errorf("%.60q: the error shows the key", text)
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
