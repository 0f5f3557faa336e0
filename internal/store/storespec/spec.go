// Package storespec opens the store that an operator names, in either process:
//
//	pebble:DIR         the directory DIR, with Pebble; one process at a time
//	postgres://...     a PostgreSQL database, or what speaks its wire; any number of processes
//	postgresql://...   the same
//
// It trusts whoever names the store. A URL may hold a password: a Spec prints
// without it, whatever the verb, and no error of this package quotes a URL.
// A store that a copy into it has not been finished of (see package storecopy) does
// not open.
package storespec

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
)

// Spec names a store. The zero value names none.
type Spec struct {
	dir string // of Pebble's files
	url string // of PostgreSQL, its password included
}

// InDir names the store in dir. With "" it names none.
func InDir(dir string) Spec { return Spec{dir: dir} }

const dirScheme = "pebble:"

// Parse reads a name; "" names no store. Its error does not quote text.
func Parse(text string) (Spec, error) {
	if text == "" {
		return Spec{}, nil
	}
	if dir, ok := strings.CutPrefix(text, dirScheme); ok {
		if dir == "" || strings.HasPrefix(dir, "//") {
			return Spec{}, errors.New("write the directory of the store right after pebble:, such as pebble:/var/lib/keyfold/server")
		}
		return InDir(filepath.Clean(dir)), nil
	}
	scheme, rest, _ := strings.Cut(text, "://")
	if scheme != "postgres" && scheme != "postgresql" {
		return Spec{}, errors.New("write pebble:DIR or postgres://USER@HOST/DATABASE")
	}
	authority, after := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, after = rest[:i], rest[i:]
	}
	if strings.ContainsAny(after, "@#") { // part of a password, perhaps
		return Spec{}, errors.New("the URL has a character in its name or password that stands for something else there; write / as %2F, ? as %3F, # as %23, @ as %40")
	}
	if strings.Count(authority, "@") > 1 {
		return Spec{}, errors.New("the URL has more than one @ before its hosts; write that of a name or password as %40")
	}
	return Spec{url: text}, nil
}

// IsZero reports whether s names no store.
func (s Spec) IsZero() bool { return s == Spec{} }

// Or is s, or other when s names no store.
func (s Spec) Or(other Spec) Spec {
	if s.IsZero() {
		return other
	}
	return s
}

// Dir is the directory of a store with Pebble, and else "".
func (s Spec) Dir() string { return s.dir }

// Shared reports whether several processes can have the store open.
func (s Spec) Shared() bool { return s.url != "" }

// HasPassword reports whether who knows the whole of s knows a password.
func (s Spec) HasPassword() bool {
	_, rest, _ := strings.Cut(s.url, "://")
	rest, query, _ := strings.Cut(rest, "?")
	user, _, named := strings.Cut(rest, "@")
	all, err := url.ParseQuery(query)
	return named && strings.Contains(user, ":") || all.Has("password") || all.Has("sslpassword") || err != nil
}

// Absolute is s with its directory from the root of the file system on, by its one
// true name if it is there.
func (s Spec) Absolute() (Spec, error) {
	if s.dir == "" {
		return s, nil
	}
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return s, err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return InDir(dir), nil
}

// String is the name without a password; Parse need not read it.
func (s Spec) String() string {
	if s.dir != "" {
		return dirScheme + s.dir
	}
	scheme, rest, _ := strings.Cut(s.url, "://")
	rest, query, _ := strings.Cut(rest, "?")
	if at := strings.Index(rest, "@"); at >= 0 {
		user, _, _ := strings.Cut(rest[:at], ":")
		rest = user + rest[at:]
	}
	if s.url == "" {
		return ""
	}
	return scheme + "://" + rest + shown(query)
}

// shown is the part of a URL's query that everybody may see: where the store is.
func shown(query string) string {
	all, err := url.ParseQuery(query)
	if err != nil {
		return ""
	}
	some := url.Values{}
	for _, name := range []string{"host", "port", "dbname", "user", "search_path"} {
		if v, ok := all[name]; ok {
			some[name] = v
		}
	}
	if len(some) == 0 {
		return ""
	}
	return "?" + some.Encode()
}

// Format writes String, whatever the verb.
func (s Spec) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue is String.
func (s Spec) LogValue() slog.Value { return slog.StringValue(s.String()) }
