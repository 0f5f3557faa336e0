package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// databasesRun runs databases.sh with files of passwords, as a user who is not root, and
// a psql that only writes down what it is told. It returns that, and what was said.
func databasesRun(t *testing.T, prepare func(secrets string)) (told, said string, err error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyfold-databases") // others may enter it, unlike t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	log, secrets, bin := filepath.Join(dir, "told"), filepath.Join(dir, "secrets"), filepath.Join(dir, "bin")
	for _, d := range []string{dir, secrets, bin} {
		if err := os.MkdirAll(d, 0o755); err == nil {
			err = os.Chmod(d, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, log, "", 0o666)
	write(t, filepath.Join(bin, "psql"), "#!/bin/sh\n{ echo \"psql $*\"; cat; } >>"+log+"\n", 0o755)
	write(t, filepath.Join(secrets, "server_db_password"), "of the server\n", 0o644)
	write(t, filepath.Join(secrets, "kms_db_password"), "of the key process\n", 0o644)
	for _, f := range []string{log, filepath.Join(bin, "psql")} {
		if err := os.Chmod(f, 0o777); err != nil { // whatever the umask is
			t.Fatal(err)
		}
	}
	prepare(secrets)
	cmd := exec.Command("bash")
	cmd.Stdin = strings.NewReader(read(t, composeDir, "databases.sh"))
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "KEYFOLD_SECRETS=" + secrets}
	if os.Getuid() == 0 {
		cmd.Dir = dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	return read(t, dir, "told"), string(out), err
}

func TestTheDatabasesAreMadeWithThePasswordsThatAreThere(t *testing.T) {
	told, said, err := databasesRun(t, func(string) {})
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, want := range []string{"CREATE ROLE keyfold LOGIN", "CREATE DATABASE keyfold_kms OWNER keyfold_kms", "kms_db_password'`"} {
		if !strings.Contains(told, want) {
			t.Errorf("psql is not told %q but:\n%s", want, told)
		}
	}
	if strings.Contains(told, "of the server") {
		t.Error("a password is among the arguments or the statements, which logs show")
	}
}

// Without a password that can be read no role is made: psql would take none for an
// empty one.
func TestNoDatabaseIsMadeWithoutAPassword(t *testing.T) {
	for _, c := range []struct {
		what    string
		prepare func(file string) error
	}{
		{"none", os.Remove},
		{"an empty one", func(f string) error { return os.Truncate(f, 0) }},
		{"a line without anything", func(f string) error { return os.WriteFile(f, []byte("\n"), 0o644) }},
		{"one that only another may read", func(f string) error {
			if os.Getuid() == 0 {
				return os.Chmod(f, 0o600)
			}
			return os.Chmod(f, 0)
		}},
		{"a directory, as a mount makes it where there is no file", func(f string) error {
			if err := os.Remove(f); err != nil {
				return err
			}
			return os.Mkdir(f, 0o755)
		}},
	} {
		told, said, err := databasesRun(t, func(secrets string) {
			if err := c.prepare(filepath.Join(secrets, "server_db_password")); err != nil {
				t.Fatal(err)
			}
		})
		if err == nil || told != "" || !strings.Contains(said, "cannot read") {
			t.Errorf("%s: %v, it says %q, and psql is told %q", c.what, err, said, told)
		}
	}
}
