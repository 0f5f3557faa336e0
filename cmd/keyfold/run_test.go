package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAPathNamesAVariableOrIsRefused(t *testing.T) {
	for paths, want := range map[string]string{
		"db/password OPENAI_KEY a-b/c": "DB_PASSWORD OPENAI_KEY A_B_C",
		"a/b a-b":                      "refused: a/b and a-b both make the variable A_B",
		"a A":                          "refused: a and A both make the variable A",
		"x/path ld_preload":            "refused: ld_preload makes the variable LD_PRELOAD",
		"path":                         "refused: path makes the variable PATH",
		"bash-env":                     "refused: bash-env makes the variable BASH_ENV",
		"2fa/seed":                     "refused: 2fa/seed makes no name of a variable",
		"ld":                           "LD",
	} {
		names, err := variableNames(strings.Fields(paths), "")
		got := strings.Join(names, " ")
		if err != nil {
			got = "refused: " + err.Error()
		}
		if strings.HasPrefix(want, "refused") && !strings.HasPrefix(got, want) || !strings.HasPrefix(want, "refused") && got != want {
			t.Errorf("%s: %s, want %s", paths, got, want)
		}
	}
	if names, err := variableNames([]string{"prod/db", "prod/key"}, "prod/"); err != nil || !slices.Equal(names, []string{"DB", "KEY"}) {
		t.Errorf("stripped: %v, %v", names, err)
	}
	if names, err := variableNames([]string{"prod", "prod/key"}, "prod"); err == nil {
		t.Errorf("a name of nothing: %q", names)
	}
}

func TestACommandGetsSecretsAndNotOurCredentials(t *testing.T) {
	inherited := []string{"HOME=/h", "KEYFOLD_API_KEY=k", "KEYFOLD_CMEK_KEY=k", "KEYFOLD_CMEK_KEY_FILE=f", "ONECLAW_CMEK_KEY=k", "KEYFOLD_URL=u", "DB=old"}
	secrets := []string{"DB=new", "KEYFOLD_CMEK_KEY_FILE=of the vault"}
	for keep, want := range map[bool][]string{
		false: {"HOME=/h", "KEYFOLD_URL=u", "DB=new", "KEYFOLD_CMEK_KEY_FILE=of the vault"},
		true:  {"HOME=/h", "KEYFOLD_API_KEY=k", "KEYFOLD_CMEK_KEY=k", "ONECLAW_CMEK_KEY=k", "KEYFOLD_URL=u", "DB=new", "KEYFOLD_CMEK_KEY_FILE=of the vault"},
	} {
		if d := cmp.Diff(want, environment(inherited, secrets, keep)); d != "" {
			t.Errorf("keep %v: %s", keep, d)
		}
	}
}
