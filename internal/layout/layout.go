// Package layout is the legend of the store: every key that Keyfold writes,
// built here and nowhere else.
//
// Server store:
//
//	org:<org>                                      org: name, plan
//	user:<user>                                    user: org, email
//	apikey:<sha256 hex of the key>                 who a bearer key is; the key itself is never stored
//	vault:<vault>:meta                             vault: org, owner, name, KEK ID, CMEK fingerprint and its rotation
//	orgvault:<org>:<vault>                         index: the vaults of an org (empty value)
//	vault:<vault>:head:<path>                      a secret's newest version and what is listed of it
//	vault:<vault>:version:<path>:<n>               one version: attributes and envelope; never rewritten but to rewrap or re-encrypt
//	vault:<vault>:state:<path>:<n>                 what changes of a version: disabled, reads (absent until needed)
//	vaultpurge:<vault>                             the vault was deleted and its rows are being removed
//	thread:<thread>:meta                           thread: org, author, title, the four kms fields
//	thread:<thread>:msg:<ts>-<seq>                 nonce | ciphertext | tag of a message, nothing else
//	threadkek                                      least version of the threads' KEK that a new thread may use (absent: any)
//	orgthread:<org>:<author>:<created>-<thread>    index: the threads of an author (empty value)
//	kmscheck                                       which key store holds the keys to this store
//
// KMS store:
//
//	kek:<kek>                                      keyring: all versions, each wrapped by the root key
//	dek:<key id>                                   a thread's DEK, wrapped by a KEK version
//	kekuse:<kek>                                   wraps that each version of a KEK made or reserved, and which are released
//	auditkey                                       the audit's signing key, sealed
//	cmekkey:<fingerprint>                          a customer's key that the KMS keeps, and who may use it, sealed
//
// Both:
//
//	job:<job>                                      resumable work: what, how far, who holds it
//	storecopy                                      how far a copy into this store is (absent: the store is whole)
//	storerestore                                   name of the restore that fills this key store (absent: none does)
//
// <n> is 10 decimal digits, <ts> and <created> 20 (nanoseconds since 1970), <seq> 6.
// <author> is escaped as in a URL path segment, since user IDs may hold ':' and '/'.
// Paths hold no ':' (see vault.ValidatePath).
package layout

import (
	"fmt"
	"net/url"
	"strings"
)

// Org is the key of an org.
func Org(org string) string { return "org:" + org }

// User is the key of a user.
func User(user string) string { return "user:" + user }

// APIKey is the key of a bearer key, named by the hex SHA-256 of the key.
func APIKey(hash string) string { return "apikey:" + hash }

// VaultMeta is the key of a vault.
func VaultMeta(vault string) string { return "vault:" + vault + ":meta" }

// Vaults begins the keys of all rows of all vaults.
func Vaults() string { return "vault:" }

// VaultRows begins the key of every row of a vault, its meta included.
func VaultRows(vault string) string { return "vault:" + vault + ":" }

// OrgVault is the index entry of a vault; with an empty vault it begins all of the org's.
func OrgVault(org, vault string) string { return "orgvault:" + org + ":" + vault }

// SecretHead is the key of a secret's head; with a prefix of a path it begins the heads under it.
func SecretHead(vault, path string) string { return "vault:" + vault + ":head:" + path }

// SecretVersion is the key of version n of a secret.
func SecretVersion(vault, path string, n int) string {
	return SecretVersions(vault, path) + pad(uint64(n), 10)
}

// SecretVersions begins the keys of all versions of a secret.
func SecretVersions(vault, path string) string { return VaultVersions(vault) + path + ":" }

// VaultVersions begins the keys of all versions of all secrets of a vault.
func VaultVersions(vault string) string { return "vault:" + vault + ":version:" }

// SecretState is the key of what changes of version n of a secret.
func SecretState(vault, path string, n int) string {
	return SecretStates(vault, path) + pad(uint64(n), 10)
}

// SecretStates begins the keys of all states of a secret's versions.
func SecretStates(vault, path string) string { return "vault:" + vault + ":state:" + path + ":" }

// VaultPurge marks a deleted vault whose rows may remain; with an empty vault it begins all such marks.
func VaultPurge(vault string) string { return "vaultpurge:" + vault }

// Threads begins the keys of all rows of all threads.
func Threads() string { return "thread:" }

// ThreadKEK is the key of the least version of the threads' KEK for new threads.
func ThreadKEK() string { return "threadkek" }

// ThreadMeta is the key of a thread.
func ThreadMeta(thread string) string { return "thread:" + thread + ":meta" }

// Message is the key of a message; id is "<ts>-<seq>" as MessageID makes it.
func Message(thread, id string) string { return Messages(thread) + id }

// Messages begins the keys of all messages of a thread.
func Messages(thread string) string { return "thread:" + thread + ":msg:" }

// MessageID is "<ts>-<seq>": its order as text is the order of the messages.
func MessageID(ts int64, seq int) string { return fmt.Sprintf("%020d-%06d", ts, seq) }

// OrgThread is the index entry of a thread of an author.
func OrgThread(org, author string, created int64, thread string) string {
	return fmt.Sprintf("%s%020d-%s", OrgThreads(org, author), created, thread)
}

// OrgThreads begins the index entries of all threads of an author.
func OrgThreads(org, author string) string { return "orgthread:" + org + ":" + escape(author) + ":" }

// KMSCheck is the key of what binds the server's store to a key store.
func KMSCheck() string { return "kmscheck" }

// Keyed begins, each, the keys of rows that are worth nothing without the KMS.
func Keyed() []string { return []string{"vault:", "thread:", AllSealed()} }

// KEK is the key of a keyring.
func KEK(id string) string { return "kek:" + id }

// DEK is the key of a thread's DEK.
func DEK(keyID string) string { return "dek:" + keyID }

// KEKUse is the key of what is counted of a KEK.
func KEKUse(id string) string { return "kekuse:" + id }

// AuditKey is the key of the audit's signing key.
func AuditKey() string { return "auditkey" }

// CMEKKey is the key of a customer's key; with an empty fingerprint it begins all of them.
func CMEKKey(fingerprint string) string { return "cmekkey:" + fingerprint }

// Job is the key of a job; with an empty ID it begins all of them.
func Job(id string) string { return "job:" + id }

// escape makes a user ID one part of a key. url.PathEscape leaves ':' alone.
func escape(s string) string { return strings.ReplaceAll(url.PathEscape(s), ":", "%3A") }
