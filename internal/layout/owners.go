package layout

import (
	"net/url"
	"strings"
)

// ParseOrgThread reads what OrgThread made. of begins all entries of that author.
func ParseOrgThread(key string) (of, author, thread string, ok bool) {
	parts := strings.Split(key, ":")
	if len(parts) != 4 || parts[0] != "orgthread" || len(parts[3]) != 20+1+36 {
		return "", "", "", false
	}
	author, err := url.PathUnescape(parts[2])
	return strings.Join(parts[:3], ":") + ":", author, parts[3][21:], err == nil
}

// AllOrgThreads begins the index entries of the threads of all orgs.
func AllOrgThreads() string { return "orgthread:" }

// Shown begins, each, the keys of rows that an operator may be shown as they lie,
// in order: of threads and vaults, whose values are sealed, of what the KMS sealed
// for the server, and of jobs. What is left out are accounts and what proves that
// somebody is who he says: a hash of a password, a recovery code or a device's code
// can be guessed by whoever has it.
func Shown() []string {
	return []string{"gone:", "job:", "kmscheck", "orgthread:", "orgvault:", "retention:", "retentionrun", "retentionscrub", "sealed:", "sealedkek", "thread:", "threadkek", "vault:", "vaultpurge:"}
}
