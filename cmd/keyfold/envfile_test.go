package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/joho/godotenv"
	"pgregory.net/rapid"
)

func TestAnEnvFileIsReadByItsRules(t *testing.T) {
	for name, row := range map[string]struct{ text, want string }{
		"plain":                    {"A=b", "b"},
		"export":                   {"export A=b", "b"},
		"blanks around":            {"  A  =  b c \t", "b c"},
		"empty":                    {"A=", ""},
		"empty quotes":             {`A=""`, ""},
		"CRLF":                     {"A=b\r\nB=c\r\n", "b"},
		"a byte order mark":        {"\ufeffA=b", "b"},
		"comment after a blank":    {"A=b # c", "b"},
		"no comment without one":   {"A=b#c", "b#c"},
		"only a comment":           {"A= # c", ""},
		"a colour":                 {"A=#fff", "#fff"},
		"equals signs":             {"A=b=c==", "b=c=="},
		"single quotes":            {`A='b \n $A "c" #'`, `b \n $A "c" #`},
		"single over lines":        {"A='b\n c\n'", "b\n c\n"},
		"double quotes":            {`A="b 'c' # d"`, "b 'c' # d"},
		"double over lines":        {"A=\"b\nc\"", "b\nc"},
		"CRLF in quotes":           {"A=\"b\r\nc\"", "b\nc"},
		"comment after quotes":     {`A="b" # c`, "b"},
		"escapes":                  {`A="\n\r\t\"\\\$"`, "\n\r\t\"\\$"},
		"an escaped quote at end":  {`A="say \"hi\""`, `say "hi"`},
		"a backslash at the end":   {`A="C:\\"`, `C:\`},
		"backslashes that stay":    {`A="\d+\.\q"`, `\d+\.\q`},
		"backslashes out of it":    {`A=C:\new`, `C:\new`},
		"expanded":                 {"B=x\nA=$B-${B}", "x-x"},
		"expanded in quotes":       {"B=x\nA=\"<$B>\"", "<x>"},
		"not in single quotes":     {"B=x\nA='$B'", "$B"},
		"not when escaped":         {"B=x\nA=\"\\$B\"", "$B"},
		"not before it is set":     {"A=$B\nB=x", "$B"},
		"not what is never set":    {"A=pa$$word$1${", "pa$$word$1${"},
		"not the environment's":    {"A=$PATH", "$PATH"},
		"not twice":                {"C=$B\nB=x\nA=$C", "$B"},
		"the longest name":         {"B=x\nBB=y\nA=$BB", "y"},
		"braces end a name":        {"B=x\nA=${B}B", "xB"},
		"unicode":                  {"A=ключ 🔑", "ключ 🔑"},
		"a quote inside":           {`A=it's`, "it's"},
		"no line break at the end": {"B=x\nA=b", "b"},
		"form feeds and blanks":    {"\f\n \t\n#c\n\nA=b", "b"},
	} {
		vars, err := parseEnv(row.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, v := range vars {
			if v.name == "A" && v.value != row.want {
				t.Errorf("%s: got %q, want %q", name, v.value, row.want)
			}
		}
	}
}

func TestAMistakeInAnEnvFileIsNamedByItsLineAndNotQuoted(t *testing.T) {
	for text, line := range map[string]string{
		"A=1\ncanary":            "line 2:",
		"A=1\n\n=canary":         "line 3:",
		"A=\"canary":             "line 1:",
		"A='1\n2'\nB='canary":    "line 3:",
		"A=\"1\n2\" canary":      "line 2:",
		"A=1\ncanary canary=1":   "line 2:",
		"A=1\n'canary'=canary":   "line 2:",
		"A=1\nexport canary":     "line 2:",
		"A=\"canary\\":           "line 1:",
		"A: canary":              "line 1:",
		"# c\n\"canary\nB=1\"=1": "line 2:",
	} {
		_, err := parseEnv(text)
		if err == nil || !strings.HasPrefix(err.Error(), line) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Where the two agree on the rules, they agree on the values.
func TestEnvFilesMeanWhatGodotenvTakesThemFor(t *testing.T) {
	name := rapid.StringMatching(`[A-Z][A-Z0-9_]{0,5}`)
	value := rapid.OneOf(
		rapid.StringMatching(`[a-zA-Z0-9:/@=#.,-]{0,12}`),
		rapid.StringMatching(`'[a-z "#$\n]{0,12}'`),
		rapid.StringMatching(`"[a-z '#\n]{1,6}(\\n|\\r)?[a-z '#\n]{1,6}"`),
		rapid.StringMatching(`[a-z]{1,4} # [a-z]{0,4}`),
	)
	rapid.Check(t, func(r *rapid.T) {
		var b strings.Builder
		for range rapid.IntRange(0, 5).Draw(r, "lines") {
			b.WriteString(rapid.SampledFrom([]string{"", "export ", "# note\n", "\n"}).Draw(r, "before"))
			b.WriteString(name.Draw(r, "name") + "=" + value.Draw(r, "value") + "\n")
		}
		want, err := godotenv.Unmarshal(b.String())
		if err != nil {
			r.Skip()
		}
		vars, err := parseEnv(b.String())
		if err != nil {
			r.Fatalf("%q: %v", b.String(), err)
		}
		got := map[string]string{}
		for _, v := range vars {
			got[v.name] = v.value
		}
		if !cmp.Equal(got, want) {
			r.Fatalf("%q: %s", b.String(), cmp.Diff(want, got))
		}
	})
}

func FuzzParseEnv(f *testing.F) {
	for _, seed := range []string{"", "A=b", "A=\"\\", "A='", "export =", "${A}=${", "A=$A${A", "\r\n\ufeff#"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		vars, err := parseEnv(text)
		if err != nil && len(err.Error()) > 100 {
			t.Errorf("an error of %d characters may quote its input", len(err.Error()))
		}
		for _, v := range vars {
			if v.name == "" || v.line < 1 {
				t.Errorf("%+v of %q", v, text)
			}
		}
	})
}

func TestTheEnvironmentOfTheProcessIsNotLookedAt(t *testing.T) {
	t.Setenv("KEYFOLD_TEST_CANARY", "canary")
	vars, err := parseEnv("A=$KEYFOLD_TEST_CANARY")
	if err != nil || os.Getenv("KEYFOLD_TEST_CANARY") == "" || vars[0].value != "$KEYFOLD_TEST_CANARY" {
		t.Errorf("%+v, %v", vars, err)
	}
}
