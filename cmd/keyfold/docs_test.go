package main

import (
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
)

var (
	shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")
	inlineCode = regexp.MustCompile("`(keyfold [^`]+)`")
	quoted     = regexp.MustCompile(`"[^"]*"|'[^']*'`)
	asWritten  = regexp.MustCompile(`(?:^|[|;&] *|[A-Z_]+=\S+ +|-- +)(?:\./|go run \./cmd/)?keyfold +([^|;&#]*)`)
)

// Each command that the README or a page of docs/ prints is one of this program, with the flags
// and arguments that it takes.
func TestEveryCommandThatADocumentPrintsIsOne(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	printed := 0
	for _, page := range append(pages, "../../README.md") {
		text := readTemp(t, page)
		for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
			for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", " ")) {
				for _, m := range asWritten.FindAllStringSubmatch(line, -1) {
					printed++
					checkCommand(t, page, m[1], true)
				}
			}
		}
		for _, m := range inlineCode.FindAllStringSubmatch(text, -1) {
			printed++
			_, args, _ := strings.Cut(m[1], " ")
			checkCommand(t, page, args, strings.Contains(args, " --"))
		}
	}
	if printed < 40 {
		t.Errorf("only %d commands were found", printed)
	}
}

// checkCommand fails the test unless words are a command of keyfold; whole ones,
// which are more than a name in a sentence, have all that they need.
func checkCommand(t *testing.T, page, words string, whole bool) {
	t.Helper()
	a := &app{App: cli.App{Name: "keyfold"}, getenv: func(string) string { return "set" }}
	cmd, rest, err := a.root().Find(strings.Fields(quoted.ReplaceAllString(words, "quoted")))
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
		t.Errorf("%s prints %q: %v", filepath.Base(page), "keyfold "+words, err)
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
