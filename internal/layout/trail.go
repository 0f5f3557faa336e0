package layout

import (
	"net/url"
	"strconv"
	"strings"
)

// The trail, of an org; the operator's has an empty one:
//
//	trail:<org>:<ts>-<chain>-<seq>     an event, in the order of time
//	trailpoint:<org>:<n>               checkpoint n, as JSON
//	trailopen:<org>:<chain>-<seq>      from this event on no checkpoint is known to name the chain; holds <ts>
//
// org is escaped; ts has 20 digits (nanoseconds since 1970), chain 16 hex digits,
// seq 15 digits, n 20.

// Trails begins the keys of all events.
func Trails() string { return "trail:" }

// Trail begins the keys of an org's events.
func Trail(org string) string { return Trails() + escape(org) + ":" }

// TrailFrom is the least key of an org's events of a time or later.
func TrailFrom(org string, ts int64) string { return Trail(org) + pad(uint64(max(ts, 0)), 20) }

// TrailEvent is the key of an event.
func TrailEvent(org string, ts int64, chain string, seq uint64) string {
	return Trails() + escape(org) + ":" + pad(uint64(max(ts, 0)), 20) + "-" + chain + "-" + pad(seq, 15)
}

// ParseTrailEvent reads what comes after Trail in the key of an event.
func ParseTrailEvent(rest string) (ts int64, chain string, seq uint64, ok bool) {
	digits, rest, _ := strings.Cut(rest, "-")
	chain, seqDigits, _ := strings.Cut(rest, "-")
	ts, err1 := strconv.ParseInt(digits, 10, 64)
	seq, err2 := strconv.ParseUint(seqDigits, 10, 64)
	return ts, chain, seq, err1 == nil && err2 == nil && len(digits) == 20 && len(chain) == 16 && len(seqDigits) == 15
}

// TrailPoint is the key of checkpoint n of an org.
func TrailPoint(org string, n uint64) string { return TrailPoints(org) + pad(n, 20) }

// ParseTrailPoint returns the number in the key of a checkpoint; 0: it is none.
func ParseTrailPoint(org, key string) uint64 {
	n, err := strconv.ParseUint(strings.TrimPrefix(key, TrailPoints(org)), 10, 64)
	if err != nil || key != TrailPoint(org, n) {
		return 0
	}
	return n
}

// TrailPoints begins the keys of an org's checkpoints.
func TrailPoints(org string) string { return "trailpoint:" + escape(org) + ":" }

// TrailOpen is the key of the mark at an event.
func TrailOpen(org, chain string, seq uint64) string {
	return TrailOpens() + escape(org) + ":" + chain + "-" + pad(seq, 15)
}

// TrailOpens begins the keys of all marks.
func TrailOpens() string { return "trailopen:" }

// ParseTrailOpen reads the key of a mark.
func ParseTrailOpen(key string) (org, chain string, seq uint64, ok bool) {
	rest, ok := strings.CutPrefix(key, TrailOpens())
	escaped, rest, _ := strings.Cut(rest, ":")
	chain, digits, _ := strings.Cut(rest, "-")
	org, err := url.PathUnescape(escaped)
	seq, err2 := strconv.ParseUint(digits, 10, 64)
	return org, chain, seq, ok && err == nil && err2 == nil && key == TrailOpen(org, chain, seq)
}

// pad writes n with so many digits, or more where it needs them.
func pad(n uint64, digits int) string {
	var text [20]byte
	b := strconv.AppendUint(text[:0], n, 10)
	return zeros[:max(digits-len(b), 0)] + string(b)
}

const zeros = "00000000000000000000"
