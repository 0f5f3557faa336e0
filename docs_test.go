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

var installs = regexp.MustCompile(`(?:missing\+=\(|\|\| install )([a-z0-9][a-z0-9 +.-]*)`)

// The README sends to this list.
func TestTheListOfWhatTheTestsNeedIsWhole(t *testing.T) {
	head, _, _ := strings.Cut(read(t, "scripts/deps.sh"), "set -euo")
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^#   ((?:\S+ )+) `).FindAllStringSubmatch(head, -1) {
		listed = append(listed, strings.Fields(m[1])...)
	}
	found := 0
	for _, script := range []string{"scripts/deps.sh", "scripts/sdk.sh", "scripts/web.sh"} {
		_, body, _ := strings.Cut(read(t, script), "set -euo")
		for _, m := range installs.FindAllStringSubmatch(body, -1) {
			for _, pkg := range strings.Fields(m[1]) {
				if found++; !slices.Contains(listed, pkg) {
					t.Errorf("%s installs %s, which is not in the head of scripts/deps.sh", script, pkg)
				}
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d packages were found", found)
	}
}

// pages are found from these two; everything else is a page that nobody reads.
var begins = []string{"README.md", filepath.Join("docs", "architecture.md")}

func TestEveryPageIsFoundFromTheReadmeOrTheArchitecture(t *testing.T) {
	linked := map[string]bool{}
	for _, page := range begins {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			linked[filepath.Join(filepath.Dir(page), m[1])] = true
		}
	}
	each(t, ".md", func(path, _ string) {
		if filepath.Dir(path) == "docs" && !linked[path] && !slices.Contains(begins, path) {
			t.Errorf("neither README.md nor docs/architecture.md links to %s", path)
		}
	})
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
