package main

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// Every command runs, rightly and wrongly, and what they wrote is searched.
func TestNoKeyAndNoValueIsPrintedButWhereItIsAskedFor(t *testing.T) {
	const canary, other = "canary-1f9d-value", "canary-77e0-message"
	s := keyfoldtest.Start(t)
	sh := newShell(t, s)
	dir := t.TempDir()
	keyFile, wrongFile := filepath.Join(dir, "my.key"), filepath.Join(dir, "wrong.key")
	envFile := writeTemp(t, "a.env", "A="+canary+"\nB=\"two\n"+canary+"\"\n")
	badEnv := writeTemp(t, "bad.env", "A=1\n"+canary+"\n")
	lines := writeTemp(t, "talk.jsonl", `{"body":"`+other+`"}`+"\n")
	badLines := writeTemp(t, "bad.jsonl", `{"body":"`+other+`"`+"\n")

	vault := sh.run("vault", "create", "v")
	sh.run("cmek", "keygen", "--out", keyFile)
	sh.run("cmek", "keygen", "--out", wrongFile)
	sh.run("cmek", "enable", vault, "--cmek-key-file", keyFile)
	thread := sh.run("thread", "create")
	for _, keyArgs := range [][]string{{"--cmek-key-file", keyFile}, {"--cmek-key-file", wrongFile}, nil} {
		try := func(stdin string, args ...string) { sh.try(stdin, append(args, keyArgs...)...) }
		for _, asJSON := range [][]string{nil, {"--json"}} {
			try(canary, append([]string{"secret", "put", vault, "a"}, asJSON...)...)
			try(canary, append([]string{"secret", "put", vault, "a/../b"}, asJSON...)...)
			try(canary, append([]string{"secret", "put", "no-such-vault", "a"}, asJSON...)...)
			try("", append([]string{"secret", "put", vault, "b", "--value", canary, "--type", "x"}, asJSON...)...)
			try("", append([]string{"secret", "import", vault, "--env-file", envFile}, asJSON...)...)
			try("", append([]string{"secret", "import", vault, "--env-file", badEnv}, asJSON...)...)
			try("", append([]string{"secret", "import", vault, "--dir", filepath.Dir(envFile)}, asJSON...)...)
			try("", append([]string{"cmek", "status", vault}, asJSON...)...)
			try("", append([]string{"cmek", "fingerprint"}, asJSON...)...)
			sh.try("", append([]string{"secret", "list", vault}, asJSON...)...)
			sh.try("", append([]string{"secret", "versions", vault, "a"}, asJSON...)...)
			sh.try("", append([]string{"vault", "get", vault}, asJSON...)...)
			sh.try("", append([]string{"message", "import", thread, "--file", lines}, asJSON...)...)
			sh.try("", append([]string{"message", "import", thread, "--file", badLines}, asJSON...)...)
			sh.try("", append([]string{"message", "post", thread, "--body", other, "--reply-to", "x"}, asJSON...)...)
		}
		try(canary, "cmek", "encrypt")
		try(canary, "cmek", "decrypt")
	}
	sh.try("", "secret", "get", vault, "a", "--cmek-key-file", wrongFile)
	sh.try("", "secret", "get", vault, "a", "--cmek-key-file", keyFile, "--out", filepath.Join(dir, "out"))
	sh.try("", "cmek", "keygen", "--out", keyFile)
	sh.env["KEYFOLD_CMEK_KEY"] = canary
	sh.try("", "secret", "get", vault, "a")
	sh.try("", "secret", "list", vault, "--api-key", s.APIKey)
	sh.env["KEYFOLD_URL"] = "http://127.0.0.1:1"
	sh.try("", "vault", "list")
	s.SetKMSDown(true)
	sh.env["KEYFOLD_URL"] = s.URL
	sh.try("", "message", "list", thread)

	if out, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || string(out) != canary {
		t.Fatalf("the run did not do what it should: %q, %v", out, err)
	}
	forbidden := append(keyTexts(t, keyFile), canary, other, s.APIKey)
	for _, text := range forbidden {
		if strings.Contains(sh.all.String(), text) {
			t.Errorf("the output holds %q", text)
		}
	}
	s.MustNotHold(t, forbidden...)
}

// keyTexts are the ways to write a key.
func keyTexts(t *testing.T, file string) []string {
	t.Helper()
	k, err := cmek.ReadKeyFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw := k.Bytes()
	return []string{string(raw), hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw)}
}
