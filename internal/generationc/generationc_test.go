package generationc_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/thread"
)

// members fails the test when m has other members than names.
func members(t *testing.T, m map[string]any, names string) {
	t.Helper()
	want := strings.Fields(names)
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(m)); !slices.Equal(got, want) {
		t.Errorf("members are %v, want %v", got, want)
	}
}

// Each row of the table once, as each client does it.
func TestEveryRowAnswersEveryClientAsTheTableSays(t *testing.T) {
	w := newWorld(t)
	const user = "u:1/ü"
	byQuery := &client{w: w, header: []string{"Authorization", "Bearer " + w.backend}, author: user}
	for name, c := range map[string]*client{"browser": w.browser(user), "service": w.service(user), "service by query": byQuery,
		"service, signed": {w: w, header: append(w.browser(user).header[2:], "Authorization", "Bearer "+w.backend)}} {
		t.Run(name, func(t *testing.T) { c.life(t, user) })
	}
	own := &client{w: w, header: []string{"Authorization", "Bearer " + w.APIKey}}
	t.Run("a user's own key", func(t *testing.T) { own.life(t, w.Owner.ID) })
}

func (c *client) life(t *testing.T, user string) {
	made := c.call(202, "POST", threadsPath, map[string]any{"title": "Ein Thread"})
	members(t, made, "key")
	key := text(made, "key")
	read := c.call(200, "GET", threadPath(key), nil)
	members(t, read, "thread")
	th := read["thread"].(map[string]any)
	members(t, th, "key title author created_ts updated_ts")
	if text(th, "key") != key || text(th, "title") != "Ein Thread" || text(th, "author") != user || number(t, th, "created_ts") < 1e18 {
		t.Errorf("%v", th)
	}
	members(t, c.call(202, "PUT", threadPath(key), map[string]any{"title": "Zwei"}), "key")
	again := c.call(200, "GET", threadPath(key), nil)["thread"].(map[string]any)
	if text(again, "title") != "Zwei" || number(t, again, "updated_ts") <= number(t, th, "updated_ts") || again["created_ts"] != th["created_ts"] {
		t.Errorf("%v after %v", again, th)
	}
	c.messageLife(t, key, user)
	if got := c.call(202, "DELETE", threadPath(key), nil); text(got, "key") != key {
		t.Errorf("%v", got)
	}
	for _, path := range []string{threadPath(key), messagesPath(key)} {
		c.call(404, "GET", path, nil)
	}
	if p := c.list(threadsPath, cursor{}); slices.Contains(p.keys, key) {
		t.Errorf("a deleted thread is listed: %v", p)
	}
}

func (c *client) messageLife(t *testing.T, thread, user string) {
	made := c.call(202, "POST", messagesPath(thread), map[string]any{"body": map[string]any{"text": "hallo"}})
	members(t, made, "key")
	key := text(made, "key")
	read := c.call(200, "GET", messagePath(thread, key), nil)
	members(t, read, "message")
	m := read["message"].(map[string]any)
	members(t, m, "key thread author created_ts updated_ts body")
	if text(m, "key") != key || text(m, "thread") != thread || text(m, "author") != user || m["created_ts"] != m["updated_ts"] || number(t, m, "created_ts") < 1e18 {
		t.Errorf("%v", m)
	}
	if got := c.call(202, "PUT", messagePath(thread, key), map[string]any{"body": "neu"}); text(got, "key") != key {
		t.Errorf("%v", got)
	}
	list := c.call(200, "GET", messagesPath(thread), nil)
	members(t, list, "thread messages pagination")
	members(t, list["pagination"].(map[string]any), "before_anchor after_anchor has_before has_after count total")
	edited := list["messages"].([]any)[0].(map[string]any)
	members(t, edited, "key thread author created_ts updated_ts body")
	if text(list, "thread") != thread || text(edited, "body") != "neu" || edited["created_ts"] != m["created_ts"] || number(t, edited, "updated_ts") <= number(t, m, "updated_ts") {
		t.Errorf("%v after %v", edited, m)
	}
	if got := c.call(202, "DELETE", messagePath(thread, key), nil); text(got, "key") != key {
		t.Errorf("%v", got)
	}
	c.call(404, "GET", messagePath(thread, key), nil)
	c.call(404, "PUT", messagePath(thread, key), map[string]any{"body": 1})
	c.call(404, "DELETE", messagePath(thread, key), nil)
	if p := c.list(messagesPath(thread), cursor{}); p.count != 0 || p.total != 0 || p.first != "" || p.last != "" || p.before || p.after {
		t.Errorf("%+v", p)
	}
}

func TestWhatIsRefusedSaysWhyAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	c := w.browser("u")
	key := c.createThread("t")
	m := c.post(key, "as it was")
	const none = "01900000-0000-7000-8000-00000000abcd"
	many := strings.Repeat("x", 501)
	for _, try := range []struct {
		status       int
		method, path string
		body         any
	}{
		{400, "POST", threadsPath, nil},
		{400, "POST", threadsPath, map[string]any{}},
		{400, "POST", threadsPath, map[string]any{"title": 1}},
		{400, "POST", threadsPath, map[string]any{"title": many}},
		{400, "POST", threadsPath, []int{}},
		{400, "PUT", threadPath(key), map[string]any{}},
		{400, "PUT", threadPath(key), map[string]any{"slug": "s"}},
		{400, "PUT", threadPath(key), map[string]any{"title": "a\x01"}},
		{404, "PUT", threadPath(none), map[string]any{"title": "t"}},
		{404, "DELETE", threadPath(none), nil},
		{404, "GET", threadPath(none), nil},
		{404, "GET", threadPath("t:1"), nil},
		{404, "GET", threadPath("ü/%?#"), nil},
		{400, "POST", messagesPath(key), map[string]any{}},
		{400, "POST", messagesPath(key), map[string]any{"body": nil}},
		{404, "POST", messagesPath(none), map[string]any{"body": 1}},
		{404, "GET", messagesPath(none), nil},
		{400, "PUT", messagePath(key, m), map[string]any{}},
		{400, "PUT", messagePath(key, m), map[string]any{"body": nil}},
		{404, "PUT", messagePath(key, "1"), map[string]any{"body": 1}},
		{404, "GET", messagePath(key, "m/1"), nil},
		{404, "DELETE", messagePath(none, m), nil},
		{400, "GET", threadsPath + "?limit=0", nil},
		{400, "GET", threadsPath + "?limit=-1", nil},
		{400, "GET", threadsPath + "?limit=1001", nil},
		{400, "GET", threadsPath + "?limit=x", nil},
		{400, "GET", threadsPath + "?limit=", nil},
		{400, "GET", threadsPath + "?sort_by=title", nil},
		{400, "GET", threadsPath + "?anchor=x", nil},
		{400, "GET", threadsPath + "?before=" + key + "&after=" + key, nil},
		{404, "GET", threadsPath + "?after=" + none, nil},
		{400, "GET", messagesPath(key) + "?limit=1001", nil},
		{400, "GET", messagesPath(key) + "?sort_by=x", nil},
		{400, "GET", messagesPath(key) + "?before=x", nil},
		{400, "GET", messagesPath(key) + "?before=" + m + "&anchor=" + m, nil},
		{405, "PATCH", threadPath(key), map[string]any{"title": "t"}},
		{405, "POST", threadPath(key), map[string]any{"title": "t"}},
		{405, "DELETE", threadsPath, nil},
	} {
		c.said = ""
		if c.call(try.status, try.method, try.path, try.body); c.said == "" {
			t.Errorf("%s %s says nothing", try.method, try.path)
		}
	}
	for _, write := range []string{"POST " + messagesPath(key), "PUT " + messagePath(key, m)} {
		method, path, _ := strings.Cut(write, " ")
		if c.call(400, method, path, map[string]any{}); !strings.Contains(c.said, "body is required") {
			t.Errorf("%s says %q", method, c.said)
		}
	}
	p, title := c.list(messagesPath(key), cursor{}), c.call(200, "GET", threadPath(key), nil)["thread"].(map[string]any)["title"]
	body := c.call(200, "GET", messagePath(key, m), nil)["message"].(map[string]any)["body"]
	if all := c.list(threadsPath, cursor{}); p.total != 1 || all.total != 1 || title != "t" || body != "as it was" {
		t.Errorf("%+v, %+v, %v, %v", p, all, title, body)
	}
}

// A body comes back to the byte, in lists and alone, and as it was edited to.
func TestABodyIsAnyJSONAndComesBackToTheByte(t *testing.T) {
	w := newWorld(t)
	c := w.browser("u")
	key := c.createThread("t")
	for _, body := range []string{
		`0`, `-0`, `1.50`, `1e400`, `12345678901234567890`, `""`, `"a\u00e9\/\u2028é"`, `"\ud800"`, `true`, `false`, `[]`, `{}`,
		"[ 1 ,\t2 ]", "{ \"a\" : 1,\n\"a\" : 2 }", `{"body":null,"deleted":true,"key":"x"}`, `"</script>&'"`, `[null]`,
		`"` + strings.Repeat("x", 64<<10) + `"`, `["` + strings.Repeat(`ü",  "`, 200_000) + `"]`, `"` + strings.Repeat("y", thread.MaxBody-2) + `"`,
	} {
		for _, write := range []request{{method: "POST", path: messagesPath(key)}, {method: "PUT", path: messagePath(key, c.post(key, "old"))}} {
			write.body, write.header = `{"body":`+body+`,"role":"x"}`, c.header
			var made struct{ Key string }
			w.decode(w.send(write, 202), &made)
			for _, read := range []string{messagePath(key, made.Key), messagesPath(key) + "?limit=1&after=" + before(made.Key)} {
				if a := w.send(request{method: "GET", path: read, header: c.header}, 200); !strings.Contains(a.body, `,"body":`+body+`}`) {
					t.Errorf("%s of %.80s = %.300s", write.method, body, a.body)
				}
			}
		}
	}
	over := request{method: "POST", path: messagesPath(key), body: `{"body":"` + strings.Repeat("z", thread.MaxBody) + `"}`, header: c.header}
	w.send(over, 413)
	over.body = `{"body":1,"x":"` + strings.Repeat("z", thread.MaxBody+64<<10) + `"}`
	w.send(over, 413)
}

// Its clients send no Idempotency-Key, but what stands before them may.
func TestAPostAndAnEditThatAreSentAgainAreMadeOnce(t *testing.T) {
	w := newWorld(t)
	c := w.browser("u")
	key := c.createThread("t")
	again := func(method, path, body, once string, want int) (of struct{ Key string }) {
		r := request{method: method, path: path, body: body, header: append([]string{"Idempotency-Key", once}, c.header...)}
		w.decode(w.send(r, want), &of)
		return of
	}
	m := again("POST", messagesPath(key), `{"body":1}`, "p", 202)
	if got := again("POST", messagesPath(key), `{"body":1}`, "p", 202); got != m {
		t.Errorf("%v, %v", m, got)
	}
	again("POST", messagesPath(key), `{"body":2}`, "p", 422)
	again("POST", messagesPath(key), `{"body":2}`, "ü", 400)
	for range 2 {
		again("PUT", messagePath(key, m.Key), `{"body":3}`, "e", 202)
	}
	if n := strings.Count(w.send(request{method: "GET", path: "/v1" + strings.TrimPrefix(messagePath(key, m.Key), "/frontend/v1") + "/versions", header: c.header}, 200).body, `"body"`); n != 2 {
		t.Errorf("%d versions", n)
	}
}

// before is a place before a message and after all that were posted earlier.
func before(key string) string {
	ts, _, _ := strings.Cut(key, "-")
	n, err := strconv.ParseInt(ts, 10, 64)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%020d-999999", n-1)
}
