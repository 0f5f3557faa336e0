package openapi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
)

// Comments are what the source of a package says of its types: by "Type" and
// by "Type.Field".
type Comments map[string]string

// ReadComments reads the Go files in dir, tests left out.
func ReadComments(dir string) (Comments, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	c := Comments{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.TYPE {
				c.addTypes(d)
			}
		}
	}
	return c, nil
}

func (c Comments) addTypes(d *ast.GenDecl) {
	for _, s := range d.Specs {
		t := s.(*ast.TypeSpec)
		c[t.Name.Name] = text(t.Doc, d.Doc)
		if s, ok := t.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					c[t.Name.Name+"."+name.Name] = text(f.Doc, f.Comment)
				}
			}
		}
	}
}

// text is the first of groups that says something, with each paragraph on one
// line.
func text(groups ...*ast.CommentGroup) string {
	for _, g := range groups {
		if t := strings.TrimSpace(g.Text()); t != "" {
			return unwrap(t)
		}
	}
	return ""
}

// unwrap joins the lines of paragraphs; indented ones stay as they are.
func unwrap(s string) string {
	var b strings.Builder
	before := ""
	for i, line := range strings.Split(s, "\n") {
		plain := line != "" && before != "" && line[0] != '\t' && before[0] != '\t'
		switch {
		case i == 0:
		case plain:
			b.WriteByte(' ')
		default:
			b.WriteByte('\n')
		}
		b.WriteString(line)
		before = line
	}
	return b.String()
}
