package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Schema is a schema as it stands in the document.
type Schema = map[string]any

// Ref is the schema that refers to the one of v's type.
func Ref(v any) Schema { return ref(reflect.TypeOf(v).Name()) }

func ref(name string) Schema { return Schema{"$ref": "#/components/schemas/" + name} }

// schemas makes schemas of Go types, as encoding/json would write them.
type schemas struct {
	comments Comments
	members  map[string]Schema // "Type.member" to what a Go type cannot say
	used     map[string]bool   // of members
	closed   bool              // no object has members beyond those that are named
	asked    bool              // these are bodies of requests, in which nothing is null
	named    map[string]object // by the name of the type
	failed   map[int]bool      // statuses whose Failure of the document is used
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
	byteType = reflect.TypeFor[[]byte]()
)

// of returns the schema of t. One of a named struct is a reference, and it is
// in s.named then.
func (s *schemas) of(t reflect.Type) Schema {
	switch t {
	case timeType:
		return Schema{"type": "string", "format": "date-time"}
	case rawType:
		return Schema{}
	case byteType:
		return Schema{"type": "string", "contentEncoding": "base64"}
	}
	switch t.Kind() {
	case reflect.String:
		return Schema{"type": "string"}
	case reflect.Bool:
		return Schema{"type": "boolean"}
	case reflect.Int:
		return Schema{"type": "integer", "format": "int32"}
	case reflect.Int64, reflect.Uint64:
		return Schema{"type": "integer", "format": "int64"}
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Slice:
		return Schema{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return Schema{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.structRef(t)
	}
	panic(fmt.Sprintf("openapi: no schema for %v", t))
}

func (s *schemas) structRef(t reflect.Type) Schema {
	if t.Name() == "" {
		return Schema{"type": "object"}
	}
	if _, ok := s.named[t.Name()]; !ok {
		s.named[t.Name()] = nil // it may hold itself
		s.named[t.Name()] = s.ofStruct(t)
	}
	return ref(t.Name())
}

// strict ends the sentence of a type's comment whose published clients refuse
// members that they do not know.
const strict = "(strict)."

func (s *schemas) ofStruct(t reflect.Type) (o object) {
	comment := s.comments[t.Name()]
	if comment == "" {
		panic("openapi: " + t.Name() + " has no comment")
	}
	var properties object
	var required []string
	s.addFields(t, t.Name(), &properties, &required)
	o.add("type", "object")
	o.add("description", comment)
	if len(required) > 0 {
		o.add("required", required)
	}
	o.add("properties", properties)
	if s.closed || strings.Contains(comment, strict) {
		o.add("additionalProperties", false)
	}
	return o
}

// addFields adds t's fields, and those of what it embeds, as members of owner.
func (s *schemas) addFields(t reflect.Type, owner string, properties *object, required *[]string) {
	for f := range t.Fields() {
		if f.Anonymous {
			s.addFields(f.Type, owner, properties, required)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		optional := strings.Contains(options, "omit")
		if !optional {
			*required = append(*required, name)
		}
		properties.add(name, s.field(t, f, owner+"."+name, optional))
	}
}

// field is the schema of one member. Of an answer, what is a pointer and is not
// left out when it is nil may be null.
func (s *schemas) field(t reflect.Type, f reflect.StructField, member string, optional bool) Schema {
	out := s.of(f.Type)
	if given, ok := s.members[member]; ok {
		s.used[member] = true
		out = given
	}
	if f.Type.Kind() == reflect.Pointer && !optional && !s.asked {
		out = orNull(out)
	}
	if comment := s.comments[t.Name()+"."+f.Name]; comment != "" {
		out = with(out, "description", comment)
	}
	return out
}

func orNull(s Schema) Schema {
	if t, ok := s["type"].(string); ok {
		return with(s, "type", []string{t, "null"})
	}
	return Schema{"anyOf": []Schema{s, {"type": "null"}}}
}

// with is s with one member more.
func with(s Schema, name string, value any) Schema {
	out := Schema{name: value}
	for k, v := range s {
		if k != name {
			out[k] = v
		}
	}
	return out
}

// components returns all named schemas in the order of their names.
func (s *schemas) components() (o object) {
	var names []string
	for name := range s.named {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		o.add(name, s.named[name])
	}
	return o
}

// stale is an error when a member was given that no schema has.
func (s *schemas) stale() error {
	for name := range s.members {
		if !s.used[name] {
			return fmt.Errorf("openapi: no schema has the member %s", name)
		}
	}
	return nil
}
