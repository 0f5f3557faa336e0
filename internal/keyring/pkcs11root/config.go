// Package pkcs11root is a keyring.Root whose KEKs are AES-256 objects on a
// PKCS#11 token: made inside it, sensitive, not extractable. Wrap and unwrap are
// done by the token; this process has the DEKs and never a KEK.
//
// It owns the token's objects whose label begins with "keyfold ". It trusts the
// token, the library that speaks for it and whoever has the PIN; not the store
// that keeps the names of objects: a name is worth nothing under another KEK
// ID or version. Objects survive a crash. One that was made just before a crash,
// and that no keyring names, stays on the token and is used by nobody.
//
// A token that goes away (session lost, logged out, removed) makes calls fail
// with fault.Unavailable, and is taken up again by itself when it is back.
//
// The package needs cgo: a binary built without it says so in Open.
package pkcs11root

// Config names a token and says how to use it.
type Config struct {
	Module string // path of the library that speaks for the token
	// Which token: by label, serial number or slot. What is set must match, and
	// just one token must.
	Token, Serial string
	Slot          *uint
	// PIN reads the user PIN. It is called for each login, and the bytes are
	// wiped after it.
	PIN func() ([]byte, error)
	// Sessions is how many calls the token works on at a time: 2 by default.
	Sessions int
}
