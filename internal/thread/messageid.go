package thread

import (
	"strconv"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

// maxSeq is the greatest seq: one time holds maxSeq+1 messages.
const maxSeq = 999_999

// parseMessageID reads what layout.MessageID wrote: 20 digits of time, 1 to
// 2^63-1, a dash, 6 digits of seq. There is one text per ID.
func parseMessageID(id string) (ts int64, seq int, ok bool) {
	if len(id) != 20+1+6 || !isDigits(id[:20]) || id[20] != '-' || !isDigits(id[21:]) {
		return 0, 0, false
	}
	ts, err := strconv.ParseInt(id[:20], 10, 64)
	if err != nil || ts < 1 {
		return 0, 0, false
	}
	seq, err = strconv.Atoi(id[21:])
	return ts, seq, err == nil
}

// checkMessageID is parseMessageID for a parameter called name.
func checkMessageID(name, id string) error {
	if _, _, ok := parseMessageID(id); !ok {
		return fault.New(fault.Invalid, "%s must be the ID of a message, such as %s", name, layout.MessageID(1790000000000000000, 0))
	}
	return nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
