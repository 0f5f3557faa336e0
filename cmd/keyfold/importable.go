package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/cli"
)

// importable is one value that secret import found.
type importable struct {
	name string // as the source calls it: a variable, or a file's path under the directory
	path string // of the secret
	read func() ([]byte, error)
}

// source is what an import reads from.
type source struct {
	kind    string // the metadata member that keeps the name: "env" or "file"
	items   []importable
	skipped []skipped
	taken   map[string]string // path to the name that has it
}

// skipped is what an import leaves out, and why.
type skipped struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// add maps name to a path under prefix. Of two names with one path the first
// is taken.
func (s *source) add(prefix, name string, read func() ([]byte, error)) {
	path, err := secretPathOf(prefix, name)
	if err != nil {
		s.skip(name, err.Error())
		return
	}
	if other, ok := s.taken[path]; ok {
		s.skip(name, fmt.Sprintf("its path %s is that of %q as well", path, other))
		return
	}
	s.taken[path] = name
	s.items = append(s.items, importable{name, path, read})
}

func (s *source) skip(name, reason string) {
	s.skipped = append(s.skipped, skipped{name, reason})
}

// secretPathOf makes a legal path of a name: what is neither an ASCII letter
// or digit nor one of "_-/" becomes "_", and at both ends everything but
// letters and digits is cut.
func secretPathOf(prefix, name string) (string, error) {
	path := strings.Map(func(r rune) rune {
		if r == '-' || r == '/' || r < 0x80 && isEnvName(byte(r)) {
			return r
		}
		return '_'
	}, name)
	path = strings.Trim(path, "_-/")
	if path == "" {
		return "", fmt.Errorf("its name has no letter or digit")
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		path = prefix + "/" + path
	}
	if len(path) > api.MaxSecretPath {
		return "", fmt.Errorf("its path is over %d bytes", api.MaxSecretPath)
	}
	return path, nil
}

// envSource reads an .env file. A variable that is set twice has the later value.
func envSource(file, prefix string) (source, error) {
	s := source{kind: "env", taken: map[string]string{}}
	f, err := openRegular(file)
	if err != nil {
		return s, err
	}
	defer f.Close()
	text, err := readAll(f, maxInput)
	if err != nil {
		return s, err
	}
	vars, err := parseEnv(string(text))
	if err != nil {
		return s, cli.Advise(fmt.Errorf("%s: %w", file, err), "the rules of .env files: keyfold secret import --help")
	}
	last := map[string]int{}
	for _, v := range vars {
		last[v.name] = v.line
	}
	for _, v := range vars {
		if last[v.name] != v.line {
			s.skip(v.name, fmt.Sprintf("line %d sets it again", last[v.name]))
			continue
		}
		s.add(prefix, v.name, func() ([]byte, error) { return []byte(v.value), nil })
	}
	return s, nil
}

// openRegular opens a file for an import. A pipe could keep it waiting, and is
// not there for the second run.
func openRegular(file string) (*os.File, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, cli.Advise(fmt.Errorf("%s is not a regular file", file), "write what is to be imported to a file first")
	}
	return os.Open(file)
}

// dirSource finds the regular files of dir, which may be a link, and of the
// directories below it. There, links to files are followed, links to
// directories are not; what is hidden is left out.
func dirSource(dir, prefix string) (source, error) {
	s := source{kind: "file", taken: map[string]string{}}
	dir, err := realDir(dir)
	if err != nil {
		return s, err
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		name = filepath.ToSlash(name)
		switch {
		case path == dir:
			return err
		case err != nil:
			s.skip(name, reasonOf(err))
			if e != nil && e.IsDir() {
				return fs.SkipDir
			}
		case strings.HasPrefix(e.Name(), "."):
			s.skip(name, "hidden")
			if e.IsDir() {
				return fs.SkipDir
			}
		case !e.IsDir():
			s.addFile(prefix, name, path)
		}
		return nil
	})
	sort.SliceStable(s.skipped, func(i, j int) bool { return s.skipped[i].Name < s.skipped[j].Name })
	return s, err
}

// realDir is dir without links: a walk does not follow one at its root.
func realDir(dir string) (string, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", cli.Advise(fmt.Errorf("%s is not a directory", dir), "import one file with: keyfold secret put VAULT PATH --file FILE")
	}
	return filepath.EvalSymlinks(dir)
}

func (s *source) addFile(prefix, name, path string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		s.skip(name, reasonOf(err))
	case info.IsDir():
		s.skip(name, "a link to a directory")
	case !info.Mode().IsRegular():
		s.skip(name, "not a regular file")
	case info.Size() > maxInput:
		s.skip(name, fmt.Sprintf("over %d bytes", maxInput))
	default:
		s.add(prefix, name, func() ([]byte, error) { return readFile(path) })
	}
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, maxInput)
}
