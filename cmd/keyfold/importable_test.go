package main

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/vault"
)

func TestEveryPathOfANameIsLegal(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z._/ -]{0,20}`)).Draw(r, "name")
		if strings.Contains(name, "//") {
			r.Skip() // no file has such a name, and no variable a slash
		}
		for _, prefix := range []string{"", "p", "/p/q/"} {
			path, err := secretPathOf(prefix, name)
			if err != nil {
				continue
			}
			if err := vault.ValidatePath(path); err != nil {
				r.Fatalf("%q under %q became %q: %v", name, prefix, path, err)
			}
		}
	})
}

func TestNamesBecomePaths(t *testing.T) {
	for name, want := range map[string]string{
		"DATABASE_URL": "DATABASE_URL", "server.crt": "server_crt", ".env": "env", "a-b/c.d": "a-b/c_d",
		"--x--": "x", "Főtanúsítvány.pem": "F_tan_s_tv_ny_pem", "a b": "a_b", "\xff": "", "...": "",
		strings.Repeat("a", api.MaxSecretPath+1): "",
	} {
		got, err := secretPathOf("", name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q became %q, %v; want %q", name, got, err, want)
		}
	}
}
