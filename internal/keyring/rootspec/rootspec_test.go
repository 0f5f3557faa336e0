//go:build unix

package rootspec

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keyfold/keyfold/internal/keyring"
)

var (
	ctx   = context.Background()
	key64 = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xAB}, 32))
	name  = keyring.Name{KEKID: "a", Version: 1}
)

// env is an environment of these variables.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// pipe returns the reading end of a pipe that holds text. Who reads it closes it.
func pipe(t *testing.T, text string) int {
	t.Helper()
	var p [2]int
	if err := syscall.Pipe(p[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Write(p[1], []byte(text)); err != nil {
		t.Fatal(err)
	}
	syscall.Close(p[1])
	return p[0]
}

func TestOneRootKeyOpensFromEverySource(t *testing.T) {
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "root.key"), "# a comment\n"+key64+"\n", 0o400)
	root, err := keyring.OpenFileRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := root.MakeKEK(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		env  func(string) string
	}{
		{"file:" + path, env(Env, "file:/elsewhere")},
		{fmt.Sprintf("fd:%d", pipe(t, key64)), env()},
		{"credential:root.key", env("CREDENTIALS_DIRECTORY", dir)},
		{"", env(Env, "file:"+path)},
		{"", env(EnvFile, path)},
		{"", env(Env, "credential:root.key", "CREDENTIALS_DIRECTORY", dir)},
	} {
		got, err := Open(ctx, c.text, c.env)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if _, err := got.LoadKEK(ctx, name, stored); err != nil || got.Kind() != "file" {
			t.Errorf("%q opens another key: %v", c.text, err)
		}
	}
}

func TestADescriptorIsReadOnceAndClosed(t *testing.T) {
	fd := pipe(t, key64)
	text := fmt.Sprintf("fd:%d", fd)
	if _, err := Open(ctx, text, env()); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); !errors.Is(err, syscall.EBADF) {
		t.Errorf("it is open still: %v", err)
	}
	if r, err := Open(ctx, text, env()); err == nil || r != nil {
		t.Error("it is read twice")
	}
}

func TestATerminalIsNoSourceOfASecret(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	if _, err := Open(ctx, fmt.Sprintf("fd:%d", tty.Fd()), env()); err == nil || !strings.Contains(err.Error(), "redirect a file or a pipe") {
		t.Errorf("%v", err)
	}
}

func TestAFileThatOthersMayReadIsRefusedFromEverySource(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o666, 0o440} {
		path := write(t, filepath.Join(dir, "k"), key64, mode)
		for _, env := range []func(string) string{env(Env, "file:"+path), env(EnvFile, path)} {
			if r, err := Open(ctx, "", env); err == nil || r != nil || !strings.Contains(err.Error(), "chmod 600") {
				t.Errorf("%#o: %v", mode, err)
			}
		}
		if mode&^0o640 == 0 && os.Getuid() == 0 {
			continue // in root's group reads who reads anyway
		}
		if r, err := Open(ctx, "credential:k", env("CREDENTIALS_DIRECTORY", dir)); err == nil || r != nil || !strings.Contains(err.Error(), "LoadCredential") {
			t.Errorf("credential %#o: %v", mode, err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(write(t, filepath.Join(dir, "good"), key64, 0o400), link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, "credential:link", env("CREDENTIALS_DIRECTORY", dir)); err == nil {
		t.Error("a credential that is a link is followed")
	}
}

// owned is a file of another owner, group or mode than a test can make.
type owned struct {
	fs.FileInfo
	mode     fs.FileMode
	uid, gid uint32
}

func (o owned) Mode() fs.FileMode { return o.mode }
func (o owned) Sys() any          { return &syscall.Stat_t{Uid: o.uid, Gid: o.gid} }

func TestACredentialIsReadableForRootAndUsAlone(t *testing.T) {
	for file, good := range map[owned]bool{
		{mode: 0o400, uid: 0}:                    true,
		{mode: 0o440, uid: 0}:                    true, // the mask of systemd's access list
		{mode: 0o400, uid: 1000, gid: 1000}:      true,
		{mode: 0o440, uid: 1000, gid: 1000}:      false,
		{mode: 0o440, uid: 0, gid: 50}:           false,
		{mode: 0o444, uid: 0}:                    false,
		{mode: 0o460, uid: 0}:                    false,
		{mode: 0o404, uid: 1000}:                 false,
		{mode: 0o400, uid: 1001}:                 false,
		{mode: fs.ModeNamedPipe | 0o400}:         false,
		{mode: fs.ModeDir | 0o400}:               false,
		{mode: 0o500, uid: 1000}:                 false,
		{mode: fs.ModeCharDevice | 0o400}:        false,
		{mode: fs.ModeDevice | 0o400, uid: 1000}: false,
	} {
		if ofSystemd(file, 1000) != good {
			t.Errorf("%v of %d:%d: want %t", file.mode, file.uid, file.gid, good)
		}
	}
}

func TestWhatNamesNoRootIsRefusedWithAdvice(t *testing.T) {
	const uri = "pkcs11:token=a?module-path=/m&pin-source=file:/p"
	systemd := []string{"CREDENTIALS_DIRECTORY", "/run/credentials/x"}
	for _, c := range []struct {
		text, want string
		env        []string
	}{
		{"", "no root key is named", nil},
		{"", "unset one", []string{Env, "file:/a", EnvFile, "/b"}},
		{"/etc/root.key", "file:PATH", nil},
		{"file:", "file:PATH", nil},
		{key64, "file:PATH", nil},
		{"env:KEY", "file:PATH", nil},
		{"fd:1", "0 or 3 and up", nil},
		{"fd:2", "0 or 3 and up", nil},
		{"fd:-1", "0 or 3 and up", nil},
		{"fd:+3", "0 or 3 and up", nil},
		{"fd:x", "0 or 3 and up", nil},
		{"credential:k", "CREDENTIALS_DIRECTORY", nil},
		{"credential:k", "absolute", []string{"CREDENTIALS_DIRECTORY", "run"}},
		{"credential:../k", "no path", systemd},
		{"credential:..", "no path", systemd},
		{"credential:a/b", "no path", systemd},
		{"pkcs11:", "names no token", nil},
		{"pkcs11:?module-path=/m&pin-source=file:/p", "names no token", nil},
		{"pkcs11:token=a", "module-path", nil},
		{"pkcs11:token=a?module-path=lib.so&pin-source=file:/p", "absolute", nil},
		{"pkcs11:token=a?module-path=/m", "pin-source=", nil},
		{uri + "&pin-value=1234", "others can read", nil},
		{"pkcs11:token=a;pin-value=1234?module-path=/m", "others can read", nil},
		{"pkcs11:token=a?module-path=/m&pin-source=|cat", "file:PATH", nil},
		{"pkcs11:token=a?module-path=/m&pin-source=1234", "file:PATH", nil},
		{"pkcs11:token=a;token=b?module-path=/m", "twice", nil},
		{"pkcs11:token=a;object=b?module-path=/m", `"object"`, nil},
		{"pkcs11:token=a;module-path=/m", `"module-path"`, nil},
		{"pkcs11:token=a;junk?module-path=/m", "no name=value", nil},
		{"pkcs11:token=%zz?module-path=/m", "percent-encoded", nil},
		{"pkcs11:token=?module-path=/m", "no value", nil},
		{"pkcs11:slot-id=x?module-path=/m", "wants a number", nil},
		{uri + "&x-pool=0", "1 to 64", nil},
		{uri + "&x-pool=65", "1 to 64", nil},
		{uri + "&x-pool=two", "wants a number", nil},
	} {
		_, err := Parse(c.text, env(c.env...))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v; want %q", c.text, err, c.want)
		} else if strings.Contains(err.Error(), "1234") || strings.Contains(err.Error(), key64[:9]) {
			t.Errorf("%q: the error shows what may be a secret: %v", c.text, err)
		}
	}
	if _, err := Parse("", env()); !errors.Is(err, ErrNone) {
		t.Error("nothing at all is not ErrNone")
	}
}

func TestAURINamesATokenAndWhereItsPINIs(t *testing.T) {
	s, err := Parse("pkcs11:token=My%20token%3b;serial=0a1b;slot-id=7?module-path=/usr/lib/p%2Fm.so&pin-source=file:/run/pin&x-pool=8", env())
	if err != nil {
		t.Fatal(err)
	}
	c := s.token
	if c.Token != "My token;" || c.Serial != "0a1b" || *c.Slot != 7 || c.Module != "/usr/lib/p/m.so" || c.Sessions != 8 || s.pin.name != "/run/pin" {
		t.Errorf("%+v, PIN %v", *c, s.pin)
	}
}

func TestAPINIsReadAsTheRootKeyIs(t *testing.T) {
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "pin"), "1234\n", 0o600)
	get := source{kind: "file", name: path}.pin()
	for _, want := range []string{"1234", "56 78"} {
		if pin, err := get(); err != nil || string(pin) != want {
			t.Errorf("%q, %v", pin, err)
		}
		write(t, path, "56 78\r\n", 0o600) // a file is read again
	}
	once := source{kind: "fd", fd: pipe(t, "1234\n")}.pin()
	for range 2 {
		pin, err := once()
		if err != nil || string(pin) != "1234" {
			t.Errorf("from a descriptor: %q, %v", pin, err)
		}
		clear(pin) // as a login does
	}
	write(t, path, "1234", 0o644)
	if _, err := get(); err == nil || !strings.Contains(err.Error(), "PIN file") || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a PIN for all to read: %v", err)
	}
	write(t, path, "\n", 0o600)
	if _, err := get(); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty PIN: %v", err)
	}
	write(t, path, strings.Repeat("1", 5000), 0o600)
	if _, err := get(); err == nil || strings.Contains(err.Error(), "111") {
		t.Errorf("a PIN of 5000 bytes: %v", err)
	}
}

func TestOnlyAFileIsMadeAndNeverOverOneThatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	s, err := Parse("file:"+path, env())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.Open(ctx); r != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before it is made: %v, %v", r, err)
	}
	if _, err := s.Create(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(ctx); err != nil {
		t.Error(err)
	}
	if r, err := s.Create(); r != nil || !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	for _, text := range []string{"fd:9", "pkcs11:token=a?module-path=/m&pin-source=file:/p"} {
		s, err := Parse(text, env())
		if err != nil {
			t.Fatal(err)
		}
		if r, err := s.Create(); r != nil || err == nil || !strings.Contains(err.Error(), "file:PATH") {
			t.Errorf("%s is made: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"file:/a", "fd:3", "credential:x", "pkcs11:token=a?module-path=/m&pin-source=fd:3&x-pool=2", "pkcs11:;;&&?"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text, env("CREDENTIALS_DIRECTORY", "/run/credentials/x"))
		if err != nil {
			return
		}
		if c := s.token; c != nil {
			if !filepath.IsAbs(c.Module) || c.Token == "" && c.Serial == "" && c.Slot == nil || s.pin.kind == "" || c.Sessions < 0 || c.Sessions > maxPool {
				t.Errorf("%q: %+v", text, *c)
			}
		} else if s.source.kind == "credential" && filepath.Dir(s.source.name) != "/run/credentials/x" {
			t.Errorf("%q leads to %s", text, s.source.name)
		}
	})
}
