package httpx

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestBodiesAreHeldToTheirShape(t *testing.T) {
	m, _ := testMux(t)
	long := `{"name":"` + strings.Repeat("x", 1000) + `"}`
	for _, c := range []struct {
		name, target, body string
		status             int
		want               string
	}{
		{"good", "/things", `{"name":"a","n":1,"free":{"b":[1]}}`, 201, `{"name":"a","n":1,"free":{"b":[1]}}`},
		{"unknown members", "/things", `{"name":"a","priority":3,"x":{}}`, 201, `{"name":"a","n":0,"free":null}`},
		{"null members", "/things", `{"name":"a","n":null}`, 201, `{"name":"a","n":0,"free":null}`},
		{"white space", "/things", " {\"name\" : \"a\"}\r\n", 201, `{"name":"a","n":0,"free":null}`},
		{"none", "/things", ``, 400, "send a JSON object"},
		{"blank", "/things", ` `, 400, "too early"},
		{"null", "/things", `null`, 400, "name is required"},
		{"no JSON", "/things", `name=` + canary, 400, "not valid JSON"},
		{"cut", "/things", `{"name":"` + canary, 400, "too early"},
		{"array", "/things", `["` + canary + `"]`, 400, "wrong kind"},
		{"wrong type", "/things", `{"name":["` + canary + `"]}`, 400, `(member "name")`},
		{"string for number", "/things", `{"n":"` + canary + `"}`, 400, `(member "n")`},
		{"fraction", "/things", `{"n":1.5}`, 400, `(member "n")`},
		{"huge number", "/things", `{"n":1e99}`, 400, `(member "n")`},
		{"trailing garbage", "/things", `{"name":"a"}` + canary, 400, "not valid JSON"},
		{"two values", "/things", `{"name":"a"}{}`, 400, "not valid JSON"},
		{"not UTF-8", "/things", "{\"name\":\"\xff\"}", 400, `(member "name")`},
		{"not UTF-8 where nobody looks", "/things", "{\"name\":\"a\",\"zzz\":\"\xff\"}", 400, `(member "zzz")`},
		{"lone surrogate", "/things", `{"name":"\ud800"}`, 400, `(member "name")`},
		{"other case", "/things", `{"Name":"a"}`, 400, "name is required"},
		{"name twice", "/things", `{"name":"a","name":"b"}`, 400, "twice"},
		{"name twice within", "/things", `{"name":"a","free":{"` + canary + `":1,"` + canary + `":2}}`, 400, "twice"},
		{"data for a name", "/things", `{"` + canary + `":1,"` + canary + `":2}`, 400, "twice"},
		{"deep", "/things", `{"free":` + strings.Repeat("[", 990), 400, "too early"},
		{"long", "/things", long, 413, "1000 bytes"},
		{"optional, none", "/maybe", ``, 200, `{"name":"","n":0,"free":null}`},
		{"too deep", "/large", `{"free":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, 400, "nested too deep"},
		{"optional, wrong", "/maybe", `{`, 400, "too early"},
		{"free form", "/free", `{"free": {"a": 1,  "a":"\u0041", "é":[1e3]} }`, 200, `{"a": 1,  "a":"\u0041", "é":[1e3]}`},
		{"free form keeps null", "/free", `{"free":null}`, 200, `null`},
		{"free form around", "/free", `{"free":{},"free":{}}`, 400, "twice"},
		{"free form, not UTF-8", "/free", "{\"free\":\"\xff\"}", 400, `UTF-8`},
		{"free form, lone surrogate", "/free", `{"free":["\ud800"]}`, 200, `["\ud800"]`},
		{"free form, lone surrogate around", "/free", `{"free":1, "name":"\ud800"}`, 400, `(member "name")`},
		{"free form, no JSON", "/free", `{"free":{"a":1,}}`, 400, `(member "free")`},
		{"free form, cut", "/free", `{"free":{"a":1`, 400, "too early"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := do(m, "POST", c.target, c.body)
			if c.status >= 400 {
				checkProblem(t, w, c.status, c.want)
			} else if w.Code != c.status || w.Body.String() != c.want {
				t.Errorf("answer is %d %s, want %d %s", w.Code, w.Body, c.status, c.want)
			}
			if strings.Contains(w.Body.String(), canary) {
				t.Errorf("the answer shows what was sent: %s", w.Body)
			}
		})
	}
}

func TestHeadersOfABodyAreJudgedLeniently(t *testing.T) {
	m, _ := testMux(t)
	for _, ct := range []string{"", "application/json", "application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", "nonsense"} {
		if w := do(m, "POST", "/things", `{"name":"a"}`, "Content-Type", ct); w.Code != 201 {
			t.Errorf("Content-Type %q = %d", ct, w.Code)
		}
	}
	if w := do(m, "GET", "/things", "garbage", "Content-Type", "application/json"); w.Code != 200 {
		t.Errorf("a body where none is needed = %d", w.Code)
	}
	if w := do(m, "POST", "/things", `{"name":"a"}`, "Content-Encoding", "identity"); w.Code != 201 {
		t.Errorf("identity = %d", w.Code)
	}
	checkProblem(t, do(m, "POST", "/things", "\x1f\x8b\x08", "Content-Encoding", "gzip"), 400, "Content-Encoding")
	checkProblem(t, do(m, "GET", "/query?q=%zz", ""), 400, "query")
	checkProblem(t, do(m, "GET", "/query?q=1;p=2", ""), 400, "query")
}

func TestACallerWithoutACredentialIsNotReadFrom(t *testing.T) {
	m, _ := testMux(t)
	body := &countingReader{r: strings.NewReader(`{"name":"a"}`)}
	r := httptest.NewRequest("POST", "/things", body)
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	checkProblem(t, w, 401, "")
	if body.n != 0 {
		t.Errorf("%d bytes of a stranger's body were read", body.n)
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// deadlines is a ResponseWriter that notes the read deadlines it is given.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// A deadline that stayed would go off under the handler and cancel it.
func TestTheBodysDeadlineEndsWithTheBody(t *testing.T) {
	m, _ := testMux(t)
	r := httptest.NewRequest("POST", "/things", strings.NewReader(`{"name":"a"}`))
	r.Header.Set("Authorization", "Bearer good")
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	m.ServeHTTP(w, r)
	if w.Code != 201 || len(w.set) != 2 || w.set[0].IsZero() || !w.set[1].IsZero() {
		t.Errorf("%d, deadlines set: %v, want one and its end", w.Code, w.set)
	}
}
