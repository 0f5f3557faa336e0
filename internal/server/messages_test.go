package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
)

// backend makes a backend key of the owner's org.
func (w *world) backend() string {
	w.t.Helper()
	a := w.do(scenario{call: "POST /v1/auth/api-keys", body: `{"name":"k","role":"backend"}`, status: 201})
	return decode[api.APIKeyCreated](w.t, a).APIKey
}

func TestAMessagesLife(t *testing.T) {
	w := newWorld(t)
	thread := w.thread()
	id := decode[api.Message](t, w.do(scenario{call: "POST " + thread + "/messages", body: `{"body":{"n":1}}`, status: 200})).ID
	reply := decode[api.Message](t, w.do(scenario{call: "POST " + thread + "/messages", body: `{"body":2,"reply_to":"` + id + `"}`, status: 200})).ID
	one := thread + "/messages/" + id
	for _, c := range []scenario{
		{call: "PUT " + one, body: `{"role":"assistant"}`, status: 200, want: []string{`"body":{"n":1}`, `"role":"assistant"`, `"version":2`}},
		{call: "PUT " + one, body: `{"body":[1, {"a" :"\u0041"}]}`, status: 200, want: []string{`"body":[1, {"a" :"\u0041"}]`, `"role":"assistant"`, `"version":3`}},
		{call: "PUT " + one, body: `{}`, status: 400, want: []string{"nothing to change"}},
		{call: "PUT " + one, body: `{"body":null}`, status: 400, want: []string{"body is required"}},
		{call: "PUT " + one, body: `{"body":"` + strings.Repeat("x", 4<<20) + `"}`, status: 413},
		{call: "GET " + one, status: 200, want: []string{`"version":3`}},
		{call: "GET " + one + "/versions", status: 200, want: []string{`{"id":"` + id + `","versions":[{`, `"body":{"n":1},`}},
		{call: "GET " + one + "/versions?limit=1", status: 200, want: []string{`"next_cursor":"1"`}},
		{call: "GET " + one + "/versions?limit=1&cursor=x", status: 400, want: []string{"cursor"}},
		{call: "POST " + one + "/reactions", body: `{"reaction":"👍"}`, status: 200, want: []string{`"reactions":{"` + w.Owner.ID + `":"👍"}`}},
		{call: "POST " + one + "/reactions", body: `{"id":"another","reaction":"+"}`, status: 403},
		{call: "POST " + one + "/reactions", header: []string{"X-Identity", "another"}, body: `{"reaction":"+"}`, status: 403},
		{call: "POST " + one + "/reactions", header: []string{"X-Identity", "another"}, body: `{"id":"` + w.Owner.ID + `","reaction":"+"}`, status: 400},
		{call: "POST " + one + "/reactions", header: []string{"X-Identity", w.Owner.ID}, body: `{"reaction":"-"}`, status: 200, want: []string{`:"-"}`}},
		{call: "POST " + one + "/reactions", body: `{}`, status: 400},
		{call: "GET " + one + "/reactions", status: 200, want: []string{`{"id":"` + id + `","reactions":[{"id":"` + w.Owner.ID + `","reaction":"-"}]}`}},
		{call: "GET " + thread + "/messages", status: 200, want: []string{`"reactions":{"`}},
		{call: "DELETE " + one + "/reactions/" + w.Owner.ID, status: 204},
		{call: "DELETE " + one + "/reactions/" + w.Owner.ID, status: 404},
		{call: "DELETE " + one, status: 204},
		{call: "DELETE " + one, status: 404},
		{call: "GET " + one, status: 404},
		{call: "PUT " + one, body: `{"body":1}`, status: 404},
		{call: "GET " + one + "/reactions", status: 404},
		{call: "GET " + one + "/versions", status: 200, want: []string{`"deleted":true`}},
		{call: "GET " + thread + "/messages", status: 200, want: []string{reply}, forbid: []string{`"id":"` + id}},
		{call: "GET " + thread + "/messages?include_deleted=true", status: 200, want: []string{reply, `"id":"` + id, `"deleted":true`}},
		{call: "GET " + thread + "/messages?include_deleted=false", status: 200, forbid: []string{`"id":"` + id}},
		{call: "GET " + thread + "/messages?include_deleted=some", status: 400, want: []string{"include_deleted"}},
		{call: "PUT " + thread, body: `{"title":"Another Name"}`, status: 200, want: []string{`"slug":"another-name-`, `"title":"Another Name"`}},
		{call: "PUT " + thread, body: `{"title":"` + strings.Repeat("x", 501) + `"}`, status: 400},
		{call: "GET /v1/threads?slug=another-name-" + strings.TrimPrefix(thread, "/v1/threads/"), status: 200, want: []string{"Another Name"}},
	} {
		w.do(c)
	}
}

func TestAMessageMakesItsThread(t *testing.T) {
	w := newWorld(t)
	m := decode[api.Message](t, w.do(scenario{call: "POST /v1/messages", body: `{"body":{"a":1,"a":2}}`, status: 200, want: []string{`"body":{"a":1,"a":2}`}}))
	next := w.do(scenario{call: "POST /v1/messages", body: `{"thread":"` + m.Thread + `","body":2,"reply_to":"` + m.ID + `"}`, status: 200})
	page := w.do(scenario{call: "GET /v1/messages?limit=1&thread=" + m.Thread, status: 200, want: []string{`{"thread":"` + m.Thread + `"`, decode[api.Message](t, next).ID}, forbid: []string{`"id":"` + m.ID}})
	if same := w.do(scenario{call: "GET /v1/threads/" + m.Thread + "/messages?limit=1", status: 200}); same.body != page.body {
		t.Errorf("%s\n%s", page.body, same.body)
	}
	w.unchanged(func() {
		for _, body := range []string{`{}`, `{"body":null}`, `{"body":1,"ts":-1}`, `{"body":1,"reply_to":"` + m.ID + `"}`, `{"thread":1,"body":1}`, `{"body":1,"role":"` + strings.Repeat("x", 65) + `"}`} {
			w.do(scenario{call: "POST /v1/messages", body: body, status: 400})
		}
		w.do(scenario{call: "POST /v1/messages", body: `{"thread":"` + nobodys + `","body":1}`, status: 404})
		w.do(scenario{call: "GET /v1/messages", status: 400, want: []string{"?thread=ID"}})
		w.do(scenario{call: "GET /v1/messages?thread=" + nobodys, status: 404})
		w.do(scenario{key: w.mate, call: "GET /v1/messages?thread=" + m.Thread, status: 403})
		w.do(scenario{key: w.mate, call: "POST /v1/messages", body: `{"thread":"` + m.Thread + `","body":1}`, status: 403})
		w.do(scenario{key: w.stranger, call: "GET /v1/messages?thread=" + m.Thread, status: 404})
		w.do(scenario{key: w.stranger, call: "POST /v1/messages", body: `{"thread":"` + m.Thread + `","body":1}`, status: 404})
	})
}

func TestAPostThatIsSentAgainIsOneMessage(t *testing.T) {
	w := newWorld(t)
	thread := w.thread()
	for i, call := range []string{"POST " + thread + "/messages", "POST /v1/messages"} {
		key := []string{"Idempotency-Key", fmt.Sprint("key ", i)}
		body := `{"thread":"` + strings.TrimPrefix(thread, "/v1/threads/") + `","body":"once"}`
		first := w.do(scenario{call: call, header: key, body: body, status: 200})
		if again := w.do(scenario{call: call, header: key, body: body, status: 200}); again.body != first.body {
			t.Errorf("%s\n%s", first.body, again.body)
		}
		w.do(scenario{call: call, header: key, body: strings.Replace(body, "once", "twice", 1), status: 422})
		w.do(scenario{call: call, header: []string{"Idempotency-Key", ""}, body: body, status: 400})
		w.do(scenario{call: call, header: []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, body: body, status: 400})
		w.do(scenario{call: call, header: []string{"Idempotency-Key", strings.Repeat("k", 256)}, body: body, status: 400})
	}
	if n := len(decode[api.Messages](t, w.do(scenario{call: "GET " + thread + "/messages", status: 200})).Messages); n != 2 {
		t.Errorf("%d messages", n)
	}
}

func TestAnEditThatIsSentAgainIsOneVersion(t *testing.T) {
	w := newWorld(t)
	thread := w.thread()
	one := thread + "/messages/" + decode[api.Message](t, w.do(scenario{call: "POST " + thread + "/messages", body: `{"body":1}`, status: 200})).ID
	key := []string{"Idempotency-Key", "a key"}
	first := w.do(scenario{call: "PUT " + one, header: key, body: `{"body":2}`, status: 200, want: []string{`"version":2`}})
	w.do(scenario{call: "PUT " + one, body: `{"body":3}`, status: 200, want: []string{`"version":3`}})
	if again := w.do(scenario{call: "PUT " + one, header: key, body: `{"body":2}`, status: 200}); again.body != first.body {
		t.Errorf("%s\n%s", first.body, again.body)
	}
	w.do(scenario{call: "PUT " + one, header: key, body: `{"body":3}`, status: 422})
	w.do(scenario{call: "POST " + thread + "/messages", header: key, body: `{"body":1}`, status: 422})
	w.do(scenario{call: "PUT " + one, header: []string{"Idempotency-Key", ""}, body: `{"body":2}`, status: 400})
	w.do(scenario{call: "PUT " + one, header: []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, body: `{"body":2}`, status: 400})
	w.do(scenario{call: "GET " + one, status: 200, want: []string{`"version":3`}})
}

// What is told of a thread's DEK is for backend keys, and never the wrapped DEK.
func TestABackendKeySeesWhichDEKAThreadHas(t *testing.T) {
	w := newWorld(t)
	key := w.backend()
	as := []string{"X-User-ID", "ada"}
	id := decode[api.Thread](t, w.do(scenario{key: key, call: "POST /v1/threads", header: as, body: `{"title":"T"}`, status: 200,
		want: []string{`"kms":{"key_id":"`, `"kek_version":1}`}, forbid: []string{"wrapped"}})).ID
	signature := decode[api.Signed](t, w.do(scenario{key: key, call: "POST /v1/_sign", body: `{"userId":"ada"}`, status: 200})).Signature
	frontend := decode[api.APIKeyCreated](t, w.do(scenario{call: "POST /v1/auth/api-keys", body: `{"name":"k","role":"frontend"}`, status: 201})).APIKey
	for _, call := range []scenario{{call: "GET /v1/threads/" + id}, {call: "GET /v1/threads"}, {call: "PUT /v1/threads/" + id, body: `{"title":"U"}`}} {
		call.status, call.key, call.header = 200, key, as
		call.want, call.forbid = []string{`"kms":{"key_id":"`}, []string{"wrapped"}
		w.do(call)
		call.key, call.header = frontend, append(as, "X-User-Signature", signature)
		call.want, call.forbid = []string{id}, []string{"kms", "key_id", "wrapped"}
		w.do(call)
	}
	w.do(scenario{call: "POST /v1/threads", body: `{"title":"T"}`, status: 200, forbid: []string{"kms"}})
}

// A backend key says in one of three places whose call it is, and no two of them
// may differ; a signed user is nobody else.
func TestTheAuthorOfACallIsOne(t *testing.T) {
	w := newWorld(t)
	key := w.backend()
	thread := "/v1/threads/" + decode[api.Thread](t, w.do(scenario{key: key, call: "POST /v1/threads", body: `{"title":"T","author":"ada"}`, status: 200, want: []string{`"author":"ada"`}})).ID
	m := thread + "/messages/" + decode[api.Message](t, w.do(scenario{key: key, call: "POST " + thread + "/messages?author=ada", body: `{"body":{"author":"bob"}}`, status: 200, want: []string{`"author":"ada"`}})).ID
	signature := decode[api.Signed](t, w.do(scenario{key: key, call: "POST /v1/_sign", body: `{"userId":"ada"}`, status: 200})).Signature
	frontend := decode[api.APIKeyCreated](t, w.do(scenario{call: "POST /v1/auth/api-keys", body: `{"name":"k","role":"frontend"}`, status: 201})).APIKey
	signed := []string{"X-User-ID", "ada", "X-User-Signature", signature}
	for _, c := range []scenario{
		{key: key, call: "PUT " + m, body: `{"body":2,"author":"ada"}`, status: 200},
		{key: key, call: "PUT " + m, body: `{"body":2,"author":"bob"}`, status: 403},
		{key: key, call: "PUT " + m + "?author=bob", body: `{"body":2,"author":"ada"}`, status: 400},
		{key: key, call: "PUT " + m, header: []string{"X-User-ID", "bob"}, body: `{"body":2,"author":"ada"}`, status: 403},
		{key: key, call: "PUT " + m, body: `{"body":2}`, status: 400, want: []string{"author is required"}},
		{key: key, call: "DELETE " + m, status: 400, want: []string{"author is required"}},
		{key: key, call: "DELETE " + m + "?author=bob", status: 403},
		{key: frontend, call: "PUT " + m, header: signed, body: `{"body":2,"author":"bob"}`, status: 403},
		{key: frontend, call: "PUT " + m + "?author=bob", header: signed, body: `{"body":2}`, status: 403},
		{key: frontend, call: "DELETE " + m + "?author=bob", header: signed, status: 403},
		{key: frontend, call: "PUT " + m, header: []string{"X-User-ID", "bob", "X-User-Signature", signature}, body: `{"body":2}`, status: 401},
		{key: frontend, call: "PUT " + m, header: signed, body: `{"body":3,"author":"ada"}`, status: 200},
		{key: key, call: "POST " + m + "/reactions?author=ada", body: `{"id":"carol","reaction":"+"}`, status: 200, want: []string{`"carol":"+"`}},
		{key: frontend, call: "POST " + m + "/reactions", header: signed, body: `{"id":"carol","reaction":"-"}`, status: 403},
		{key: frontend, call: "POST " + m + "/reactions", header: append(signed, "X-Identity", "carol"), body: `{"reaction":"-"}`, status: 403},
		{key: key, call: "DELETE " + m + "?author=ada", status: 204},
	} {
		w.do(c)
	}
}

// The lines of an export name their authors; whose call an import is they do not say.
func TestLinesOfAnotherAuthorAreBroughtInForAnEndUser(t *testing.T) {
	w := newWorld(t)
	key := w.backend()
	thread := "/v1/threads/" + decode[api.Thread](t, w.do(scenario{key: key, call: "POST /v1/threads?author=bob", status: 200})).ID
	lines := `{"ts":1,"author":"ada","body":1}` + "\n" + `{"ts":2,"author":"ada","body":"\ud800"}` + "\n" + `{"end":true,"messages":2}`
	w.do(scenario{key: key, call: "POST " + thread + "/import?author=bob", body: lines, status: 200, want: []string{`"imported":2`}})
	w.do(scenario{key: key, call: "GET " + thread + "/messages?author=bob", status: 200, want: []string{`"body":1`, `"body":"\ud800"`, `"author":"bob"`}, forbid: []string{"ada"}})
}
