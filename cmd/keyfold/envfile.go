package main

import (
	"fmt"
	"strings"
)

// An .env file is lines of
//
//	NAME=value      to the end of the line; blanks around it and " #comment" are cut; $NAME is expanded
//	NAME="value"    may hold line breaks; \n \r \t \" \\ \$ are escapes, other backslashes stay; $NAME is expanded
//	NAME='value'    may hold line breaks; nothing is special
//
// and of blank lines and # comments. "export " before a name is skipped. CRLF
// ends a line as LF does, and inside quotes becomes LF.
//
// $NAME and ${NAME} stand for the value of a NAME that an earlier line of the
// same file has set. Any other $ stays as it is: a password such as pa$$word is
// never cut short, and the environment of the process is not looked at.

// envVar is one variable of an .env file.
type envVar struct {
	name, value string
	line        int // where it begins, from 1
}

// parseEnv returns the variables in the order of the file. Errors name a line
// and quote nothing: every part of such a file may be a secret.
func parseEnv(text string) ([]envVar, error) {
	p := envParser{rest: strings.ReplaceAll(strings.TrimPrefix(text, "\ufeff"), "\r\n", "\n"), line: 1, set: map[string]string{}}
	var vars []envVar
	for p.skipBlank(); p.rest != ""; p.skipBlank() {
		v, err := p.variable()
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", p.line, err)
		}
		p.set[v.name] = v.value
		vars = append(vars, v)
	}
	return vars, nil
}

type envParser struct {
	rest string
	line int
	set  map[string]string
}

// take cuts n bytes off the rest and counts their lines.
func (p *envParser) take(n int) string {
	s := p.rest[:n]
	p.rest = p.rest[n:]
	p.line += strings.Count(s, "\n")
	return s
}

// skipBlank goes to the next line that says something.
func (p *envParser) skipBlank() {
	for {
		p.take(len(p.rest) - len(strings.TrimLeft(p.rest, " \t\r\n\f\v")))
		if !strings.HasPrefix(p.rest, "#") {
			return
		}
		p.take(lineLength(p.rest))
	}
}

func (p *envParser) variable() (envVar, error) {
	v := envVar{line: p.line}
	head, _, ok := strings.Cut(p.rest[:lineLength(p.rest)], "=")
	if !ok {
		return v, fmt.Errorf("want NAME=value")
	}
	p.take(len(head) + 1)
	v.name = strings.TrimSpace(head)
	if name, ok := strings.CutPrefix(v.name, "export "); ok {
		v.name = strings.TrimSpace(name)
	}
	if v.name == "" || strings.ContainsAny(v.name, " \t'\"`") {
		return v, fmt.Errorf("want NAME=value, with a name of letters, digits and underscores")
	}
	blanks := p.take(len(p.rest) - len(strings.TrimLeft(p.rest, " \t")))
	var err error
	switch {
	case strings.HasPrefix(p.rest, "'"):
		v.value, err = p.singleQuoted()
	case strings.HasPrefix(p.rest, `"`):
		v.value, err = p.doubleQuoted()
	default:
		v.value = p.unquoted(blanks != "")
	}
	return v, err
}

// unquoted takes the line. A # after a blank begins a comment.
func (p *envParser) unquoted(afterBlank bool) string {
	line := p.take(lineLength(p.rest))
	for i := range line {
		if line[i] == '#' && afterBlank {
			line = line[:i]
			break
		}
		afterBlank = line[i] == ' ' || line[i] == '\t'
	}
	return p.expand(strings.Trim(line, " \t\r"))
}

func (p *envParser) singleQuoted() (string, error) {
	end := strings.IndexByte(p.rest[1:], '\'')
	if end < 0 {
		return "", fmt.Errorf("the quote ' is never closed")
	}
	value := p.take(end + 2)
	return value[1 : end+1], p.endOfLine()
}

func (p *envParser) doubleQuoted() (string, error) {
	var b strings.Builder
	start := 1 // of what is not yet expanded
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			b.WriteString(p.expand(p.rest[start:i]))
			p.take(i + 1)
			return b.String(), p.endOfLine()
		case c == '\\' && i+1 < len(p.rest):
			if s, ok := envEscapes[p.rest[i+1]]; ok {
				b.WriteString(p.expand(p.rest[start:i]) + s)
				start = i + 2
			}
			i++
		}
	}
	return "", fmt.Errorf(`the quote " is never closed`)
}

var envEscapes = map[byte]string{'n': "\n", 'r': "\r", 't': "\t", '"': `"`, '\\': `\`, '$': "$"}

// endOfLine takes what may follow a closing quote: blanks and a comment.
func (p *envParser) endOfLine() error {
	rest := strings.TrimSpace(p.rest[:lineLength(p.rest)])
	if rest != "" && rest[0] != '#' {
		return fmt.Errorf("there is more after the closing quote")
	}
	p.take(lineLength(p.rest))
	return nil
}

// expand puts in the values of names that were set before.
func (p *envParser) expand(s string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "$")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, n := envReference(after)
		if value, ok := p.set[name]; ok && n > 0 {
			b.WriteString(value)
			s = after[n:]
			continue
		}
		b.WriteByte('$')
		s = after
	}
}

// envReference reads NAME or {NAME} at the start of s, and how long it is.
func envReference(s string) (name string, n int) {
	body, braced := strings.CutPrefix(s, "{")
	for n < len(body) && isEnvName(body[n]) {
		n++
	}
	name = body[:n]
	switch {
	case n == 0 || braced && !strings.HasPrefix(body[n:], "}"):
		return "", 0
	case braced:
		return name, n + 2
	}
	return name, n
}

func isEnvName(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// lineLength is how long the first line of s is, without its line break.
func lineLength(s string) int {
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		return i
	}
	return len(s)
}
