package access

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/internal/fault"
)

func TestAPatternMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"a", "a", true}, {"a", "A", false}, {"a", "a/b", false}, {"a/b", "a", false},
		{"*", "a", true}, {"*", "a/b", false}, {"*/*", "a", false}, {"a/*", "a/b", true}, {"a/*", "a", false}, {"*/b", "a/b", true},
		{"**", "a", true}, {"**", "a/b/c", true}, {"a/**", "a", true}, {"a/**", "a/b/c", true}, {"a/**", "ab", false},
		{"**/c", "c", true}, {"**/c", "a/b/c", true}, {"**/c", "a/c/b", false},
		{"a/**/c", "a/c", true}, {"a/**/c", "a/b/b/c", true}, {"a/**/c", "a/b", false},
		{"a/**/b/**/c", "a/b/b/c/c", true}, {"a/**/b/**/c", "a/c/b", false},
		{"**/**", "a", true}, {"**/*", "a", true}, {"**/*", "a/b", true}, {"*/**", "a", true}, {"**/*/*", "a", false},
		{"**/a/b", "a/a/b", true}, {"**/a/b/**/c", "a/a/b/a/c", true},
		// all else is literal
		{"a*", "ab", false}, {"a**", "ab", false}, {"?", "a", false}, {"[a]", "a", false}, {"a.", "ab", false}, {"***", "a", false}, {"a\\*", "a*", false}, {"{a,b}", "a", false},
	} {
		if got := Match(c.pattern, c.path); got != c.want || modelGlob(c.pattern, c.path) != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.path, got)
		}
	}
}

func TestMatchDoesAsItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		segment := rapid.SampledFrom([]string{"a", "b", "", "*", "**", "a*"})
		pattern := strings.Join(rapid.SliceOfN(segment, 1, 7).Draw(t, "pattern"), "/")
		path := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", ""}), 1, 7).Draw(t, "path"), "/")
		if got, want := Match(pattern, path), modelGlob(pattern, path); got != want {
			t.Fatalf("Match(%q, %q) = %v", pattern, path, got)
		}
	})
}

// A matcher that tries all runs of each "**" would not come back.
func TestAHostilePatternEnds(t *testing.T) {
	path := strings.Repeat("a/", 255) + "a"
	for _, pattern := range []string{strings.Repeat("**/a/", 84) + "b", strings.Repeat("**/", 170) + "b", strings.Repeat("**/*/", 84) + "b", strings.Repeat("**/a/", 84) + "**"} {
		if got, want := Match(pattern, path), strings.HasSuffix(pattern, "*"); got != want {
			t.Errorf("%.20s...: %v", pattern, got)
		}
	}
}

func TestAPatternIsChecked(t *testing.T) {
	for _, good := range []string{"a", "**", "*", "a/**/b", "a*", "DB_1/x-y", strings.Repeat("a", MaxPattern), "ключ/*"} {
		if err := CheckPattern(good); err != nil {
			t.Errorf("%.20q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "/", "/a", "a/", "a//b", "a\x00", "a\nb", "\xff", strings.Repeat("a", MaxPattern+1)} {
		if err := CheckPattern(bad); !errors.Is(err, fault.Invalid) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestALabelIsTwoWords(t *testing.T) {
	for scope, want := range map[string]bool{"vaults:read": true, "a-b:C_9": true, "a:": false, ":a": false, "a": false, "a:b:c": false, "a/b:c": false, "a:*": false, "**": false, "": false, ":": false} {
		if IsLabel(scope) != want {
			t.Errorf("IsLabel(%q) = %v", scope, !want)
		}
	}
}
