package layout

import (
	"fmt"
	"strings"
	"time"
)

// The rows of package token:
//
//	tokenkeys                         the signing keys of access tokens: names and times (the keys themselves are sealed)
//	revoked:<jti>                     an access token that is dead before its end (empty value)
//	refresh:<sha256 hex of its ID>    a session of a user's and the hashes of its refresh tokens
//	refreshof:<user>:<sha256 hex>     index: the sessions of a user (empty value)
//	challenge:<kind>:<sha256 hex>     something half done, named by the hash of its text
//	tokenend:<ts>:<key>               index: the row under <key> ends at <ts>; its value is the key of another row that ends with it, or empty
//
// and of package throttle, where several servers share the store:
//
//	guesses:<sha256 hex>              how often an account, an address or a person guessed wrong of late
//
// <ts> is 20 decimal digits (nanoseconds since 1970); <user> is escaped.

// TokenKeys is the key of the list of signing keys.
func TokenKeys() string { return "tokenkeys" }

// Revoked is the key of a revoked access token.
func Revoked(jti string) string { return "revoked:" + jti }

// Refresh is the key of a session, named by the hash of its ID.
func Refresh(hash string) string { return "refresh:" + hash }

// RefreshOf is the index entry of a session; with an empty hash it begins all of the user's.
func RefreshOf(user, hash string) string { return "refreshof:" + escape(user) + ":" + hash }

// Challenge is the key of a challenge, named by the hash of its text.
func Challenge(kind, hash string) string { return "challenge:" + kind + ":" + hash }

// TokenEnd is the index entry of a row of these that ends at a time.
func TokenEnd(at time.Time, key string) string { return TokenEnds(at) + ":" + key }

// TokenEnds begins the entries of one moment; as text they are in the order of time.
func TokenEnds(at time.Time) string { return fmt.Sprintf("tokenend:%020d", max(0, at.UnixNano())) }

// TokenEnding is the key that an entry of TokenEnd is about.
func TokenEnding(entry string) string {
	_, rest, _ := strings.Cut(entry, ":")
	_, key, _ := strings.Cut(rest, ":")
	return key
}

// Guesses is the key of wrong guesses, named by the hash of who guessed or of whose
// secret; with an empty hash it begins all of them.
func Guesses(hash string) string { return "guesses:" + hash }
