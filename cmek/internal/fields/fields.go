// Package fields is the text that a CMEK key's backup and its shares are
// written in: # comments, and then one "name: value" to a line, in one order.
//
// It trusts nothing that it reads, and shows none of it in errors. A text is
// read in one way only: another order, a name twice or left out, a number or a
// base64 in another spelling, or a line too many is no such text.
package fields

import (
	"encoding/base64"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const space = " \t\r\n" // and no other: languages differ in what else they trim

// Reader reads fields in their order. The first that is not as it was asked
// for makes Done say no; what the others return means nothing then.
type Reader struct {
	lines []string
	bad   bool
}

// Read begins to read a text of at most most bytes: UTF-8, without control
// characters other than tab, CR and LF, with or without a byte order mark.
// Comments, empty lines, and white space around lines are skipped.
func Read(data []byte, most int) *Reader {
	r := &Reader{bad: len(data) > most || !utf8.Valid(data)}
	if r.bad {
		return r
	}
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		line = strings.Trim(line, space)
		r.bad = r.bad || strings.ContainsFunc(line, func(c rune) bool { return c != '\t' && unicode.IsControl(c) })
		if line != "" && !strings.HasPrefix(line, "#") {
			r.lines = append(r.lines, line)
		}
	}
	return r
}

// Text is the value of the next field, which name must name.
func (r *Reader) Text(name string) string {
	if len(r.lines) == 0 {
		r.bad = true
		return ""
	}
	value, ok := strings.CutPrefix(r.lines[0], name+": ")
	r.bad = r.bad || !ok
	r.lines = r.lines[1:]
	return value
}

// Exactly is Text that must be want, and reports whether all was well so far.
func (r *Reader) Exactly(name, want string) bool {
	r.bad = r.Text(name) != want || r.bad
	return !r.bad
}

// Int is Text of a decimal number, from least to most, without a sign or zeros
// before it. It is least where it fails.
func (r *Reader) Int(name string, least, most int) int {
	text := r.Text(name)
	n, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(n) != text || n < least || n > most {
		r.bad = true
		return least
	}
	return n
}

// Bytes is Text of the standard base64 of size bytes, with padding and without
// spare bits. It is size bytes where it fails too.
func (r *Reader) Bytes(name string, size int) []byte {
	b, err := base64.StdEncoding.Strict().DecodeString(r.Text(name))
	if err != nil || len(b) != size {
		r.bad = true
		return make([]byte, size)
	}
	return b
}

// Done reports whether every field was as it was asked for, and none is left.
func (r *Reader) Done() bool { return !r.bad && len(r.lines) == 0 }

// Append writes a field. value is a string, an int or bytes.
func Append(out []byte, name string, value any) []byte {
	out = append(append(out, name...), ": "...)
	switch v := value.(type) {
	case string:
		out = append(out, v...)
	case int:
		out = strconv.AppendInt(out, int64(v), 10)
	case []byte:
		out = base64.StdEncoding.AppendEncode(out, v)
	}
	return append(out, '\n')
}
