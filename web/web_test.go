package web

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

var loaded = regexp.MustCompile(`(?:src|href)="([^"]*)"`)

func TestThePageLoadsWhatIsThereAndNothingElse(t *testing.T) {
	page, err := fs.ReadFile(FS(), "index.html")
	if err != nil {
		t.Fatal(err)
	}
	scripts := 0
	for _, found := range loaded.FindAllStringSubmatch(string(page), -1) {
		name, ours := strings.CutPrefix(found[1], "/ui/")
		if !ours {
			t.Errorf("the page loads %s, which the server's policy refuses", found[1])
		} else if _, err := fs.Stat(FS(), name); err != nil {
			t.Error(err)
		}
		if strings.HasSuffix(name, ".js") {
			scripts++
		}
	}
	if scripts == 0 {
		t.Errorf("the page loads no script:\n%s", page)
	}
}

var inline = regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>\s*[^<\s]|<style|\s(?:style|on[a-z]+)=`)

func TestThePageHasNoInlineCodeOrStyle(t *testing.T) {
	page, err := fs.ReadFile(FS(), "index.html")
	if err != nil {
		t.Fatal(err)
	}
	if found := inline.Find(page); found != nil {
		t.Errorf("%q, which the server's policy refuses", found)
	}
}
