package layout

import "fmt"

// Of shares:
//
//	vault:<vault>:id:<secret>                      index: the path of the secret of this ID
//	share:<share>                                  a share: who made it, of what, for whom, how often it was opened
//	shareby:<org>:<user>:<share>                   index: the shares that a user made (empty value)
//	sharefor:<org>:<kind>:<principal>:<share>      index: the shares for a user or agent (empty value)
//	shareend:<ts>:<share>                          index: the shares by the time at which they end (empty value)
//
// <ts> is 20 decimal digits, seconds since 1970.

// SecretID is the index entry of a secret by its ID. It is one of the vault's
// rows, so that it goes with the vault.
func SecretID(vault, secret string) string { return VaultRows(vault) + "id:" + secret }

// Share is the key of a share.
func Share(share string) string { return "share:" + share }

// ShareBy is the index entry of a share of the user who made it; with an empty share it begins all of his.
func ShareBy(org, user, share string) string {
	return "shareby:" + org + ":" + escape(user) + ":" + share
}

// ShareFor is the index entry of a share for a principal; with an empty share it begins all for him.
func ShareFor(org, kind, principal, share string) string {
	return "sharefor:" + org + ":" + kind + ":" + escape(principal) + ":" + share
}

// ShareEnd is the index entry of a share by its end.
func ShareEnd(ts int64, share string) string {
	return fmt.Sprintf("%s%020d:%s", ShareEnds(), ts, share)
}

// ShareEnds begins the index of shares by their ends.
func ShareEnds() string { return "shareend:" }
