package layout

import (
	"fmt"
	"strconv"
	"strings"
)

// Rows of a thread, beside thread:<thread>:meta and thread:<thread>:msg:<ts>-<seq>,
// which is the newest version of a message:
//
//	thread:<thread>:del:<ts>-<seq>          newest version of a message that was deleted
//	thread:<thread>:past:<ts>-<seq>:<n>     version n of a message that has a newer one
//	thread:<thread>:react:<ts>-<seq>        the reactions to a message
//	thread:<thread>:cursor                  up to which row the thread is re-encrypted (absent: from the first)
//	thread:<thread>:change:<ts>-<seq>       what became of which message at that time, for those who follow the thread
//	thread:<thread>:sent:<sha256 hex>       which message, or version of one, the request with this Idempotency-Key made
//	thread:<thread>:tail                    the time of the last change, where several servers share the store
//	thread:<thread>:count                   how many messages there are up to one of them (absent: none is counted)
//
// and of an org:
//
//	retention:<org>                              how long it keeps threads and messages
//	gone:<org>:<deleted>-<thread>                index: a deleted thread (empty value)
//	gone:<org>:<deleted>-<thread>-<ts>-<seq>     index: a deleted message of a thread (empty value)
//	retentionrun                                 which job purges, or did last, and when it began; of all orgs
//	retentionscrub                               rows in clear were purged, and the store's files not scrubbed since (empty value)
//
// del, msg, past and react rows are nonce | ciphertext | tag, nothing else; they
// are re-encrypted in the order of their keys.

// ThreadRow is the key of a row of a thread; with the beginning of a name it
// begins the keys of all rows with such names.
func ThreadRow(thread, name string) string { return "thread:" + thread + ":" + name }

// PastName is the name of the row of version n of a message; id is as MessageID makes it.
func PastName(id string, n int) string { return fmt.Sprintf("past:%s:%010d", id, n) }

// Retention is the key of how long an org keeps threads; with an empty org it begins all of them.
func Retention(org string) string { return "retention:" + org }

// RetentionRun is the key of the last purge.
func RetentionRun() string { return "retentionrun" }

// RetentionScrub is the key of what a purge of rows in clear owes.
func RetentionScrub() string { return "retentionscrub" }

// OrgThreadsOfAll begins the index entries of the threads of all authors of an org.
func OrgThreadsOfAll(org string) string { return "orgthread:" + org + ":" }

// Gone is the index entry of a deleted thread or, with a message ID, message.
func Gone(org string, deleted int64, thread, message string) string {
	key := fmt.Sprintf("%s%020d-%s", GoneOf(org), deleted, thread)
	if message != "" {
		key += "-" + message
	}
	return key
}

// GoneOf begins the index entries of all deleted threads and messages of an org.
func GoneOf(org string) string { return "gone:" + org + ":" }

// ParseGone reads what Gone made for an org.
func ParseGone(org, key string) (deleted int64, thread, message string, ok bool) {
	rest, ok := strings.CutPrefix(key, GoneOf(org))
	if !ok || len(rest) < 20+1+36 || rest[20] != '-' {
		return 0, "", "", false
	}
	deleted, err := strconv.ParseInt(rest[:20], 10, 64)
	thread, message = rest[21:57], rest[57:]
	if message != "" {
		message, ok = strings.CutPrefix(message, "-")
	}
	return deleted, thread, message, ok && err == nil && key == Gone(org, deleted, thread, message)
}
