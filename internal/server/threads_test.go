package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
)

func quote(t testing.TB, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAThreadsLife(t *testing.T) {
	w := newWorld(t)
	a := w.do(scenario{call: "POST /v1/threads", body: `{"title":"Hello World"}`, status: 200,
		want: []string{`"title":"Hello World"`, `"author":"` + w.Owner.ID}, forbid: []string{"kms", "wrapped", "deleted"}})
	th := decode[api.Thread](t, a)
	if th.ID == "" || th.CreatedTS == 0 || !strings.HasSuffix(th.Slug, "-"+th.ID) {
		t.Errorf("thread is %+v", th)
	}
	path := "/v1/threads/" + th.ID
	untitled := w.do(scenario{call: "POST /v1/threads", status: 200, header: []string{"Content-Type", "application/json"}})
	for _, c := range []scenario{
		{call: "GET " + path, status: 200, want: []string{th.ID}},
		{call: "GET /v1/threads", status: 200, want: []string{th.ID, decode[api.Thread](t, untitled).ID}, forbid: []string{"kms", "wrapped"}},
		{call: "GET /v1/threads?title=WORLD", status: 200, want: []string{th.ID}},
		{call: "GET /v1/threads?slug=" + th.Slug, status: 200, want: []string{th.ID}},
		{call: "GET /v1/threads?title=nothing", status: 200, want: []string{`{"threads":[]}`}},
		{call: "GET /v1/threads?limit=1", status: 200, want: []string{`"next_cursor"`}, forbid: []string{th.ID}},
		{call: "GET /v1/threads?limit=0", status: 400, want: []string{"limit"}},
		{call: "GET /v1/threads?limit=-1", status: 400, want: []string{"limit"}},
		{call: "GET /v1/threads?limit=1x", status: 400, want: []string{"limit"}},
		{call: "GET /v1/threads?limit=99999999999999999999", status: 400, want: []string{"limit"}},
		{call: "GET /v1/threads?limit=1&cursor=zzz", status: 400, want: []string{"cursor"}},
		{call: "PUT " + path, body: `{"Title":"x"}`, status: 400, want: []string{"title is required"}}, // or the thread would lose its title
		{call: "GET " + path, status: 200, want: []string{`"title":"Hello World"`}},
		{call: "DELETE " + path, status: 204},
		{call: "GET " + path, status: 404},
		{call: "DELETE " + path, status: 404},
		{call: "GET " + path + "/messages", status: 404},
		{call: "POST " + path + "/messages", body: `{"body":1}`, status: 404},
		{call: "GET /v1/threads/nope", status: 404},
	} {
		w.do(c)
	}
}

func TestMessagesArePagedOldestFirst(t *testing.T) {
	w := newWorld(t)
	path := w.thread() + "/messages"
	var ids []string
	for i := range 5 {
		a := w.do(scenario{call: "POST " + path, body: fmt.Sprintf(`{"body":{"n":%d,"text":"%s"}}`, i, canary), status: 200, reads: true,
			want: []string{`"role":"user"`, `"author":"` + w.Owner.ID}})
		ids = append(ids, decode[api.Message](t, a).ID)
	}
	page := func(query string, want ...string) {
		t.Helper()
		a := w.do(scenario{call: "GET " + path + query, status: 200, reads: true})
		got := decode[api.Messages](t, a)
		var have []string
		for _, m := range got.Messages {
			have = append(have, m.ID)
		}
		if strings.Join(have, " ") != strings.Join(want, " ") || !strings.Contains(path, got.Thread) {
			t.Errorf("%s = %v, want %v", query, have, want)
		}
	}
	page("", ids...)
	page("?limit=2", ids[3:]...)
	page("?limit=2&before="+ids[3], ids[1:3]...)
	page("?limit=2&after="+ids[0], ids[1:3]...)
	page("?before=" + ids[0])
	w.do(scenario{call: "GET " + path + "/" + ids[2], status: 200, reads: true, want: []string{`"n":2`}})
	for _, c := range []scenario{
		{call: "GET " + path + "?limit=x", status: 400},
		{call: "GET " + path + "?limit=100000", status: 400},
		{call: "GET " + path + "?before=x", status: 400},
		{call: "GET " + path + "?before=" + ids[0] + "&after=" + ids[1], status: 400},
		{call: "GET " + path + "/nope", status: 404},
		{call: "GET " + path + "/" + ids[0] + "%3A", status: 404},
	} {
		w.do(c)
	}
}

func TestABodyIsAnyJSONAndComesBackToTheByte(t *testing.T) {
	w := newWorld(t)
	path := w.thread() + "/messages"
	for _, body := range []string{`"text"`, `0`, `-1.50e+3`, `12345678901234567890.10`, `true`, `false`, `[]`, `{}`, `[1, [2,{"a" :null}]]`,
		`{"a":1,"a":2}`, `"\u0041\/\ud83d\ude00"`, `"\ud800 cut"`, `"ключ🔑"`, `"<&>"`, "{\n\t\"a\" : [ ]\r\n}", `"` + strings.Repeat("x", 300_000) + `"`} {
		a := w.do(scenario{call: "POST " + path, body: `{"body":` + body + `,"role":"assistant"}`, status: 200, want: []string{`"role":"assistant"`}})
		id := decode[api.Message](t, a).ID
		for _, call := range []string{"GET " + path + "/" + id, "GET " + path + "?limit=1"} {
			if got := w.do(scenario{call: call, status: 200}); !strings.Contains(got.body, `"body":`+body) {
				t.Errorf("%.60s came back as %.300s", body, got.body)
			}
		}
	}
	w.do(scenario{call: "POST " + path, body: `{"body":"` + strings.Repeat("x", 4<<20-2) + `"}`, status: 200}) // the most
	w.unchanged(func() {
		for body, status := range map[string]int{
			`{"body":"` + strings.Repeat("x", 4<<20-1) + `"}`: 413,
			`{"body":null}`:                         400,
			`{}`:                                    400,
			``:                                      400,
			`{"body":1,"body":2}`:                   400,
			`{"body":1,"role":5}`:                   400,
			`{"body":1,"ts":-1}`:                    400,
			`{"body":1,"ts":"now"}`:                 400,
			`{"body":1,"reply_to":"x"}`:             400,
			"{\"body\":\"\xff\"}":                   400,
			`{"body":{"a":1,}}`:                     400,
			`{"body":"` + canary:                    400,
			`{"body":` + strings.Repeat("[", 20000): 400,
		} {
			w.do(scenario{call: "POST " + path, body: body, status: status})
		}
	})
}
