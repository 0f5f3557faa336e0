// Package openapi writes an OpenAPI 3.1 document: operations as a table names
// them, and schemas of Go types with their comments as descriptions. It is for
// generators and tests; it owns no table, trusts its caller, and stores nothing.
package openapi

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
)

// Document is all that a document says.
type Document struct {
	Title, Version, Description string
	Groups                      []Group
	Security                    []Scheme
	Problem                     any               // a zero value of the body of all errors
	Headers                     []Param           // of answers; Answer and Failure refer to them by name
	Failures                    map[int]Failure   // what errors of a status are where an operation says nothing of its own
	ServerFailure               Failure           // of every 5xx
	Schemas                     []any             // zero values of types that no operation names
	Members                     map[string]Schema // "Type.member", as JSON names it, to what a Go type cannot say
	Comments                    Comments
	// Closed closes all objects: a body with a member that is not in the document
	// is none of it then. It is for checks of what a server answers.
	Closed bool
}

// Group is operations of one tag.
type Group struct {
	Tag, Description string
	Operations       []Operation
}

// Operation is one method of one path.
type Operation struct {
	Method, Path string // its {names} are Params
	ID           string
	Summary      string
	Description  string
	Security     []string // names of schemes, each of which will do; "" is none at all
	Params       []Param
	Request      any    // a zero value of the body's type; nil: there is none
	Media        string // of Request; "": JSON. Other media are text, and Request the type of a line
	Optional     bool   // Request may be left out
	Answer       Answer
	Failures     map[int]string // status to what it means here; "": see Document.Failures
}

// Param is a parameter of a request, or a header of an answer.
type Param struct {
	In          string // path, query or header
	Name        string
	Description string
	Required    bool
	Schema      Schema // nil: a string
}

// Answer is what an operation answers when all is well.
type Answer struct {
	Status  int
	Media   string // of Body; "": JSON. Other media are text
	Body    any    // a zero value of its type; nil: none
	Headers []string
	Nothing string // when it is 204 in place of Status; "": never
}

// Failure is an error answer.
type Failure struct {
	Description string
	Headers     []string
}

// Scheme is a way in which a caller says who it is.
type Scheme struct {
	Name, Description string
	Header            string // that has the credential; "": Authorization: Bearer
}

// JSON returns the document, indented.
func (d *Document) JSON() ([]byte, error) {
	s := &schemas{comments: d.Comments, members: d.Members, used: map[string]bool{}, closed: d.Closed, named: map[string]object{}, failed: map[int]bool{}}
	s.of(reflect.TypeOf(d.Problem))
	for _, v := range d.Schemas {
		s.of(reflect.TypeOf(v))
	}
	paths, err := d.paths(s)
	if err != nil {
		return nil, err
	}
	if err := s.stale(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = write(&b, object{
		{"openapi", "3.1.0"},
		{"info", object{{"title", d.Title}, {"version", d.Version}, {"description", d.Description}}},
		{"servers", []any{object{{"url", "/"}}}},
		{"tags", d.tags()},
		{"paths", paths},
		{"components", object{
			{"schemas", s.components()},
			{"responses", d.failures(s.failed)},
			{"headers", d.headers()},
			{"securitySchemes", d.schemes()},
		}},
	}, " ")
	return b.Bytes(), err
}

func (d *Document) tags() (out []object) {
	for _, g := range d.Groups {
		out = append(out, object{{"name", g.Tag}, {"description", g.Description}})
	}
	return out
}

// paths groups the operations by their path, in the order of the table.
func (d *Document) paths(s *schemas) (object, error) {
	var out object
	at, ids := map[string]int{}, map[string]bool{}
	for _, g := range d.Groups {
		for _, op := range g.Operations {
			if ids[op.ID] {
				return nil, fmt.Errorf("openapi: two operations are called %s", op.ID)
			}
			ids[op.ID] = true
			if _, ok := at[op.Path]; !ok {
				at[op.Path] = len(out)
				out.add(op.Path, object{})
			}
			item := &out[at[op.Path]]
			item.value = append(item.value.(object), member{strings.ToLower(op.Method), d.operation(s, g.Tag, op)})
		}
	}
	return out, nil
}

func (d *Document) operation(s *schemas, tag string, op Operation) (o object) {
	o.add("operationId", op.ID)
	o.add("tags", []string{tag})
	o.add("summary", op.Summary)
	if op.Description != "" {
		o.add("description", op.Description)
	}
	o.add("security", requirements(op.Security))
	if len(op.Params) > 0 {
		o.add("parameters", parameters(op.Params))
	}
	if op.Request != nil {
		s.asked = true
		schema := s.of(reflect.TypeOf(op.Request))
		s.asked = false
		if op.Media != "" {
			schema = Schema{"type": "string"}
		}
		o.add("requestBody", object{{"required", !op.Optional}, {"content", content(op.Media, schema)}})
	}
	o.add("responses", d.responses(s, op))
	return o
}

func requirements(names []string) []Schema {
	out := []Schema{}
	for _, name := range names {
		if name == "" {
			out = append(out, Schema{})
		} else {
			out = append(out, Schema{name: []string{}})
		}
	}
	return out
}

func parameters(params []Param) (out []object) {
	for _, p := range params {
		o := object{{"name", p.Name}, {"in", p.In}, {"description", p.Description}}
		if p.Required {
			o.add("required", true)
		}
		o.add("schema", p.schema())
		out = append(out, o)
	}
	return out
}

func (p Param) schema() Schema {
	if p.Schema == nil {
		return Schema{"type": "string"}
	}
	return p.Schema
}

func content(media string, s Schema) object {
	if media == "" {
		media = "application/json"
	}
	return object{{media, object{{"schema", s}}}}
}

func (d *Document) responses(s *schemas, op Operation) (o object) {
	a := op.Answer
	ok := object{{"description", http.StatusText(a.Status)}, {"headers", headerRefs(a.Headers)}}
	switch {
	case a.Media != "":
		ok.add("content", content(a.Media, Schema{"type": "string"}))
	case a.Body != nil:
		ok.add("content", content("", s.of(reflect.TypeOf(a.Body))))
	}
	o.add(strconv.Itoa(a.Status), ok)
	if a.Nothing != "" {
		o.add(strconv.Itoa(http.StatusNoContent), object{{"description", a.Nothing}, {"headers", headerRefs(a.Headers)}})
	}
	for status := 400; status < 500; status++ {
		text, fails := op.Failures[status]
		switch {
		case !fails:
		case text == "":
			s.failed[status] = true
			o.add(strconv.Itoa(status), Schema{"$ref": "#/components/responses/" + failureName(status)})
		default:
			o.add(strconv.Itoa(status), d.failure(Failure{text, d.Failures[status].Headers}))
		}
	}
	o.add("5XX", Schema{"$ref": "#/components/responses/" + serverFailure})
	return o
}

// failureName is the name of an error's component: NotFound.
func failureName(status int) string {
	return strings.ReplaceAll(http.StatusText(status), " ", "")
}

const serverFailure = "ServerFailure"

func (d *Document) failure(f Failure) object {
	return object{{"description", f.Description}, {"headers", headerRefs(f.Headers)},
		{"content", content("application/problem+json", Ref(d.Problem))}}
}

func (d *Document) failures(used map[int]bool) (o object) {
	for status := 400; status < 500; status++ {
		if used[status] {
			o.add(failureName(status), d.failure(d.Failures[status]))
		}
	}
	o.add(serverFailure, d.failure(d.ServerFailure))
	return o
}

func headerRefs(names []string) (o object) {
	for _, name := range names {
		o.add(name, Schema{"$ref": "#/components/headers/" + name})
	}
	return o
}

func (d *Document) headers() (o object) {
	for _, h := range d.Headers {
		of := object{{"description", h.Description}}
		if h.Required {
			of.add("required", true)
		}
		of.add("schema", h.schema())
		o.add(h.Name, of)
	}
	return o
}

func (d *Document) schemes() (o object) {
	for _, s := range d.Security {
		if s.Header == "" {
			o.add(s.Name, object{{"type", "http"}, {"scheme", "bearer"}, {"description", s.Description}})
		} else {
			o.add(s.Name, object{{"type", "apiKey"}, {"in", "header"}, {"name", s.Header}, {"description", s.Description}})
		}
	}
	return o
}
