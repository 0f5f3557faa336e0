package check

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tree that this module is part of.
const tree = "../.."

// uid is the user of both images: "nonroot" of the distroless images.
const uid = 65532

// problems is what a check found.
type problems []string

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

// breaking is an edit of a file, after which its check must say something that
// holds want.
type breaking struct{ old, new, want string }

// holds fails the test unless check finds nothing in text, and finds each breaking.
func holds(t *testing.T, text string, check func(t *testing.T, text string) problems, breakings []breaking) {
	t.Helper()
	for _, p := range check(t, text) {
		t.Error(p)
	}
	for _, b := range breakings {
		if !strings.Contains(text, b.old) {
			t.Errorf("%q is not in the file: the breaking shows nothing", b.old)
			continue
		}
		found := check(t, strings.Replace(text, b.old, b.new, 1))
		if all := strings.Join(found, "\n"); !strings.Contains(all, b.want) {
			t.Errorf("with %q in the place of %q: want a problem with %q, got:\n%s", b.new, b.old, b.want, all)
		}
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
