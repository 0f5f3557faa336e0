package check

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// stagesOf parses a container file as BuildKit does, and returns what its linter
// says, too.
func stagesOf(text string) (stages []instructions.Stage, found problems) {
	parsed, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, problems{err.Error()}
	}
	for _, w := range parsed.Warnings {
		found.addf("%s", w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, at []parser.Range) {
		found.addf("line %d: %s: %s", at[0].Start.Line, rule, message)
	}})
	stages, _, err = instructions.Parse(parsed.AST, lint)
	if err != nil {
		found.addf("%v", err)
	}
	return stages, found
}

func checkContainerfile(t *testing.T, text string) problems {
	stages, found := stagesOf(text)
	var names []string
	told := 0
	for _, stage := range stages {
		if _, tag, ok := strings.Cut(stage.BaseName, ":"); !ok || tag == "latest" {
			found.addf("%s is from %s, which names no version", stage.Name, stage.BaseName)
		}
		for _, c := range stage.Commands {
			switch c := c.(type) {
			case *instructions.ArgCommand:
				told++
			case *instructions.RunCommand:
				if line := strings.Join(c.CmdLine, " "); strings.Contains(line, "go build") && (told == 0 || !strings.Contains(line, ` -X `+versionOf(t)+`=$VERSION"`)) {
					found.addf("%s: a program is not told its version", stage.Name)
				}
			case *instructions.AddCommand:
				found.addf("%s: ADD fetches and unpacks; write COPY", stage.Name)
			case *instructions.CopyCommand:
				if c.From != "" && !slices.Contains(names, c.From) {
					found.addf("%s copies from %s, which is no stage before it", stage.Name, c.From)
				}
				for _, source := range c.SourcePaths {
					if _, err := os.Stat(filepath.Join(tree, source)); c.From == "" && err != nil {
						found.addf("%s copies %s: %v", stage.Name, source, err)
					}
				}
			}
		}
		names = append(names, stage.Name)
		if stage.Name == "keyfold" || stage.Name == "keyfold-kms" {
			found = append(found, checkImage(t, stage)...)
		}
	}
	for _, want := range []string{"keyfold", "keyfold-kms"} {
		if !slices.Contains(names, want) {
			found.addf("there is no stage %s", want)
		}
	}
	return found
}

// versionOf is the variable that holds the programs' version, as the linker names it.
func versionOf(t *testing.T) string {
	t.Helper()
	if !regexp.MustCompile(`(?m)^var version string$`).MatchString(read(t, tree, "internal", "cli", "app.go")) {
		t.Fatal("internal/cli has no variable version") // a linker that is told of none says nothing
	}
	return "github.com/keyfold/keyfold/internal/cli.version"
}

// checkImage looks at a stage that becomes an image.
func checkImage(t *testing.T, stage instructions.Stage) (found problems) {
	if !strings.HasPrefix(stage.BaseName, "gcr.io/distroless/") {
		found.addf("%s is from %s: no distroless image, so it may have a shell", stage.Name, stage.BaseName)
	}
	r := run{where: stage.Name, program: "", env: map[string]string{}}
	var user string
	for _, c := range stage.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.RunCommand:
			found.addf("%s runs a command, and has no shell to run it", stage.Name)
		case *instructions.EntrypointCommand:
			if c.PrependShell || len(c.CmdLine) != 1 {
				found.addf("%s: ENTRYPOINT must be the program alone, as JSON", stage.Name)
			}
			r.program = filepath.Base(c.CmdLine[0])
		case *instructions.CmdCommand:
			if c.PrependShell {
				found.addf("%s: CMD must be JSON", stage.Name)
			}
			r.args = c.CmdLine
		case *instructions.EnvCommand:
			for _, kv := range c.Env {
				r.env[kv.Key] = kv.Value
			}
		}
	}
	if user != "65532:65532" {
		found.addf("%s runs as %q; a user by number, who is not root: Kubernetes cannot prove it of a name", stage.Name, user)
	}
	if r.program != stage.Name {
		found.addf("%s runs %s", stage.Name, r.program)
	}
	return append(found, checkRun(t, r)...)
}

func TestTheContainerFileIsSound(t *testing.T) {
	holds(t, read(t, "../Containerfile"), checkContainerfile, []breaking{
		{"RUN go mod download", "RNU go mod download", "unknown instruction"},
		{"USER 65532:65532\nEXPOSE 7420", "EXPOSE 7420", `runs as ""`},
		{"USER 65532:65532\nEXPOSE 7421", "USER root\nEXPOSE 7421", `runs as "root"`},
		{`CMD ["server"]`, `CMD ["sever"]`, "unknown command"},
		{`CMD ["server"]`, `CMD server`, "JSON"},
		{`ENTRYPOINT ["/usr/bin/keyfold-kms"]`, `ENTRYPOINT ["/usr/bin/keyfold"]`, "runs keyfold"},
		{"FROM golang:1.26-bookworm AS build", "FROM golang AS build", "names no version"},
		{"FROM golang:1.26-bookworm AS build", "FROM golang:1.26-bookworm as build", "FromAsCasing"},
		{"gcr.io/distroless/static-debian12:nonroot", "debian:bookworm", "no distroless image"},
		{"--from=build /out/bin/keyfold ", "--from=biuld /out/bin/keyfold ", "no stage before it"},
		{"ARG VERSION=\n", "", "not told its version"},
		{"cli.version=$VERSION", "cli.release=$VERSION", "not told its version"},
		{"COPY LICENSE", "COPY LICENCE", "LICENCE"},
		{"KEYFOLD_ADDR=", "KEYFOLD_ADRESS=", "reads no variable KEYFOLD_ADRESS"},
	})
}

// TestTheContextHoldsAllThatABuildNeedsAndNothingElse copies the context as a
// builder does and resolves both programs in it. In the long form it runs the
// file's own commands there.
func TestTheContextHoldsAllThatABuildNeedsAndNothingElse(t *testing.T) {
	context := t.TempDir()
	size := copyContext(t, tree, context)
	if size > 64<<20 {
		t.Errorf("the context has %d bytes: something is in it that no build needs", size)
	}
	for _, pkg := range []string{"./cmd/keyfold", "./cmd/keyfold-kms"} {
		cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Error}}{{.}}{{end}}", pkg)
		cmd.Dir = context
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "" {
			t.Errorf("%s: %v\n%s", pkg, err, out)
		}
	}
	for _, secret := range []string{"keyfold-data", ".git", "deploy", "test"} {
		if _, err := os.Stat(filepath.Join(context, secret)); err == nil {
			t.Errorf("the context has %s", secret)
		}
	}
	if os.Getenv("KEYFOLD_LONG") == "" {
		return
	}
	out := t.TempDir()
	stages, _ := stagesOf(read(t, "../Containerfile"))
	for _, c := range stages[0].Commands {
		command, ok := c.(*instructions.RunCommand)
		if !ok {
			continue
		}
		line := strings.ReplaceAll(strings.Join(command.CmdLine, " "), "/out/", out+"/")
		cmd := exec.Command("sh", "-ec", line)
		cmd.Dir, cmd.Env = context, append(os.Environ(), "VERSION=v9.8.7")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, said)
		}
	}
	if said, err := exec.Command("ldd", filepath.Join(out, "bin", "keyfold")).CombinedOutput(); err == nil {
		t.Errorf("keyfold is not static, and its image has no C library:\n%s", said)
	}
	for _, name := range []string{"keyfold", "keyfold-kms"} {
		if said, err := exec.Command(filepath.Join(out, "bin", name), "--help").CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, said)
		}
		if program, err := os.ReadFile(filepath.Join(out, "bin", name)); err != nil || !bytes.Contains(program, []byte("v9.8.7")) {
			t.Errorf("%s does not have its version: %v", name, err)
		}
	}
}

// copyContext copies what the ignore file leaves of from, and returns its size.
func copyContext(t *testing.T, from, to string) (size int64) {
	t.Helper()
	patterns, err := ignorefile.ReadAll(strings.NewReader(read(t, "../Containerfile.dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil || name == "." {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"node_modules", ".git"}, d.Name()) {
			return fs.SkipDir
		}
		skip, err := ignored.MatchesOrParentMatches(name)
		if err != nil || skip || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			size += int64(len(text))
			write(t, filepath.Join(to, name), string(text), 0o600)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}
