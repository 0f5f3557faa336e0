package layout

// Of limits of calls, where servers share the store:
//
//	tally:<server>     calls that a server let through lately; see package tally
//
// <server> is 16 hex digits, new at each start.

// Tally is the key of a server's row; with an empty server it begins all of them.
func Tally(server string) string { return "tally:" + server }
