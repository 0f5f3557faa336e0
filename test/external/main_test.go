// Package external tests Keyfold as it runs: real processes of keyfold and
// keyfold-kms, killed, starved and looked into. It builds both, and the search of
// scripts/canary. It needs Go, and Linux for /proc.
package external

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// bin is where the programs lie.
var bin string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if runtime.GOOS != "linux" {
		fmt.Println("skipping: these tests read /proc, which Linux alone has")
		return 0
	}
	dir, err := os.MkdirTemp("", "keyfold-external-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = build(dir)
	}
	if err != nil {
		fmt.Println("building keyfold and keyfold-kms:", err)
		return 1
	}
	bin = dir
	return m.Run()
}

func build(dir string) error {
	out, err := exec.Command("go", "build", "-o", dir+"/", "../../cmd/keyfold", "../../cmd/keyfold-kms", "../../scripts/canary").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// lookAtSources opens every directory that the programs may be built from. The
// go command remembers what a test looked at once its tests run, which is after
// TestMain began: without this it would answer with the result of an earlier run
// whatever has changed since.
var lookAtSources = sync.OnceValue(func() error {
	return filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		if err == nil && d.IsDir() && name != ".." && (strings.HasPrefix(name, ".") || name == "out" || name == "bin") {
			return fs.SkipDir
		}
		return err
	})
})
