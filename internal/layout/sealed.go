package layout

import (
	"net/url"
	"strings"
)

// Sealed is the key of a small secret of the server's own:
//
//	sealed:<kind>:<owner>:<name>     envelope of the KMS, as JSON
//	sealedkek                        least version of the KEK that such a row may be written under (absent: any)
//
// kind is one word of ours; owner and name are escaped.
func Sealed(kind, owner, name string) string {
	return AllSealed() + kind + ":" + escape(owner) + ":" + escape(name)
}

// AllSealed begins the keys of all of the server's own secrets.
func AllSealed() string { return "sealed:" }

// SealedKEK is the key of the least version of the KEK for the server's own secrets.
func SealedKEK() string { return "sealedkek" }

// ParseSealed takes the key of a secret apart; ok is false when it is not one
// that Sealed returns.
func ParseSealed(key string) (kind, owner, name string, ok bool) {
	rest, _ := strings.CutPrefix(key, AllSealed())
	kind, rest, _ = strings.Cut(rest, ":")
	owner, name, _ = strings.Cut(rest, ":")
	owner, err1 := url.PathUnescape(owner)
	name, err2 := url.PathUnescape(name)
	return kind, owner, name, err1 == nil && err2 == nil && Sealed(kind, owner, name) == key
}
