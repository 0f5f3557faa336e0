package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyfold/keyfold/internal/cli"
)

// credentialVariables are those that keyfold itself reads its credentials from.
var credentialVariables = []string{"KEYFOLD_API_KEY", "KEYFOLD_CMEK_KEY", "KEYFOLD_CMEK_KEY_FILE", "ONECLAW_CMEK_KEY"}

// steering are variables, or with a * the beginnings of some, that say which
// programs and libraries are loaded. There are more, of single programs.
var steering = []string{"PATH", "LD_*", "DYLD_*", "GLIBC_TUNABLES", "GCONV_PATH", "IFS", "ENV", "BASH_ENV", "BASH_FUNC_*", "SHELLOPTS", "PS4",
	"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PERL5LIB", "PERL5OPT", "RUBYLIB", "RUBYOPT", "NODE_OPTIONS", "NODE_PATH",
	"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_CONFIG_*"}

// variableName makes the name of a variable of a path: in upper case, with _ for
// / and -.
func variableName(path string) string {
	return strings.NewReplacer("/", "_", "-", "_").Replace(strings.ToUpper(path))
}

// variableNames are the names for paths, each without the prefix cut.
func variableNames(paths []string, cut string) ([]string, error) {
	names, from := make([]string, len(paths)), map[string]string{}
	for i, path := range paths {
		name := variableName(strings.TrimPrefix(path, cut))
		other, taken := from[name]
		switch {
		case taken:
			return nil, cli.Advise(fmt.Errorf("%s and %s both make the variable %s", other, path, name), "take one of them by --prefix, or give one another path")
		case !isVariable(name):
			return nil, cli.Advise(fmt.Errorf("%s makes no name of a variable: %q", path, name), "leave it out by --prefix, or do without --strip-prefix")
		case isSteering(name):
			return nil, cli.Advise(fmt.Errorf("%s makes the variable %s, which says what programs are run", path, name), "give the secret another path")
		}
		names[i], from[name] = name, path
	}
	return names, nil
}

// isVariable reports a name that shells can use.
func isVariable(name string) bool {
	return name != "" && (name[0] < '0' || name[0] > '9') && !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}

func isSteering(name string) bool {
	return slices.ContainsFunc(steering, func(s string) bool {
		begins, open := strings.CutSuffix(s, "*")
		return name == s || open && strings.HasPrefix(name, begins)
	})
}

// environment is inherited, but for our credentials unless keep, and for what
// secrets has of the same name, and then secrets. Both are "NAME=value".
func environment(inherited, secrets []string, keep bool) []string {
	drop := map[string]bool{}
	if !keep {
		for _, name := range credentialVariables {
			drop[name] = true
		}
	}
	for _, s := range secrets {
		name, _, _ := strings.Cut(s, "=")
		drop[name] = true
	}
	env := slices.DeleteFunc(slices.Clone(inherited), func(s string) bool {
		name, _, _ := strings.Cut(s, "=")
		return drop[name]
	})
	return append(env, secrets...)
}
