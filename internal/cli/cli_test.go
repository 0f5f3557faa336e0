package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// try runs a command line whose command "do" gives answer.
func try(t *testing.T, answer error, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	do := &cobra.Command{Use: "do", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		if errors.Is(answer, context.Canceled) {
			cancel()
		}
		return answer
	}}
	do.Flags().Bool("a", false, "")
	do.Flags().Bool("b", false, "")
	do.MarkFlagsMutuallyExclusive("a", "b")
	root := &cobra.Command{Use: "prog"}
	root.AddCommand(Group("things", "", do))
	var out, err bytes.Buffer
	a := &App{Name: "prog", Out: &out, Err: &err, Explain: func(err error) (string, string) {
		text, cut := strings.CutPrefix(err.Error(), "package: ")
		if !cut {
			return text, ""
		}
		return text, "what helps in general"
	}}
	code = a.Run(ctx, root, args)
	return code, out.String(), err.String()
}

func TestTheVersionIsWhatTheBuildWasTold(t *testing.T) {
	t.Cleanup(func() { version = "" })
	before := Version()
	if version = "v9.8.7"; Version() != "v9.8.7" || before == "v9.8.7" {
		t.Errorf("%s, and %s before", Version(), before)
	}
}

func TestARunEndsWithItsCodeAndItsAdvice(t *testing.T) {
	failed := errors.New("it failed")
	for name, c := range map[string]struct {
		answer error
		args   string
		code   int
		stderr string
	}{
		"done":                 {nil, "do", ExitDone, ""},
		"failed":               {failed, "do", ExitFailed, "prog: it failed\n"},
		"with advice":          {Advise(failed, "do that"), "do", ExitFailed, "prog: it failed\nhint: do that\n"},
		"the first advice":     {Advise(fmt.Errorf("so: %w", Advise(failed, "do that")), "do this"), "do", ExitFailed, "prog: so: it failed\nhint: do that\n"},
		"general advice":       {errors.New("package: gone"), "do", ExitFailed, "prog: gone\nhint: what helps in general\n"},
		"advice of its own":    {Advise(errors.New("package: gone"), "do that"), "do", ExitFailed, "prog: gone\nhint: do that\n"},
		"interrupted":          {fmt.Errorf("calling: %w", context.Canceled), "do", ExitFailed, "prog: interrupted\n"},
		"usage":                {Usagef("no %s", "name"), "do", ExitUsage, "prog: no name\nhint: prog things do --help\n"},
		"usage with advice":    {Advise(Usagef("no name"), "give one"), "do", ExitUsage, "prog: no name\nhint: give one\n"},
		"several lines":        {errors.Join(failed, errors.New("hint: \x1b[2Jrun\r this")), "do", ExitFailed, "prog: it failed\n  hint:  [2Jrun  this\n"},
		"an unknown flag":      {nil, "do --c", ExitUsage, "prog: unknown flag: --c\nhint: prog things do --help\n"},
		"an argument too many": {nil, "do it", ExitUsage, "prog: unknown command \"it\" for \"prog things do\"\nhint: prog things do --help\n"},
		"two flags of a group": {nil, "do --a --b", ExitUsage, "prog: if any flags in the group [a b] are set none of the others can be; [a b] were all set\nhint: prog things do --help\n"},
		"no command":           {nil, "", ExitUsage, "prog: prog things needs a command\nhint: prog things --help\n"},
		"another command":      {nil, "undo", ExitUsage, "prog: \"undo\" is not a command of prog things\nhint: prog things --help\n"},
		"almost a command":     {nil, "d", ExitUsage, "prog: \"d\" is not a command of prog things\nhint: prog things do\n"},
	} {
		code, stdout, stderr := try(t, c.answer, append([]string{"things"}, strings.Fields(c.args)...)...)
		if code != c.code || stderr != c.stderr || stdout != "" {
			t.Errorf("%s: exit %d, %q, %s", name, code, stdout, cmp.Diff(c.stderr, stderr))
		}
	}
	if Advise(nil, "do that") != nil {
		t.Error("there is advice where nothing failed")
	}
}

func TestAFailedCompletionIsNoWrongUsage(t *testing.T) {
	gone, out := io.Pipe()
	gone.Close()
	a := &App{Out: out, Err: io.Discard}
	root := &cobra.Command{Use: "prog"}
	root.AddCommand(Group("things", ""))
	if code := a.Run(t.Context(), root, []string{"completion", "bash"}); code != ExitFailed {
		t.Errorf("exit %d", code)
	}
}

func TestAnAnswerIsForPeopleOrForMachines(t *testing.T) { synctest.Test(t, testAnswers) }

func testAnswers(t *testing.T) {
	v := map[string]string{"name": "<a>"}
	rows := [][]string{{"ID", "NAME"}, {"1", "a\x1b[2J\nb"}, {"", "c"}}
	const asJSON = "{\n  \"name\": \"<a>\"\n}\n"
	for a, want := range map[*App]string{{}: "named a [2J b\nID  NAME\n1   a [2J b\n-   c\n", {JSON: true}: asJSON + asJSON} {
		var out, stderr bytes.Buffer
		a.Out, a.Err = &out, &stderr
		parts := 0
		err := errors.Join(a.Answer(v, "named %s", rows[1][1]), a.Table(v, rows), a.Follow(t.Context(), "working", func() (int, int, bool, error) {
			parts++
			return parts, 0, parts == 2, nil
		}))
		if err != nil || out.String() != want || stderr.Len() > 0 {
			t.Errorf("JSON %v: %v, %s%s", a.JSON, err, cmp.Diff(want, out.String()), &stderr)
		}
	}
}

func TestALogIsALevelAndAForm(t *testing.T) {
	for text, want := range map[string]string{
		"": "a-warning", "warn": "a-warning", "error": "", "info,": "an-info a-warning", "debug": "a-debug an-info a-warning",
		"info,json": "{ an-info { a-warning", "loud": "refused", ",json": "refused", "info,text": "refused",
	} {
		var l Log
		var out strings.Builder
		if text != "" && l.UnmarshalText([]byte(text)) != nil {
			out.WriteString("refused")
		} else {
			log := l.Logger(&out)
			log.Debug("a-debug")
			log.Info("an-info")
			log.Warn("a-warning")
		}
		got := strings.Join(regexp.MustCompile(`{|a-debug|an-info|a-warning|refused`).FindAllString(out.String(), -1), " ")
		if got != want {
			t.Errorf("%q logs %q, want %q", text, got, want)
		}
	}
}
