package main

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/thread"
)

func linesOf(t *testing.T, text string, plain bool) ([]msgLine, error) {
	t.Helper()
	var lines []msgLine
	err := readLines(strings.NewReader(text), plain, func(l msgLine) error { lines = append(lines, l); return nil })
	return lines, err
}

func TestPlainLinesKeepEveryByteButTheLineBreak(t *testing.T) {
	for text, want := range map[string][]string{
		"":                nil,
		"a":               {`"a"`},
		"a\n":             {`"a"`},
		"a\n\nb":          {`"a"`, `""`, `"b"`},
		"\n":              {`""`},
		" a\t\r\n<&>\f\n": {`" a\t\r"`, `"<&>\f"`},
		"{\"x\":1}\n":     {`"{\"x\":1}"`},
	} {
		lines, err := linesOf(t, text, true)
		var got []string
		for _, l := range lines {
			got = append(got, string(l.Body))
		}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestAMistakeInAMessageFileIsNamedByItsLineAndNotQuoted(t *testing.T) {
	for _, bad := range []string{
		`canary`, `"canary"`, `["canary"]`, `{"body":"canary"`, `{"body":"canary"}}`, `{"body":"canary","canary":1}`,
		`{"role":"canary"}`, `{"body":null,"role":"canary"}`, `{"body":"canary","ts":-1}`, `{"body":"canary","ts":"1"}`,
		`{"Body":"canary"}`, "{\"body\":\"canary\xff\"}", `{"body":"canary","ts":1e300}`, `{"body":canary}`,
		`{"body":"canary"}{"body":"canary"}`, `{"body":"canary","body":2}`, `{"body":"canary","ts":1,"t\u0073":2}`,
		`{"body":1,"role":"canary\n"}`, `{"body":1,"role":"canary\u009f"}`, `{"body":1,"role":"` + strings.Repeat("c", thread.MaxRole+1) + `"}`, `{"body":"` + strings.Repeat("canary", maxLine/6) + `"}`,
	} {
		_, err := linesOf(t, "{\"body\":1}\n\n"+bad+"\n", false)
		if err == nil || !strings.HasPrefix(err.Error(), "line 3: ") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
	if _, err := linesOf(t, "a\ncanary\xff\n", true); err == nil || err.Error() != "line 2: it is not UTF-8" {
		t.Errorf("plain: %v", err)
	}
}

func TestTheLimitsAreTheServers(t *testing.T) {
	long := strings.Repeat("a", thread.MaxBody-2)
	for text, want := range map[string]bool{
		`{"body":1,"role":"` + strings.Repeat("ő", thread.MaxRole) + `"}`: true,
		`{"body":"` + long + `"}`:                      true,
		`{"body":["` + long[2:] + `",` + "\t" + ` 1]}`: false,
		`{"body":["` + long[4:] + `",` + "\t" + ` 1]}`: true,
		`{"body":"` + long + `a"}`:                     false,
	} {
		if _, err := linesOf(t, text, false); (err == nil) != want {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	for text, want := range map[string]bool{long: true, long + "a": false} {
		if _, err := linesOf(t, text, true); (err == nil) != want {
			t.Errorf("plain: %v", err)
		}
	}
}

func TestAnAnswerToNothingIsFoundBeforeTheImport(t *testing.T) {
	for text, want := range map[string]string{
		`{"id":"a","body":1}` + "\n" + `{"reply_to":"a","body":2}`: "",
		`{"reply_to":"00000000000000000009-000000","body":2}`:      "",
		`{"reply_to":"a","body":2}` + "\n" + `{"id":"a","body":1}`: "line 1: ",
		`{"body":1}` + "\n\n" + `{"reply_to":"a","body":2}`:        "line 3: ",
		`{"id":"a","reply_to":"a","body":2}`:                       "line 1: ",
		`{"reply_to":"00000000000000000000-000000","body":2}`:      "line 1: ",
		`{"reply_to":"99999999999999999999-000000","body":2}`:      "line 1: ",
		`{"reply_to":"00000000000000000009-0000000","body":2}`:     "line 1: ",
	} {
		_, err := planImport(writeTemp(t, "f.jsonl", text), false)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), "f.jsonl: "+want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestBodiesThatOnlyAServerTakesPass(t *testing.T) {
	for _, body := range []string{`{"a":1,"a":2}`, `"\ud800"`, `1e400`, `-0`, `[{"b":[]}]`, `false`, `""`} {
		lines, err := linesOf(t, `{"body":`+body+`}`, false)
		if err != nil || string(lines[0].Body) != body {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestReadingAMessageFileEndsWithItsErrors(t *testing.T) {
	err := readLines(io.MultiReader(strings.NewReader("a\n"), brokenReader{}), true, func(msgLine) error { return nil })
	if err == nil || !strings.HasPrefix(err.Error(), "line 2: ") {
		t.Errorf("answered %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"body":1,"ts":2,"id":"a","reply_to":"b"}`), false)
	f.Add([]byte("text"), true)
	f.Fuzz(func(t *testing.T, raw []byte, plain bool) {
		l, err := parseLine(raw, plain)
		if err == nil && (len(l.Body) == 0 || string(l.Body) == "null" || l.TS < 0) {
			t.Errorf("%q became %+v", raw, l)
		}
	})
}
