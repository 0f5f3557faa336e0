package layout

// Of passkeys:
//
//	passkey:<user>:<passkey>                       a passkey: its public key and counter
//	passkeyof:<sha256 hex of the credential ID>    index: the key of the passkey of this credential
//
// <user> is escaped.

// Passkey is the key of a passkey; with an empty passkey it begins all of the user's.
func Passkey(user, passkey string) string { return "passkey:" + escape(user) + ":" + passkey }

// PasskeyOf is the index entry of a credential, named by the hash of its ID.
func PasskeyOf(hash string) string { return "passkeyof:" + hash }
