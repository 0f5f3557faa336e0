// Package programs builds what the tests of whole processes run: cmd/keyfold,
// cmd/keyfold-kms and what scripts/demo.sh uses. It needs Go, and Linux.
package programs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Dir is the directory of the programs: bin/test of the checkout, which all packages
// share, since linking takes longer than many a test. The working directory must be
// that of a package in test/. Call it in a test, not in TestMain: it opens every
// directory that the programs are built from, for the go command to remember, which
// would otherwise answer with the result of an earlier run whatever has changed since.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := built()
	if err == nil {
		err = look()
	}
	if err != nil {
		t.Fatalf("building the programs: %v", err)
	}
	return dir
}

var built = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs("../../bin/test")
	if err == nil {
		err = os.MkdirAll(dir, 0o777)
	}
	if err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/keyfold", "./cmd/keyfold-kms", "./scripts/canary", "./scripts/flipbyte", "./scripts/lines")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(err, fmt.Errorf("%s", out))
	}
	return dir, nil
})

var look = sync.OnceValue(func() error {
	return filepath.WalkDir("../..", func(_ string, d fs.DirEntry, err error) error {
		name := d.Name()
		if err == nil && d.IsDir() && name != ".." && (strings.HasPrefix(name, ".") || name == "out" || name == "bin" || name == "node_modules") {
			return fs.SkipDir
		}
		return err
	})
})
