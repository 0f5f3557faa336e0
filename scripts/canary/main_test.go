package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestACanaryIsFoundInEverySpellingAtEveryOffset(t *testing.T) {
	secret := make([]byte, pieceLen)
	rand.Read(secret)
	for _, c := range [][]byte{secret, []byte("no one but the customer reads this?>?>")} {
		for lead := range 7 {
			plain := append(append(bytes.Repeat([]byte{0xfb}, lead), c...), "tail"...)
			for spelling, spelled := range map[string]string{
				"raw":       string(plain),
				"hex":       hex.EncodeToString(plain),
				"HEX":       strings.ToUpper(hex.EncodeToString(plain)),
				"base64":    base64.StdEncoding.EncodeToString(plain),
				"base64url": base64.RawURLEncoding.EncodeToString(plain),
			} {
				s := newSearch([][]byte{c}, false)
				s.in("here", []byte(spelled))
				if s.found[0] == 0 {
					t.Errorf("%q after %d bytes is not found in %s", c, lead, spelling)
				}
			}
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	noise := make([]byte, 1<<20)
	rand.Read(noise)
	c := []byte("a canary that nobody wrote anywhere")
	s := newSearch([][]byte{c}, false)
	s.in("here", noise)
	s.in("here", c[:len(c)-1])
	if s.found[0] != 0 {
		t.Error("found")
	}
}

func TestTheVerdictFollowsWhatWasAsked(t *testing.T) {
	dir := t.TempDir()
	canaries := [][]byte{[]byte("the first of all canaries"), []byte("the second of all canaries")}
	for _, c := range []struct {
		present   int
		none, all bool
	}{{0, true, false}, {1, false, false}, {2, false, true}} {
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, bytes.Join(canaries[:c.present], nil), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, wantAll := range []bool{false, true} {
			s := newSearch(canaries, false)
			if err := s.tree(dir); err != nil {
				t.Fatal(err)
			}
			want := c.none
			if wantAll {
				want = c.all
			}
			if err := s.verdict(wantAll); (err == nil) != want {
				t.Errorf("%d present, -all %v: %v", c.present, wantAll, err)
			}
		}
	}
	if err := newSearch(canaries, false).verdict(false); err == nil {
		t.Error("a search of nothing must not pass")
	}
}

// A store compresses its tables: only a search of the records can see there.
func TestACanaryInACompressedStoreIsFoundInItsRecords(t *testing.T) {
	dir := t.TempDir()
	line := "a line of plain words that must stay a secret of its owner"
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat(line+"\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := plant(filepath.Join(dir, "store"), []string{text}); err != nil {
		t.Fatal(err)
	}
	s := newSearch([][]byte{[]byte(line)}, false)
	if err := s.store(filepath.Join(dir, "store")); err != nil || s.found[0] == 0 || s.records == 0 {
		t.Errorf("%v: found %d times in %d records", err, s.found[0], s.records)
	}
}

func TestCanariesAreTakenEvenlyAndAreDistinct(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for f := range 4 {
		var b strings.Builder
		for l := range 50 {
			fmt.Fprintf(&b, "file %d has a line %02d that is long enough to be distinctive\nshort\n", f, l)
		}
		files = append(files, filepath.Join(dir, fmt.Sprint(f)))
		if err := os.WriteFile(files[f], []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	picked, err := pick("text", 4, append(files, files...))
	if err != nil || len(picked) != 4 {
		t.Fatalf("%d, %v", len(picked), err)
	}
	for f, c := range picked {
		if !bytes.HasPrefix(c, fmt.Appendf(nil, "file %d ", f)) {
			t.Errorf("canary %d is %q", f, c)
		}
	}
	if _, err := pick("pem", 1, files); err == nil {
		t.Error("there is no certificate in these files")
	}
	var b bytes.Buffer
	if err := writeCanaries(&b, picked); err != nil {
		t.Fatal(err)
	}
	if again, err := readCanaries(&b); err != nil || !bytes.Equal(bytes.Join(again, nil), bytes.Join(picked, nil)) {
		t.Errorf("%v: %q", err, again)
	}
}
