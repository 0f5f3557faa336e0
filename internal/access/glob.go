package access

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyfold/keyfold/internal/fault"
)

// MaxPattern is the most bytes that a pattern may have: what a path may have.
const MaxPattern = 512

// Match reports whether path matches pattern. Both are segments between
// slashes: "*" in a pattern is exactly one segment, "**" any number of them,
// none included, wherever it stands; all else is literal, "a*" too.
//
// It takes at most as many steps as the product of the two numbers of segments:
// after a mismatch only the last "**" tries a longer run, since what came
// before it has matched already.
func Match(pattern, path string) bool {
	p, s := segments{pattern, true}, segments{path, true}
	var after, run segments // the rest of the pattern behind the last "**", and of the path behind its run
	starred := false
	for s.more {
		want, pRest := p.next()
		got, sRest := s.next()
		switch {
		case p.more && want == "**":
			p, after, run, starred = pRest, pRest, s, true
		case p.more && (want == "*" || want == got):
			p, s = pRest, sRest
		case starred:
			_, run = run.next()
			p, s = after, run
		default:
			return false
		}
	}
	for p.more {
		want, rest := p.next()
		if want != "**" {
			return false
		}
		p = rest
	}
	return true
}

// segments are those that are left of a text.
type segments struct {
	text string
	more bool
}

func (s segments) next() (first string, rest segments) {
	first, rest.text, rest.more = strings.Cut(s.text, "/")
	return first, rest
}

// CheckPattern returns nil when pattern can be a policy's or a scope, and
// otherwise a fault.Invalid that says what is wrong.
func CheckPattern(pattern string) error {
	const hint = "a pattern is like db/*, db/** or db/credentials"
	switch {
	case pattern == "" || len(pattern) > MaxPattern:
		return fault.New(fault.Invalid, "a pattern has 1 to %d bytes; %s", MaxPattern, hint)
	case !utf8.ValidString(pattern) || strings.ContainsFunc(pattern, unicode.IsControl):
		return fault.New(fault.Invalid, "a pattern must be UTF-8 without control characters; %s", hint)
	case strings.HasPrefix(pattern, "/") || strings.HasSuffix(pattern, "/") || strings.Contains(pattern, "//"):
		return fault.New(fault.Invalid, "a pattern may not begin or end with a slash, or have two together; %s", hint)
	}
	return nil
}

// IsLabel reports whether a scope is a label such as "vaults:read", which
// limits nothing, rather than a pattern of paths.
func IsLabel(scope string) bool {
	left, right, ok := strings.Cut(scope, ":")
	return ok && isWord(left) && isWord(right)
}

func isWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && r != '-' && !('a' <= r && r <= 'z') && !('A' <= r && r <= 'Z') && !('0' <= r && r <= '9')
	})
}
