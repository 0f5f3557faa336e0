package vault

import (
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
)

// MaxPath is the greatest length of a secret's path, in bytes.
const MaxPath = api.MaxSecretPath

const pathHint = "a path is like db/credentials or OPENAI_KEY"

// ValidatePath returns nil when path can name a secret, and otherwise a
// fault.Invalid that says what is wrong. A path is 1 to MaxPath bytes of ASCII
// letters, digits, '_', '-' and '/', begins and ends with a letter or digit,
// and has no empty segment ("//"). Case counts. Segments in the middle may
// begin and end with '_' or '-': "a/_b-/c" is a path. There are no dots and
// no escapes, so a path is the same in a URL and out of it.
func ValidatePath(path string) error {
	switch {
	case path == "":
		return invalid("the path is empty; " + pathHint)
	case len(path) > MaxPath:
		return fault.New(fault.Invalid, "the path has %d bytes; the limit is %d", len(path), MaxPath)
	case strings.Contains(path, "//"):
		return invalid("the path has an empty segment (//); " + pathHint)
	}
	for _, r := range path {
		if !isPathRune(r) {
			return fault.New(fault.Invalid, "the path has the character %q; use letters, digits, '_', '-' and '/': %s", r, pathHint)
		}
	}
	if !isAlphanumeric(path[0]) || !isAlphanumeric(path[len(path)-1]) {
		return invalid("the path must begin and end with a letter or a digit; " + pathHint)
	}
	return nil
}

func isPathRune(r rune) bool {
	return r == '_' || r == '-' || r == '/' || r < 0x80 && isAlphanumeric(byte(r))
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

func invalid(message string) error { return fault.New(fault.Invalid, "%s", message) }
