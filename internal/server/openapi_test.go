package server_test

import (
	"bytes"
	"flag"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/openapi"
	"github.com/keyfold/keyfold/internal/server"
)

var update = flag.Bool("update", false, "write openapi.json anew")

// Schemes of credentials in the document.
var (
	anyKey   = []string{"bearer", "apiKey"}
	adminKey = []string{"admin"}

	metricsKey = []string{"admin", "scrape"} // either
)

// document is made of the rows and of operations. A closed one admits no member
// that it does not name; see openapi.Document.
func document(t *testing.T, closed bool) []byte {
	t.Helper()
	comments, err := openapi.ReadComments("../../api")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]httpx.Row{}
	for _, r := range server.NativeRows() {
		rows[r.Method+" "+r.Pattern] = r
	}
	d := openapi.Document{
		Title: "Keyfold", Version: "1", Description: about, Security: schemes, Problem: api.Problem{},
		Headers: answerHeaders, Failures: failures, ServerFailure: serverFailure,
		Schemas: []any{api.PolicyConditions{}, api.AuditExportLine{}, api.MessageEvent{}, api.ThreadExportLine{}}, Members: members, Comments: comments, Closed: closed,
	}
	for _, g := range operations {
		out := openapi.Group{Tag: g.tag, Description: g.text}
		for _, op := range g.operations {
			row, ok := rows[op.call]
			if !ok {
				t.Fatalf("%s is in operations, and is no route or there twice", op.call)
			}
			delete(rows, op.call)
			out.Operations = append(out.Operations, op.described(t, row))
		}
		d.Groups = append(d.Groups, out)
	}
	for call := range rows {
		t.Errorf("%s is a route, and operations does not describe it", call)
	}
	text, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// described is op with what its row says.
func (op operation) described(t *testing.T, row httpx.Row) openapi.Operation {
	t.Helper()
	if row.MaxBody > 0 != (op.in != nil) {
		t.Errorf("%s: the row takes %d bytes of a body, and operations says it is %T", op.call, row.MaxBody, op.in)
	}
	status := op.status
	switch {
	case status == 0 && op.out == nil:
		status = http.StatusNoContent
	case status == 0:
		status = http.StatusOK
	}
	return openapi.Operation{
		Method: row.Method, Path: op.path(row), ID: op.id, Summary: op.does, Description: op.more.text,
		Security: security(row), Params: op.params(t, row), Request: op.in, Media: op.more.sends, Optional: row.OptionalBody,
		Answer:   openapi.Answer{Status: status, Media: op.more.media, Body: op.out, Headers: op.headers(row), Nothing: op.more.nothing},
		Failures: op.fails(row),
	}
}

// writes reports whether the row takes an Idempotency-Key.
func writes(row httpx.Row) bool { return row.Who == httpx.Principal && row.Method != http.MethodGet }

// headers are those of the answer.
func (op operation) headers(row httpx.Row) []string {
	out := []string{api.HeaderRequestID}
	if writes(row) {
		out = append(out, api.HeaderIdempotencyReplayed)
	}
	return append(out, op.more.headers...)
}

// path is the row's in the document, in which a parameter holds no slash and a
// client encodes those of {path}.
func (op operation) path(row httpx.Row) string {
	if op.more.version {
		return strings.Replace(row.Pattern, "{path...}", "{path}/{version}", 1)
	}
	return strings.Replace(row.Pattern, "...}", "}", 1)
}

func security(row httpx.Row) []string {
	switch {
	case row.Admin && row.Own != nil:
		return metricsKey
	case row.Admin:
		return adminKey
	case row.Who == httpx.Public && row.Optional:
		return append([]string{""}, anyKey...)
	case row.Who == httpx.Public:
		return nil
	}
	return anyKey
}

var names = regexp.MustCompile(`\{([a-z]+)\}`)

func (op operation) params(t *testing.T, row httpx.Row) (out []openapi.Param) {
	t.Helper()
	for _, m := range names.FindAllStringSubmatch(op.path(row), -1) {
		p, ok := pathParams[m[1]]
		if !ok {
			t.Errorf("%s: nothing is said of {%s}", op.call, m[1])
		}
		p.In, p.Name, p.Required = "path", m[1], true
		out = append(out, p)
	}
	if row.Keys {
		out = append(out, endUser...)
	}
	if writes(row) {
		out = append(out, idempotencyKey)
	}
	return append(out, op.more.params...)
}

// fails are the errors that the row makes possible, and those of the table.
func (op operation) fails(row httpx.Row) map[int]string {
	out := fails{400: "", 429: ""}
	if row.Who != httpx.Public {
		out[401], out[403] = "", ""
	}
	if strings.Contains(row.Pattern, "{") {
		out[404] = ""
	}
	if row.MaxBody > 0 {
		out[408], out[413] = "", ""
	}
	if writes(row) {
		out[409], out[422] = "", ""
	}
	for status, text := range op.more.fails {
		out[status] = text
	}
	return out
}

// loaded is a document as a reader understands it.
func loaded(t *testing.T, text []byte) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err == nil {
		err = doc.Validate(t.Context(), openapi3.IsOpenAPI31OrLater())
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestTheDocumentIsFresh(t *testing.T) {
	want := document(t, false)
	loaded(t, want)
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("openapi.json is stale; run go generate ./internal/server. It is -, and should be +:\n%s", cmp.Diff(strings.Split(string(got), "\n"), strings.Split(string(want), "\n")))
	}
}

// What is served is held against the rows once more, without the table between.
func TestEveryRouteIsInTheDocumentAndEveryPathOfItIsARoute(t *testing.T) {
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for path, item := range loaded(t, text).Paths.Map() {
		for method := range item.Operations() {
			got = append(got, method+" "+strings.Replace(path, "{path}/{version}", "{path}", 1))
		}
	}
	for _, r := range server.NativeRows() {
		want = append(want, r.Method+" "+strings.Replace(r.Pattern, "...}", "}", 1))
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the rows are -, the document is +:\n%s", diff)
	}
}

// Published clients refuse unknown members of these bodies and of no others.
func TestTheDocumentClosesTheStrictBodies(t *testing.T) {
	doc := loaded(t, document(t, false))
	for name, s := range doc.Components.Schemas {
		members, strict := strictBodies[name]
		if closed := s.Value.AdditionalProperties.Has != nil; closed != strict {
			t.Errorf("%s: closed is %v, strict is %v", name, closed, strict)
			continue
		}
		required, _, _ := strings.Cut(members, "|")
		allowed := strings.Fields(strings.Replace(members, "|", " ", 1))
		for member := range s.Value.Properties {
			if strict && !slices.Contains(allowed, member) && !stripped[name+"."+member] {
				t.Errorf("%s has the member %s, which it must not", name, member)
			}
		}
		for _, member := range strings.Fields(required) {
			if !slices.Contains(s.Value.Required, member) {
				t.Errorf("%s: %s is not required", name, member)
			}
		}
	}
	for name := range strictBodies {
		if doc.Components.Schemas[name] == nil {
			t.Errorf("the document has no %s", name)
		}
	}
}

// stripped are members that clients who call themselves as generated ones do
// are not sent, and that others are sent only when they say something.
var stripped = map[string]bool{"Policy.effect": true, "Policy.priority": true}

func TestAnybodyMayReadAndKeepTheDocument(t *testing.T) {
	w := newWorld(t)
	want, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(w.URL + "/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes are served of %d, %v", len(got), len(want), err)
	}
	if cache := res.Header.Get("Cache-Control"); res.StatusCode != 200 || cache != "public, max-age=300" || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d, %q, %q", res.StatusCode, cache, res.Header.Get("Content-Type"))
	}
}
