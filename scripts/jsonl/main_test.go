package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestLinesComeBackAsTheyWere(t *testing.T) {
	const lines = "plain\n\n  spaces \t\n\"quotes\" \\ <&> \x0c \x01\nключ 🔑 \u2028\n"
	var encoded, decoded bytes.Buffer
	if err := encode(strings.NewReader(lines), &encoded); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(encoded.String(), "\n"); n != strings.Count(lines, "\n") {
		t.Errorf("%d lines of JSONL", n)
	}
	if err := decode(&encoded, &decoded); err != nil || decoded.String() != lines {
		t.Errorf("%v: %q", err, decoded.String())
	}
}

func TestWhatIsNotUTF8IsRefused(t *testing.T) {
	if err := encode(strings.NewReader("caf\xe9\n"), new(bytes.Buffer)); err == nil {
		t.Error("encoded")
	}
}
