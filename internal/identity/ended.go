package identity

import "time"

// maxSkew is the most by which the clocks of two servers may differ: see
// docs/many-servers.md.
const maxSkew = 5 * time.Second

// The times in NotBefore, of a user or an agent, and of what he was given are of
// the clocks of whichever servers. Two rules make up for that:
//
//   - endNow is past the time of all that was given before, on whichever server;
//   - what is given afterwards is of a time past NotBefore, see since, if need be
//     one that is maxSkew and a moment ahead.

// endNow returns the next NotBefore, after last. It is later than last also by a
// clock that stands still or is behind: what since gave under last is over, too.
func endNow(now, last time.Time) time.Time {
	now = now.Add(maxSkew)
	if least := last.Add(1); now.Before(least) {
		now = least
	}
	return now.UTC()
}

// since is a time from which on something may count under a row with this
// NotBefore. The row was read after the time began, and what the caller proved
// himself by not before the row.
func since(began, notBefore time.Time) time.Time {
	if began.After(notBefore) {
		return began
	}
	return notBefore.Add(1)
}
