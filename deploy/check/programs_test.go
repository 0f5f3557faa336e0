package check

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// run is one of our programs as a deployment runs it.
type run struct {
	where   string // for what is said about it
	program string // keyfold or keyfold-kms
	args    []string
	env     map[string]string
}

// bin builds both programs, once, and returns their directory. TestMain removes it.
var bin = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "build", "-o", binDir+"/", "./cmd/...")
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", &exec.Error{Name: string(out), Err: err}
	}
	return binDir, nil
})

var binDir string

func TestMain(m *testing.M) {
	var err error
	if binDir, err = os.MkdirTemp("", "keyfold-deploy"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(binDir)
	os.Exit(code)
}

func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := bin()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

var (
	anyName    = regexp.MustCompile(`"(KEYFOLD_[A-Z0-9_]+)"`)
	tagged     = regexp.MustCompile("(\\S+)\\s+`[^`]*env:\"(KEYFOLD_[A-Z0-9_]+)\"")
	optionName = regexp.MustCompile(`(?m)^\s+(?:-\w, )?(--[a-z-]+)`)
)

// variables returns the names that a program reads from its environment: those in
// its own files, and with _FILE those of them that are secrets.
var variables = sync.OnceValue(func() map[string][]string {
	names := map[string][]string{}
	for program, dirs := range map[string][]string{
		"keyfold":     {"cmd/keyfold"},
		"keyfold-kms": {"cmd/keyfold-kms", "internal/keyring/rootspec"},
	} {
		for _, dir := range dirs {
			files, _ := filepath.Glob(filepath.Join(tree, dir, "*.go"))
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil || strings.HasSuffix(file, "_test.go") {
					continue
				}
				for _, m := range anyName.FindAllSubmatch(text, -1) {
					names[program] = append(names[program], string(m[1]))
				}
				for _, m := range tagged.FindAllSubmatch(text, -1) {
					names[program] = append(names[program], string(m[2]))
					if bytes.HasSuffix(m[1], []byte("Secret")) {
						names[program] = append(names[program], string(m[2])+"_FILE")
					}
				}
			}
		}
	}
	return names
})

// checkRun looks whether the program has the command, its flags and the variables.
func checkRun(t *testing.T, r run) (found problems) {
	t.Helper()
	if r.program != "keyfold" && r.program != "keyfold-kms" {
		return problems{r.where + ": runs " + r.program + ", which is none of our programs"}
	}
	var words, flags []string
	values := false // a word after them is no command
	for _, arg := range r.args {
		switch {
		case arg == "--":
			values = true
		case strings.HasPrefix(arg, "--"):
			name, _, _ := strings.Cut(arg, "=")
			flags = append(flags, name)
		case len(flags) == 0 && !values:
			words = append(words, arg)
		}
	}
	command := strings.Join(append([]string{r.program}, words...), " ")
	help, err := exec.Command(program(t, r.program), append(slices.Clone(words), "--help")...).CombinedOutput()
	if err != nil {
		found.addf("%s: %s: %v\n%s", r.where, command, err, help)
	}
	if there := regexp.MustCompile(`(?m)^  ` + command + `( |$)`); !there.Match(help) {
		found.addf("%s: there is no command %s", r.where, command)
	}
	has := optionName.FindAllStringSubmatch(string(help), -1)
	for _, flag := range flags {
		if !slices.ContainsFunc(has, func(m []string) bool { return m[1] == flag }) {
			found.addf("%s: %s has no flag %s", r.where, r.program, flag)
		}
	}
	for name, value := range r.env {
		if strings.HasPrefix(name, "KEYFOLD_") && !slices.Contains(variables()[r.program], name) {
			found.addf("%s: %s reads no variable %s", r.where, r.program, name)
		}
		if isSecret(name) && !strings.HasPrefix(value, "/") {
			found.addf("%s: %s holds what others can read; name a file", r.where, name)
		}
	}
	return found
}

// isSecret reports whether a variable is one that may only name a file.
func isSecret(name string) bool {
	return slices.ContainsFunc([]string{"PASSWORD", "_KEY", "_TOKEN", "STORE", "ROOT", "_FILE"}, func(part string) bool { return strings.Contains(name, part) })
}
