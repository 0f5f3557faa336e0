package main

import (
	"testing"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/cli/clitest"
)

func TestEveryCommandThatADocumentPrintsIsOne(t *testing.T) {
	clitest.Docs(t, "keyfold", func() *cobra.Command {
		return (&app{App: cli.App{Name: "keyfold"}, getenv: func(string) string { return "set" }}).root()
	}, "../../README.md", "../../deploy/README.md")
}
