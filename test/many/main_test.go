// Package many tests Keyfold as it runs on many machines: several servers and several
// key processes over one PostgreSQL with a synchronous standby, under load, while
// any of them is killed, stopped or cut off. It builds the programs and needs
// PostgreSQL; the network namespaces in which a server is cut off need root.
package many

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
		fmt.Println("skipping: these tests stop processes and cut networks as Linux does")
		return 0
	}
	dir, err := os.MkdirTemp("", "keyfold-many-")
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
	out, err := exec.Command("go", "build", "-o", dir+"/", "../../cmd/keyfold", "../../cmd/keyfold-kms").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// lookAtSources opens every directory that the programs may be built from, so that
// the go command does not take an earlier run's result for one of theirs.
var lookAtSources = sync.OnceValue(func() error {
	return filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		if err == nil && d.IsDir() && name != ".." && (strings.HasPrefix(name, ".") || name == "out" || name == "bin" || name == "node_modules") {
			return fs.SkipDir
		}
		return err
	})
})
