package server_test

import (
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
)

// Every answer that these tests see is held against the document, closed, so
// that a member which it does not name fails too; and what was asked, where the
// answer says yes, against the open one.

// heard is a request and its answer.
type heard struct {
	r    *http.Request
	body string // of the request
	a    answer
}

// listener keeps what one test hears. The check comes after the test, which may
// measure time.
type listener struct {
	mu  sync.Mutex // guards all
	all []heard
}

func newListener(t *testing.T) *listener {
	t.Helper()
	l := new(listener)
	t.Cleanup(func() {
		t.Helper()
		d := theDocument(t)
		for _, h := range l.all {
			if err := d.check(h); err != nil {
				t.Errorf("%s %s = %d %.300s, and the document says otherwise: %v", h.r.Method, h.r.URL, h.a.status, h.a.body, err)
			}
		}
	})
	return l
}

func (l *listener) hear(r *http.Request, body string, a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.header = a.header.Clone() // others may change it
	l.all = append(l.all, heard{r, body, a})
}

// described is the document as answers are held against it.
type described struct {
	open, closed *openapi3.T
	paths        []pathPattern // those with fewer names first

	mu      sync.Mutex                 // guards all below
	checked map[[sha256.Size]byte]bool // requests and answers, but for request IDs
	seen    map[string]bool            // "operation status"
}

type pathPattern struct {
	path  string
	match *regexp.Regexp
	names []string
}

// theDocument makes it once.
func theDocument(t *testing.T) *described {
	once.Do(func() {
		it = &described{open: loaded(t, document(t, false)), closed: loaded(t, document(t, true)), checked: map[[sha256.Size]byte]bool{}, seen: map[string]bool{}}
		for path := range it.open.Paths.Map() {
			it.paths = append(it.paths, newPathPattern(path))
		}
		slices.SortFunc(it.paths, func(a, b pathPattern) int { return cmp.Compare(len(a.names), len(b.names)) })
	})
	if it == nil {
		t.Fatal("there is no document to hold answers against; another test says why")
	}
	return it
}

var (
	once sync.Once
	it   *described
)

func newPathPattern(path string) pathPattern {
	p := pathPattern{path: path}
	text := names.ReplaceAllStringFunc(strings.ReplaceAll(path, ".", `\.`), func(name string) string {
		p.names = append(p.names, strings.Trim(name, "{}"))
		if name == "{path}" {
			return "(.+)"
		}
		return "([^/]+)"
	})
	p.match = regexp.MustCompile("^" + text + "$")
	return p
}

// find returns the operation of r, by its path in the document and with its
// parameters; ok is false when there is none.
func (d *described) find(r *http.Request) (path string, params map[string]string, ok bool) {
	for _, p := range d.paths {
		if values := p.match.FindStringSubmatch(r.URL.Path); values != nil {
			params := map[string]string{}
			for i, name := range p.names {
				params[name] = values[i+1]
			}
			return p.path, params, d.open.Paths.Value(p.path).GetOperation(r.Method) != nil
		}
	}
	return "", nil, false
}

func routeIn(doc *openapi3.T, path, method string) *routers.Route {
	item := doc.Paths.Value(path)
	return &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: item.GetOperation(method)}
}

var requestIDs = regexp.MustCompile(`"request_id":"[^"]*"`)

func (d *described) check(h heard) error {
	path, params, ok := d.find(h.r)
	if !ok {
		if h.a.status < 400 && !isGenerationC(h.r.URL.Path) && h.r.Method != http.MethodHead && h.r.Method != http.MethodOptions {
			return fmt.Errorf("it has no such operation")
		}
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	key := sha256.Sum256(fmt.Append(nil, h.r.Method, h.r.URL, h.r.Header["If-Match"], h.body, h.a.status, requestIDs.ReplaceAllString(h.a.body, "")))
	if d.checked[key] {
		return nil
	}
	d.checked[key] = true
	asked := &openapi3filter.RequestValidationInput{
		Request: withBody(h), PathParams: params, Route: routeIn(d.open, path, h.r.Method),
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	d.seen[fmt.Sprint(asked.Route.Operation.OperationID, " ", h.a.status)] = true
	if body := asked.Route.Operation.RequestBody; body != nil && body.Value.Content[lines] != nil {
		asked.Options.ExcludeRequestBody = true // it knows no such media type
		if err := d.checkLines("ThreadExportLine", h.body); h.a.status < 400 && err != nil {
			return err
		}
	}
	if h.a.status < 400 {
		if err := askedAsDocumented(asked); err != nil {
			return err
		}
	}
	asked.Route = routeIn(d.closed, path, h.r.Method)
	switch h.a.header.Get("Content-Type") {
	case lines:
		of := "AuditExportLine"
		if strings.HasPrefix(path, "/v1/threads") {
			of = "ThreadExportLine"
		}
		return d.checkLines(of, h.a.body)
	case rawRow:
		return nil // which is anything
	case eventStream:
		return d.checkLines("MessageEvent", eventData(h.a.body))
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: asked, Status: h.a.status, Header: h.a.header, Body: io.NopCloser(strings.NewReader(h.a.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
}

// withBody is the request once more, with its body, which the server takes
// without a Content-Type too.
func withBody(h heard) *http.Request {
	r := h.r.Clone(context.Background())
	r.Header.Set("Content-Type", "application/json")
	r.Body = io.NopCloser(strings.NewReader(h.body))
	return r
}

// stray is a parameter that a test sends because no call has it.
const stray = "token"

func askedAsDocumented(in *openapi3filter.RequestValidationInput) error {
	for name := range in.Request.URL.Query() {
		if name != stray && in.Route.Operation.Parameters.GetByInAndName("query", name) == nil {
			return fmt.Errorf("it has no parameter %s", name)
		}
	}
	return openapi3filter.ValidateRequest(context.Background(), in)
}

// The media types of answers of whose parts the document has a schema.
const (
	lines       = "application/x-ndjson"
	eventStream = "text/event-stream"
)

// eventData is what events hold, a line each.
func eventData(body string) (data string) {
	for line := range strings.Lines(body) {
		if text, ok := strings.CutPrefix(line, "data: "); ok {
			data += text
		}
	}
	return data
}

func (d *described) checkLines(of, body string) error {
	schema := d.closed.Components.Schemas[of].Value
	for line := range strings.Lines(body) {
		var v any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			return err
		}
		if err := schema.VisitJSON(v, openapi3.EnableJSONSchema2020()); err != nil {
			return err
		}
	}
	return nil
}

// Good answers that no other test here sees.
func TestTheRestOfTheOperationsAnswersWell(t *testing.T) {
	c := newCast(t)
	code := decode[api.DeviceCode](t, c.call(caller{}, "POST /v1/auth/device/code", `{"client_id":"c"}`))
	c.made(c.home.owner, "POST /v1/auth/device/code/"+code.UserCode+"/approve", "", "")
	c.made(caller{}, "POST /v1/auth/device/token", `{"device_code":"`+code.DeviceCode+`","grant_type":"`+api.DeviceGrant+`"}`, "access_token")

	vault, fresh := "/v1/vaults/"+c.home.fill("{sealed}"), strings.Repeat("0", 64)
	c.made(c.home.owner, "PUT "+vault+"/secrets/a", `{"value":"`+blob+`"}`, "id")
	c.made(c.home.owner, "DELETE "+vault+"/cmek", "", "")
	c.made(c.home.owner, "POST "+vault+"/cmek", `{"fingerprint":"`+fresh+`"}`, "")
	c.made(c.home.owner, "GET "+vault+"/cmek-versions?limit=1&fingerprint="+fingerprint, "", "")
	c.made(c.home.owner, "PUT "+vault+"/secret-version/a/1", `{"value":"`+blob+`","old_fingerprint":"`+fingerprint+`","new_fingerprint":"`+fresh+`"}`, "id")

	c.rotates(c.home.make("POST /v1/vaults", `{"name":"r"}`, "id"))

	c.made(c.home.owner, "POST /v1/threads/"+c.home.fill("{thread}")+"/import", `{"ts":1,"body":"old"}`, "")
	c.made(c.home.owner, "GET /v1/threads/"+c.home.fill("{thread}")+"/export", "", "")
}

// rotates enables CMEK in a vault and rotates its key.
func (c *cast) rotates(id string) {
	c.t.Helper()
	vault, before, after := "/v1/vaults/"+id, cmek.Generate(), cmek.Generate()
	c.made(c.home.owner, "POST "+vault+"/cmek", `{"fingerprint":"`+before.Fingerprint()+`"}`, "")
	value, err := cmek.EncryptValue(before, []byte(canary))
	if err != nil {
		c.t.Fatal(err)
	}
	c.made(c.home.owner, "PUT "+vault+"/secrets/a", `{"value":"`+value+`"}`, "id")
	to := decode[api.CMEKRotationKey](c.t, c.call(c.home.owner, "GET "+vault+"/cmek-rotate-key", ""))
	public, err := hpke.DHKEM(ecdh.P256()).NewPublicKey(to.PublicKey)
	if err != nil {
		c.t.Fatal(err)
	}
	info := "keyfold/cmek-rotation/v1\n" + id + "\n" + before.Fingerprint() + "\n" + after.Fingerprint()
	sealed, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info), append(before.Bytes(), after.Bytes()...))
	if err != nil {
		c.t.Fatal(err)
	}
	const enc = 65 // bytes of a point
	req, err := json.Marshal(api.RotateCMEK{NewFingerprint: after.Fingerprint(), SealedKeys: &api.SealedCMEKKeys{KeyID: to.KeyID, Enc: sealed[:enc], Ciphertext: sealed[enc:]}})
	if err != nil {
		c.t.Fatal(err)
	}
	job := c.made(c.home.owner, "POST "+vault+"/cmek-rotate", string(req), "id")
	c.made(c.home.owner, "GET "+vault+"/cmek", "", "")
	c.settle()
	for _, call := range []string{"GET " + vault + "/cmek-rotate/" + job, "DELETE " + vault + "/cmek-rotate/" + job} { // which has ended
		if j := decode[api.CMEKRotationJob](c.t, c.call(c.home.owner, call, "")); j.Status != "completed" {
			c.t.Errorf("%s: %+v", call, j)
		}
	}
	c.made(c.home.owner, "GET "+vault+"/cmek-rotations", "", "")
	c.made(c.home.owner, "GET "+vault+"/cmek?keys=true", "", "")
}

// unheard are operations whose good answer no test here sees, and why.
var unheard = map[string]string{
	"finishRegisterPasskey": authenticator,
	"finishPasskeyLogin":    authenticator,
	"deletePasskey":         authenticator,
}

const authenticator = "it takes an authenticator, which the tests of internal/passkey have"

// TestMain looks, after all tests and not after some, whether each operation
// answered well once.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && flag.Lookup("test.run").Value.String() == "" && !testing.Short() && it != nil {
		code = it.complete()
	}
	os.Exit(code)
}

func (d *described) complete() (code int) {
	for _, item := range d.open.Paths.Map() {
		for _, op := range item.Operations() {
			for status := range op.Responses.Map() {
				heard := d.seen[op.OperationID+" "+status]
				if _, excused := unheard[op.OperationID]; status[0] == '2' && heard == excused {
					fmt.Printf("%s: a good answer was heard: %v, is excused: %v\n", op.OperationID, heard, excused)
					code = 1
				}
			}
		}
	}
	return code
}
