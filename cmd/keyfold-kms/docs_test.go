package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
)

var (
	block     = regexp.MustCompile("(?s)```(?:sh|ini)\n(.*?)```")
	inline    = regexp.MustCompile("`(?:bin/)?keyfold-kms ([^`]+)`")
	asWritten = regexp.MustCompile(`(?:^|[|;&=] *|[A-Z_]+=\S+ +|-- +)(?:\./|bin/|/usr/bin/|\$bin/)?keyfold-kms +([^|;&#]*)`)
	quoted    = regexp.MustCompile(`"[^"]*"|'[^']*'|\$\([^)]*\)`)
)

// Each command of the key process that a page prints is one, with the flags and
// arguments that it takes.
func TestEveryCommandThatADocumentPrintsIsOne(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	printed := 0
	for _, page := range append(pages, "../../README.md", "../../deploy/README.md", "../../internal/kmsapi/PROTOCOL.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range block.FindAllStringSubmatch(string(text), -1) {
			for line := range strings.Lines(strings.ReplaceAll(b[1], "\\\n", " ")) {
				for _, m := range asWritten.FindAllStringSubmatch(quoted.ReplaceAllString(line, "quoted"), -1) {
					printed++
					checkCommand(t, page, m[1], true)
				}
			}
		}
		for _, m := range inline.FindAllStringSubmatch(string(text), -1) {
			printed++
			checkCommand(t, page, quoted.ReplaceAllString(m[1], "quoted"), strings.Contains(m[1], " --"))
		}
	}
	if printed < 40 {
		t.Errorf("only %d commands were found", printed)
	}
}

// checkCommand fails the test unless words are a command of keyfold-kms; whole ones,
// which are more than a name in a sentence, have all that they need.
func checkCommand(t *testing.T, page, words string, whole bool) {
	t.Helper()
	a := &app{App: cli.App{Name: "keyfold-kms"}, getenv: func(string) string { return "" }}
	cmd, rest, err := a.root().Find(strings.Fields(strings.ReplaceAll(words, "...", "")))
	if err == nil {
		cmd.Flags().Bool("json", false, "")
		cmd.Flags().BoolP("help", "h", false, "")
		err = cmd.ParseFlags(rest)
	}
	if err == nil && whole {
		err = complete(cmd)
	}
	if err == nil && cmd.HasSubCommands() && len(cmd.Flags().Args()) > 0 {
		err = errors.New("there is no such command")
	}
	if err != nil {
		t.Errorf("%s prints %q: %v", filepath.Base(page), "keyfold-kms "+words, err)
	}
}

func complete(cmd *cobra.Command) error {
	for _, check := range []func() error{cmd.ValidateRequiredFlags, cmd.ValidateFlagGroups, func() error { return cmd.ValidateArgs(cmd.Flags().Args()) }} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}
