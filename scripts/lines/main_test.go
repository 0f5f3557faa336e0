package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestLinesComeBackAsTheyWere(t *testing.T) {
	const lines = "plain\n\n  spaces \t\n\"quotes\" \\ <&> \x0c \x01\nключ 🔑 \u2028\n"
	var encoded, decoded bytes.Buffer
	if err := run([]string{"encode"}, strings.NewReader(lines), &encoded); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(encoded.String(), "\n"); n != strings.Count(lines, "\n") {
		t.Errorf("%d lines of JSONL", n)
	}
	if err := run([]string{"decode"}, &encoded, &decoded); err != nil || decoded.String() != lines {
		t.Errorf("%v: %q", err, decoded.String())
	}
}

func TestNamesAreThoseOfTheKind(t *testing.T) {
	const list = `{"secrets": [
		{"path": "certs/a_pem", "metadata": {"file": "ü a.pem"}},
		{"path": "env/A", "metadata": {"env": "A"}},
		{"path": "other"}]}`
	var out bytes.Buffer
	if err := run([]string{"names", "file"}, strings.NewReader(list), &out); err != nil || out.String() != "certs/a_pem\tü a.pem\n" {
		t.Errorf("%v: %q", err, out.String())
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	for _, c := range [][]string{
		{"encode", "caf\xe9\n"},
		{"decode", `{"body": {}}`},
		{"decode", `{"text": "x"}`},
		{"decode", `{"body": "x"`},
		{"names file", `{"secrets": [{"path": "p", "metadata": {"file": "a\tb"}}]}`},
		{"names file", `[]`},
		{"names", `{}`},
		{"", ""},
	} {
		if err := run(strings.Fields(c[0]), strings.NewReader(c[1]), new(bytes.Buffer)); err == nil {
			t.Errorf("lines %s takes %s", c[0], c[1])
		}
	}
}
