package openapi

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// source is what Comments are read of; the types below are the same.
const source = `package wire

// Thing is a thing
// of two lines (strict).
//
//	{"code": 1}
//
// And more.
type Thing struct {
	ID   string
	// Size is above
	// its member.
	Size int // and not beside
	When time.Time // not too late
}

type (
	// Base is embedded.
	Base struct {
		Kind string // what it is
	}
	// List is a list.
	List struct{ Base }
	// Ask is asked.
	Ask struct{}
	// Oops is an error.
	Oops struct{}
)
`

type (
	Thing struct {
		ID     string    `json:"id"`
		Size   int       `json:"size,omitzero"`
		When   time.Time `json:"when"`
		Hidden string    `json:"-"`
	}
	Base struct {
		Kind string `json:"kind"`
	}
	List struct {
		Base
		Things []Thing           `json:"things"`
		Next   *time.Time        `json:"next"`
		Best   *Thing            `json:"best"`
		Other  *Thing            `json:"other,omitempty"`
		Any    json.RawMessage   `json:"any,omitzero"`
		Sum    []byte            `json:"sum"`
		Count  uint64            `json:"count"`
		Notes  map[string]string `json:"notes"`
		Self   *List             `json:"self,omitzero"`
	}
	Ask struct {
		Value *string `json:"value"`
	}
	Oops struct {
		Detail string `json:"detail"`
	}
)

func comments(t *testing.T) Comments {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"wire.go": source, "wire_test.go": "package wire\n\n// Ask is not this.\ntype Ask struct{}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := ReadComments(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sample is a document of one operation.
func sample(t *testing.T) *Document {
	return &Document{
		Title: "T", Version: "1", Problem: Oops{}, Comments: comments(t),
		Failures: map[int]Failure{404: {Description: "not <there>"}, 409: {Description: "nobody refers to it"}},
		Groups: []Group{{Tag: "g", Operations: []Operation{{
			Method: "PUT", Path: "/things/{id}", ID: "putThing", Security: []string{"", "key"},
			Params:  []Param{{In: "path", Name: "id", Required: true}},
			Request: Ask{}, Answer: Answer{Status: 200, Body: List{}, Headers: []string{"Location"}},
			Failures: map[int]string{404: "", 412: "its own"},
		}}}},
		Members: map[string]Schema{"List.kind": {"type": "string", "enum": []string{"a"}}},
	}
}

// made is the document as a reader has it.
func made(t *testing.T, d *Document) (out map[string]any) {
	t.Helper()
	text, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// at walks to a value by the names of members.
func at(t *testing.T, v any, path ...string) any {
	t.Helper()
	for _, name := range path {
		o, ok := v.(map[string]any)
		if !ok || o[name] == nil {
			t.Fatalf("nothing is at %s of %v", name, path)
		}
		v = o[name]
	}
	return v
}

func same(t *testing.T, got any, want string) {
	t.Helper()
	var w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w, got); diff != "" {
		t.Errorf("it should be -, and is +:\n%s", diff)
	}
}

func TestASchemaIsWhatJSONWouldBe(t *testing.T) {
	doc := made(t, sample(t))
	same(t, at(t, doc, "components", "schemas", "Thing"), `{"type": "object", "description": "Thing is a thing of two lines (strict).\n\n\t{\"code\": 1}\n\nAnd more.",
		"required": ["id", "when"], "additionalProperties": false, "properties": {
			"id": {"type": "string"}, "size": {"type": "integer", "format": "int32", "description": "Size is above its member."},
			"when": {"type": "string", "format": "date-time", "description": "not too late"}}}`)
	same(t, at(t, doc, "components", "schemas", "List"), `{"type": "object", "description": "List is a list.",
		"required": ["kind", "things", "next", "best", "sum", "count", "notes"], "properties": {
			"kind": {"type": "string", "enum": ["a"], "description": "what it is"},
			"things": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
			"next": {"type": ["string", "null"], "format": "date-time"},
			"best": {"anyOf": [{"$ref": "#/components/schemas/Thing"}, {"type": "null"}]},
			"other": {"$ref": "#/components/schemas/Thing"}, "any": {},
			"sum": {"type": "string", "contentEncoding": "base64"}, "count": {"type": "integer", "format": "int64"},
			"notes": {"type": "object", "additionalProperties": {"type": "string"}}, "self": {"$ref": "#/components/schemas/List"}}}`)
	same(t, at(t, doc, "components", "schemas", "Ask"), `{"type": "object", "description": "Ask is asked.", "required": ["value"], "properties": {"value": {"type": "string"}}}`)
}

func TestAnOperationIsWhatTheTableSays(t *testing.T) {
	doc := made(t, sample(t))
	same(t, at(t, doc, "paths", "/things/{id}", "put"), `{"operationId": "putThing", "tags": ["g"], "summary": "", "security": [{}, {"key": []}],
		"parameters": [{"name": "id", "in": "path", "description": "", "required": true, "schema": {"type": "string"}}],
		"requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}}},
		"responses": {
			"200": {"description": "OK", "headers": {"Location": {"$ref": "#/components/headers/Location"}}, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/List"}}}},
			"404": {"$ref": "#/components/responses/NotFound"},
			"412": {"description": "its own", "headers": {}, "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Oops"}}}},
			"5XX": {"$ref": "#/components/responses/ServerFailure"}}}`)
	if failures := at(t, doc, "components", "responses").(map[string]any); len(failures) != 2 || failures["NotFound"] == nil {
		t.Errorf("the failures are %v", failures)
	}
}

func TestABodyThatIsNotJSONIsText(t *testing.T) {
	d := sample(t)
	d.Groups[0].Operations[0].Media = "application/x-ndjson"
	doc := made(t, d)
	same(t, at(t, doc, "paths", "/things/{id}", "put", "requestBody"), `{"required": true, "content": {"application/x-ndjson": {"schema": {"type": "string"}}}}`)
	at(t, doc, "components", "schemas", "Ask") // of a line
}

func TestAClosedDocumentClosesEveryObject(t *testing.T) {
	d := sample(t)
	d.Closed = true
	for name, s := range at(t, made(t, d), "components", "schemas").(map[string]any) {
		if s.(map[string]any)["additionalProperties"] != false {
			t.Errorf("%s is open", name)
		}
	}
}

func TestMembersKeepTheirOrderAndTextsTheirSigns(t *testing.T) {
	text, err := sample(t).JSON()
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	for _, part := range []string{`"openapi"`, `"info"`, `"paths"`, `"components"`, `"Ask"`, `"List"`, `"kind"`, `"things"`, `"next"`, "not <there>"} {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Fatalf("%s does not follow", part)
		}
		rest = after
	}
}

func TestATableThatIsWrongMakesNoDocument(t *testing.T) {
	stale := sample(t)
	stale.Members["List.gone"] = Schema{}
	twice := sample(t)
	twice.Groups = append(twice.Groups, twice.Groups[0])
	for want, d := range map[string]*Document{"List.gone": stale, "putThing": twice} {
		if _, err := d.JSON(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}
