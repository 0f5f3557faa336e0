// Package clitest holds what is printed of a command line's programs to the programs.
package clitest

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var (
	block  = regexp.MustCompile("(?s)```(?:sh|ini)\n(.*?)```")
	quoted = regexp.MustCompile(`"[^"]*"|'[^']*'|\$\([^)]*\)`)
)

// Docs fails the test unless each command of program that a page of docs/ or one of more
// prints is one, with the flags and arguments that it takes. Root returns a new command.
// The test runs in a directory of cmd/.
func Docs(t *testing.T, program string, root func() *cobra.Command, more ...string) {
	asWritten := regexp.MustCompile(`(?:^|[|;&=] *|[A-Z_]+=\S+ +|-- +)(?:\./|bin/|/usr/bin/|\$bin/|go run \./cmd/)?` + program + ` +([^|;&#]*)`)
	inline := regexp.MustCompile("`(?:bin/)?" + program + " ([^`]+)`")
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	printed := 0
	check := func(page, words string, whole bool) {
		printed++
		words = strings.TrimSpace(quoted.ReplaceAllString(strings.ReplaceAll(words, "...", ""), "quoted"))
		if err := parse(root(), words, whole); err != nil {
			t.Errorf("%s prints %q: %v", filepath.Base(page), program+" "+words, err)
		}
	}
	for _, page := range append(pages, more...) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range block.FindAllStringSubmatch(string(text), -1) {
			for line := range strings.Lines(strings.ReplaceAll(b[1], "\\\n", " ")) {
				for _, m := range asWritten.FindAllStringSubmatch(quoted.ReplaceAllString(line, "quoted"), -1) {
					check(page, m[1], true)
				}
			}
		}
		for _, m := range inline.FindAllStringSubmatch(string(text), -1) {
			check(page, m[1], strings.Contains(m[1], " --"))
		}
	}
	if printed < 40 {
		t.Errorf("only %d commands were found", printed)
	}
}

// parse returns why words are no command. Whole ones, which are more than a name in a
// sentence, must have all that they need.
func parse(root *cobra.Command, words string, whole bool) error {
	cmd, rest, err := root.Find(strings.Fields(words))
	if err != nil {
		return err
	}
	cmd.Flags().Bool("json", false, "")
	cmd.Flags().BoolP("help", "h", false, "")
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	args := cmd.Flags().Args()
	if cmd.HasSubCommands() && len(args) > 0 {
		return errors.New("there is no such command")
	}
	if !whole {
		return nil
	}
	return errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups(), cmd.ValidateArgs(args))
}
