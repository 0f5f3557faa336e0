package vault

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestPathsThatCanNameASecret(t *testing.T) {
	for _, p := range []string{
		"a", "A", "0", "OPENAI_KEY", "db/credentials", "a/b/c/d", "a-b_c", "a/_b", "a/-b-/c", "a_/b", "a--b__c", "a/_/b",
		strings.Repeat("a", MaxPath),
	} {
		if err := ValidatePath(p); err != nil {
			t.Errorf("ValidatePath(%q) = %v", p, err)
		}
	}
}

func TestPathsThatCannotNameASecret(t *testing.T) {
	for _, p := range []string{
		"", "/", "/a", "a/", "//", "a//b", "-a", "a-", "_a", "a_", "a/-", "a.b", ".", "..", "../a", "a/../b", "a/./b", "a b", " a", "a ",
		"a:b", "a%2Fb", "a\x00b", "\x00", "a\nb", "a\\b", "a?b", "a#b", "a*b", "é", "aéb", "a\xffb", "\xff", "ａ", "١", "a\u200bb",
		strings.Repeat("a", MaxPath+1),
	} {
		err := ValidatePath(p)
		want(t, p, err, fault.Invalid)
		if len(p) > MaxPath && err != nil && len(err.Error()) > 200 {
			t.Error("the message repeats the path")
		}
	}
}

func FuzzValidatePath(f *testing.F) {
	for _, p := range []string{"a", "db/credentials", "a//b", "a/../b", "a%2Fb", "a:b", "", "a\x00", "Ä", "\xff", "_a", "a-"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if ValidatePath(p) != nil {
			return
		}
		if back, err := url.PathUnescape(p); err != nil || back != p {
			t.Errorf("%q changes when it is unescaped", p)
		}
		if u := (&url.URL{Path: "/" + p}); u.EscapedPath() != "/"+p || path.Clean(u.Path) != u.Path {
			t.Errorf("%q changes in a URL", p)
		}
		if strings.ContainsAny(p, ":.%\x00 \\?#") || strings.Contains(p, "//") || !isAlphanumeric(p[0]) || !isAlphanumeric(p[len(p)-1]) {
			t.Errorf("%q was accepted", p)
		}
		for _, key := range []string{layout.SecretHead(noVault, p), layout.SecretVersion(noVault, p, 1<<31), layout.SecretState(noVault, p, 1<<31)} {
			if b := new(store.Batch); len(key) > store.MaxKey || strings.Count(key, ":") > 4 {
				t.Errorf("%q makes the key %q", p, key)
			} else if b.Put(key, nil); b.Validate() != nil {
				t.Errorf("%q makes a key that the store refuses", p)
			}
		}
	})
}
