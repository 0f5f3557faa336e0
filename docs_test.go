package keyfold

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	namedTest   = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	definedTest = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
	link        = regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)`)
)

// each calls do with the path and text of every file of the tree that ends in suffix.
func each(t *testing.T, suffix string, do func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"keyfold-data", "node_modules"}, d.Name())) {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, suffix) {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			do(path, string(text))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryTestThatADocumentNamesExists(t *testing.T) {
	defined := map[string]bool{}
	each(t, "_test.go", func(_, text string) {
		for _, m := range definedTest.FindAllStringSubmatch(text, -1) {
			defined[m[1]] = true
		}
	})
	named := 0
	each(t, ".md", func(path, text string) {
		for _, m := range namedTest.FindAllStringSubmatch(text, -1) {
			named++
			if !defined[m[1]] {
				t.Errorf("%s promises %s, which no test file defines", path, m[1])
			}
		}
	})
	if named == 0 {
		t.Error("no document names a test: the threat model should")
	}
}

func TestEveryLinkOfADocumentLeadsSomewhere(t *testing.T) {
	each(t, ".md", func(path, text string) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			}
		}
	})
}
