package layout

import (
	"strings"
	"testing"
)

func TestAnAuthorCannotReachIntoAnotherAuthorsThreads(t *testing.T) {
	for _, c := range [][2]string{{"a", "a:b"}, {"a:", "a"}, {"a/b", "a%2Fb"}, {"", "a"}, {"ü", "%C3%BC"}} {
		p, q := OrgThreads("o", c[0]), OrgThreads("o", c[1])
		if strings.HasPrefix(p, q) || strings.HasPrefix(q, p) {
			t.Errorf("authors %q and %q share a range: %q, %q", c[0], c[1], p, q)
		}
	}
}

func TestASecretsVersionsAreItsOwn(t *testing.T) {
	for _, c := range [][2]string{{"a", "a/b"}, {"a", "ab"}, {"a/b", "a/b/c"}} {
		p, q := SecretVersions("v", c[0]), SecretVersions("v", c[1])
		if strings.HasPrefix(p, q) || strings.HasPrefix(q, p) {
			t.Errorf("paths %q and %q share a range: %q, %q", c[0], c[1], p, q)
		}
	}
}

func TestOrderAsTextIsOrderInTime(t *testing.T) {
	ids := []string{MessageID(0, 0), MessageID(9, 999_999), MessageID(10, 0), MessageID(10, 1), MessageID(1<<63-1, 0)}
	for i := 1; i < len(ids); i++ {
		if ids[i-1] >= ids[i] {
			t.Errorf("%s >= %s", ids[i-1], ids[i])
		}
	}
	if SecretVersion("v", "p", 9) >= SecretVersion("v", "p", 10) {
		t.Error("version 9 must come before 10")
	}
}

// Stores that there are have these keys; another one would not find their rows.
func TestKeysOfStoredRowsStay(t *testing.T) {
	for got, want := range map[string]string{
		VaultMeta("v"):                         "vault:v:meta",
		SecretHead("v", "a/b"):                 "vault:v:head:a/b",
		SecretVersion("v", "a/b", 0):           "vault:v:version:a/b:0000000000",
		SecretVersion("v", "a/b", 7):           "vault:v:version:a/b:0000000007",
		SecretVersion("v", "a/b", 12345678901): "vault:v:version:a/b:12345678901",
		SecretState("v", "a/b", 7):             "vault:v:state:a/b:0000000007",
		SecretState("v", "a/b", 12345678901):   "vault:v:state:a/b:12345678901",
	} {
		if got != want {
			t.Errorf("%q, and in stores %q", got, want)
		}
	}
}
