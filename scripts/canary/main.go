// Command canary takes distinctive pieces from files that must stay secret and
// looks for them where they must not be.
//
//	canary pick -kind pem|text|binary -n N FILE...  >>canaries
//	canary search -canaries F [-store DIR]... PATH...   exit 0: none found
//	canary search -canaries F -all [-store DIR]... PATH...   exit 0: every one found
//	canary plant -store DIR FILE...   a store that holds the files, for the second form
//
// It searches whole files and, since a store compresses its tables, every key
// and value of the stores named as well, each for the piece itself and for its
// spellings in hex and base64. It prints where it found a canary and never the
// canary. A store must be stopped and is best a copy: opening it replays its log.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

var errUsage = errors.New("usage: canary pick|search|plant, see the head of main.go")

func main() {
	err := errUsage
	if len(os.Args) > 1 {
		err = run(os.Args[1], os.Args[2:])
	}
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "canary:", err)
		os.Exit(1)
	}
}

func run(verb string, args []string) error {
	fl := flag.NewFlagSet(verb, flag.ExitOnError)
	kind := fl.String("kind", "text", "pick: pem, text or binary")
	n := fl.Int("n", 1, "pick: how many")
	file := fl.String("canaries", "", "search: the file that pick wrote")
	all := fl.Bool("all", false, "search: fail unless every canary is found")
	var stores []string
	fl.Func("store", "a Pebble store's directory", func(s string) error {
		stores = append(stores, s)
		return nil
	})
	fl.Parse(args)
	switch {
	case verb == "pick":
		picked, err := pick(*kind, *n, fl.Args())
		if err != nil {
			return err
		}
		return writeCanaries(os.Stdout, picked)
	case verb == "search" && *file != "":
		return searchAll(*file, *all, stores, fl.Args())
	case verb == "plant" && len(stores) == 1:
		return plant(stores[0], fl.Args())
	}
	return errUsage
}

func searchAll(canaries string, wantAll bool, stores, paths []string) error {
	f, err := os.Open(canaries)
	if err != nil {
		return err
	}
	defer f.Close()
	cs, err := readCanaries(f)
	if err != nil {
		return err
	}
	s := newSearch(cs, !wantAll)
	for _, p := range paths {
		if err := s.tree(p); err != nil {
			return err
		}
	}
	for _, d := range stores {
		if err := s.store(d); err != nil {
			return err
		}
	}
	return s.verdict(wantAll)
}

// search counts where canaries were found.
type search struct {
	m       *matcher
	loud    bool
	found   []int // per canary
	bytes   int64
	files   int
	records int
}

func newSearch(canaries [][]byte, loud bool) *search {
	return &search{m: newMatcher(canaries), loud: loud, found: make([]int, len(canaries))}
}

func (s *search) in(where string, data []byte) {
	s.bytes += int64(len(data))
	s.m.find(data, func(p pattern, at int) {
		if s.found[p.canary]++; s.loud && s.found[p.canary] <= 3 {
			fmt.Printf("canary %d, spelled in %s, is in %s at byte %d\n", p.canary+1, p.spelling, where, at)
		}
	})
}

// tree searches a file or all files of a directory.
func (s *search) tree(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s.files++
		s.in(path, []byte(path))
		s.in(path, b)
		return nil
	})
}

func (s *search) verdict(wantAll bool) error {
	n := 0
	for _, c := range s.found {
		if c > 0 {
			n++
		}
	}
	fmt.Printf("%d of %d canaries found in %d files and %d records (%.1f MB)\n", n, len(s.found), s.files, s.records, float64(s.bytes)/1e6)
	switch {
	case s.files+s.records == 0:
		return errors.New("there was nothing to search")
	case wantAll && n < len(s.found):
		return errors.New("not every canary was found")
	case !wantAll && n > 0:
		return errors.New("canaries were found")
	}
	return nil
}
