package httpx

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/keyfold/keyfold/internal/fault"
)

// maxParams is how many names a pattern may have.
const maxParams = 4

// node is a place in the tree of patterns; its edges are segments. A literal
// goes before a {name}, which goes before a {name...}.
type node struct {
	literals map[string]*node
	one      *node // {name}
	leaf     *leaf // patterns that end here
	rest     *leaf // patterns that end here in {name...}
}

// leaf holds the rows of one path shape.
type leaf struct {
	rows  []*Row
	names [][]string // of the parameters of each row
	allow string     // their methods, as the Allow header has them
	rest  bool       // it ends in {name...}
}

func newNode() *node { return &node{literals: map[string]*node{}} }

// add puts row into the tree below n, the root.
func (n *node) add(row *Row) {
	pattern, ok := strings.CutPrefix(row.Pattern, "/")
	if !ok || row.Handler == nil {
		panic("httpx: a row needs a handler and a pattern that begins with /: " + row.Pattern)
	}
	if row.Ahead != nil && (row.Who != Principal || row.MaxBody > 0 || row.Keys) {
		panic("httpx: what is read ahead would grow old while a body or an end user is awaited: " + row.Pattern)
	}
	var names []string
	at := &n.leaf
	for segment := range strings.SplitSeq(pattern, "/") {
		if at == &n.rest {
			panic("httpx: {name...} must come last: " + row.Pattern)
		}
		name, isName := strings.CutPrefix(segment, "{")
		if !isName {
			n = child(n.literals, segment)
			at = &n.leaf
			continue
		}
		name = strings.TrimSuffix(name, "}")
		if rest, isRest := strings.CutSuffix(name, "..."); isRest {
			name, at = rest, &n.rest
		} else {
			if n.one == nil {
				n.one = newNode()
			}
			n = n.one
			at = &n.leaf
		}
		names = append(names, name)
	}
	if len(names) > maxParams {
		panic("httpx: too many names: " + row.Pattern)
	}
	if *at == nil {
		*at = &leaf{rest: at == &n.rest}
	}
	(*at).add(row, names)
}

func child(m map[string]*node, segment string) *node {
	if m[segment] == nil {
		m[segment] = newNode()
	}
	return m[segment]
}

func (l *leaf) add(row *Row, names []string) {
	if found, _ := l.find(row.Method); found != nil && found.Method == row.Method {
		panic(fmt.Sprintf("httpx: two rows for %s %s", row.Method, row.Pattern))
	}
	l.rows, l.names = append(l.rows, row), append(l.names, names)
	var methods []string
	for _, r := range l.rows {
		methods = append(methods, r.Method)
	}
	slices.Sort(methods)
	l.allow = strings.Join(methods, ", ")
}

// find returns the row for method. HEAD is answered by a GET row alone that
// answers everybody the same: a HEAD of anything else would count as a read that
// nobody saw.
func (l *leaf) find(method string) (*Row, []string) {
	for i, row := range l.rows {
		if row.Method == method || method == http.MethodHead && row.Method == http.MethodGet && row.Who == Public && !row.Optional {
			return row, l.names[i]
		}
	}
	return nil, nil
}

// find walks path, which is empty or begins with a slash, below n. It puts the
// named segments into values, the first at depth.
func (n *node) find(path string, encoded bool, values *[maxParams]string, depth int) *leaf {
	if path == "" {
		return n.leaf
	}
	segment, rest := path[1:], ""
	if i := strings.IndexByte(segment, '/'); i >= 0 {
		segment, rest = segment[:i], segment[i:]
	}
	segment = decoded(segment, encoded)
	if next := n.literals[segment]; next != nil {
		if l := next.find(rest, encoded, values, depth); l != nil {
			return l
		}
	}
	if n.one != nil && segment != "" {
		if l := n.one.find(rest, encoded, values, depth+1); l != nil {
			values[depth] = segment
			return l
		}
	}
	if n.rest != nil {
		values[depth] = decoded(path[1:], encoded)
	}
	return n.rest
}

// decoded undoes the percent-encoding of a part of a path that parsed as a
// whole, and so cannot fail.
func decoded(s string, encoded bool) string {
	if !encoded {
		return s
	}
	s, _ = url.PathUnescape(s)
	return s
}

// route finds the row and the path parameters of c.
func (m *Mux) route(c *Call) error {
	u := c.r.URL
	if err := checkPath(u.Path); err != nil {
		return err
	}
	path := u.Path
	if u.RawPath != "" { // set only when the path holds an escape that matters, such as %2F
		path = u.RawPath
	}
	if wouldChange(path, u.RawPath != "") {
		return errSegment
	}
	l := m.routes.find(path, u.RawPath != "", &c.values, 0)
	switch {
	case (l == nil || l.rest) && wouldChange(u.Path, false): // %2F is a slash like any other, but in a {name}
		return errSegment
	case l == nil:
		return fault.New(fault.NotFound, "there is no such route; check the path")
	}
	c.plain = l.rows[0].PlainProblems
	c.row, c.names = l.find(c.r.Method)
	if c.row == nil {
		c.w.Header().Set("Allow", l.allow)
		return errMethod
	}
	return nil
}

// checkPath refuses control characters and bytes that are not UTF-8. path is
// decoded.
func checkPath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return fault.New(fault.NotFound, "there is no such route; check the path")
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) || !utf8.ValidString(path) {
		return fault.New(fault.Invalid, "the path holds a control character or bytes that are not UTF-8; remove them")
	}
	return nil
}

var errSegment = fault.New(fault.Invalid, "the path holds an empty, \".\" or \"..\" segment; send it in its plain form")

// wouldChange reports whether path holds what another server or client would
// rewrite: empty, "." and ".." segments, also those that are encoded.
func wouldChange(path string, encoded bool) bool {
	if strings.Contains(path, "//") {
		return true
	}
	if !encoded && !strings.Contains(path, "/.") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment = decoded(segment, encoded); segment == "." || segment == ".." {
			return true
		}
	}
	return false
}
