package password

import (
	"errors"
	"unicode"
	"unicode/utf8"
)

// Bounds of a password.
const (
	minChars = 12
	maxBytes = 256
)

// Check returns nil if text will do as a password, or an error that names the
// first rule that it breaks: 12 characters or more, at most 256 bytes of UTF-8;
// an upper-case and a lower-case letter, a digit and a special character, which
// is all that is neither letter nor digit; no three equal characters in a row,
// and no three letters or digits that follow each other, up or down.
func Check(text string) error {
	switch {
	case !utf8.ValidString(text):
		return errors.New("the password must be UTF-8")
	case utf8.RuneCountInString(text) < minChars:
		return errors.New("the password is too short; it must have 12 characters or more")
	case len(text) > maxBytes:
		return errors.New("the password is too long; it may have 256 bytes")
	case !has(text, unicode.IsUpper):
		return errors.New("the password needs an upper-case letter")
	case !has(text, unicode.IsLower):
		return errors.New("the password needs a lower-case letter")
	case !has(text, unicode.IsDigit):
		return errors.New("the password needs a digit")
	case !has(text, func(r rune) bool { return !wordly(r) }):
		return errors.New("the password needs a special character: a sign or a space, no letter and no digit")
	}
	return checkRuns([]rune(text))
}

func checkRuns(text []rune) error {
	for i := 2; i < len(text); i++ {
		a, b, c := text[i-2], text[i-1], text[i]
		if a == b && b == c {
			return errors.New("the password has three equal characters in a row; change one of them")
		}
		if d := b - a; (d == 1 || d == -1) && c-b == d && wordly(a) && wordly(b) && wordly(c) {
			return errors.New("the password has three characters in a row that follow each other, such as abc or 321; change one of them")
		}
	}
	return nil
}

func has(text string, is func(rune) bool) bool {
	for _, r := range text {
		if is(r) {
			return true
		}
	}
	return false
}

func wordly(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
