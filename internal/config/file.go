package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// file is a configuration file that is being read.
type file struct {
	path string
	errs []error
}

func (f *file) errorf(n *yaml.Node, format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf("%s:%d: "+format, append([]any{f.path, n.Line}, args...)...))
}

func loadFile(v reflect.Value, path string) error {
	text, err := readFile(path, maxFile)
	if err != nil {
		return fmt.Errorf("the configuration: %w", err)
	}
	root, err := parse(path, text)
	if err != nil || root == nil {
		return err
	}
	f := &file{path: path}
	f.set(v, root, "the file")
	return errors.Join(f.errs...)
}

// parse returns the one document of text; nil: it is empty.
func parse(path string, text []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	var doc, more yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return nil, nil
	} else if err != nil {
		return nil, syntaxError(path, err)
	}
	if err := loader.Load(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: it goes on after the end of a document; take out what stands from \"---\" or \"...\" on", path)
	}
	return doc.Content[0], nil
}

// syntaxError leaves out the parser's own words where they may hold a value.
func syntaxError(path string, err error) error {
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		return fmt.Errorf("%s:%d: this is not YAML; write lines of the form \"name: value\"", path, e.Mark.Line)
	}
	return fmt.Errorf("%s: this is not YAML; write lines of the form \"name: value\"", path)
}

// set sets v, named name, from n.
func (f *file) set(v reflect.Value, n *yaml.Node, name string) {
	switch {
	case n.Kind == yaml.AliasNode:
		f.errorf(n, "%s is an alias; write the value itself", name)
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null": // nothing is set
	case isStruct(v):
		f.setStruct(v, n, name)
	case v.Kind() == reflect.Slice:
		f.setSlice(v, n, name)
	case n.Kind != yaml.ScalarNode:
		f.errorf(n, "%s takes one value, %s", name, form(v.Type()))
	default:
		if err := setText(v, n.Value); err != nil {
			f.errorf(n, "%s: %w", name, err)
		}
	}
}

func (f *file) setSlice(v reflect.Value, n *yaml.Node, name string) {
	if n.Kind != yaml.SequenceNode {
		f.errorf(n, "%s takes a list; write each value in a line of its own, after \"- \"", name)
		return
	}
	v.SetZero()
	for _, item := range n.Content {
		e := reflect.New(v.Type().Elem()).Elem()
		f.set(e, item, name)
		v.Set(reflect.Append(v, e))
	}
}

func (f *file) setStruct(v reflect.Value, n *yaml.Node, name string) {
	if n.Kind != yaml.MappingNode {
		f.errorf(n, "%s takes settings of the form \"name: value\": %s", name, strings.Join(names(v.Type()), ", "))
		return
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		field, ok := fieldOf(v, key.Value)
		switch {
		case !ok:
			f.errorf(key, "%q is not a setting of %s; known are: %s", key.Value, name, strings.Join(names(v.Type()), ", "))
		case lines[key.Value] > 0:
			f.errorf(key, "%q is set in line %d already; take out one of the two", key.Value, lines[key.Value])
		default:
			lines[key.Value] = key.Line
			f.set(field, n.Content[i+1], key.Value)
		}
	}
}

// fieldOf returns the field of v that is named name in the file.
func fieldOf(v reflect.Value, name string) (reflect.Value, bool) {
	for f, field := range v.Fields() {
		if tag := f.Tag.Get("yaml"); tag != "" && tag == name {
			return field, true
		}
	}
	return reflect.Value{}, false
}

// names returns the names of the fields of t that a file may set.
func names(t reflect.Type) (names []string) {
	for f := range t.Fields() {
		if tag := f.Tag.Get("yaml"); tag != "" {
			names = append(names, tag)
		}
	}
	return names
}
