package generationc_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// strange are user IDs that are as good as any.
var strange = []string{"a:b", "a/b", "a/../b", "../..", "%2e%2e", "a%3Ab", "ü", "用户:1/二", "👩‍🚀", "a b", `"\`, "?#&=", strings.Repeat("é", 18), "01900000-0000-7000-8000-00000000abcd"}

func TestEachUserHasHisOwnThreadsWhateverHisIDLooksLike(t *testing.T) {
	w := newWorld(t)
	keys := map[string]string{}
	for _, user := range strange {
		keys[user] = w.browser(user).createThread(user)
	}
	for _, user := range strange {
		for _, c := range []*client{w.browser(user), w.service(user), {w: w, header: []string{"Authorization", "Bearer " + w.backend}, author: user}} {
			if p := c.list(threadsPath, cursor{}); !slices.Equal(p.keys, []string{keys[user]}) || p.total != 1 {
				t.Errorf("%q has %+v", user, p)
			}
			m := c.post(keys[user], user)
			if got := c.call(200, "GET", messagePath(keys[user], m), nil)["message"].(map[string]any); text(got, "author") != user || text(got, "body") != user {
				t.Errorf("%q: %v", user, got)
			}
		}
	}
}

func TestABackendMayNameTheAuthorInTheBody(t *testing.T) {
	w := newWorld(t)
	c := &client{w: w, header: []string{"Authorization", "Bearer " + w.backend}}
	key := text(c.call(202, "POST", threadsPath, map[string]any{"title": "t", "author": "u"}), "key")
	c.call(202, "POST", messagesPath(key), map[string]any{"body": 1, "author": "u"})
	c.call(403, "POST", messagesPath(key), map[string]any{"body": 1, "author": "v"})
	if got := w.service("u").call(200, "GET", threadPath(key), nil)["thread"].(map[string]any); text(got, "author") != "u" {
		t.Errorf("%v", got)
	}
	c.call(400, "POST", threadsPath, map[string]any{"title": "t"})
	if !strings.Contains(c.said, "author is required") {
		t.Errorf("it says %q", c.said)
	}
}

func TestKeysAndSignaturesAreAskedFor(t *testing.T) {
	w := newWorld(t)
	u, v := w.browser("u"), w.browser("v")
	key := u.createThread("t")
	signature := func(c *client) string { return c.header[5] }
	frontend := func(more ...string) []string { return append([]string{"X-API-Key", w.frontend}, more...) }
	for name, try := range map[string]struct {
		header []string
		query  string
		status int
	}{
		"no key":               {nil, "", 401},
		"no such key":          {[]string{"X-API-Key", "1ck_" + strings.Repeat("A", 43)}, "", 401},
		"no user":              {frontend(), "", 401},
		"no signature":         {frontend("X-User-ID", "u"), "", 401},
		"another's signature":  {frontend("X-User-ID", "u", "X-User-Signature", signature(v)), "", 401},
		"upper case":           {frontend("X-User-ID", "u", "X-User-Signature", strings.ToUpper(signature(u))), "", 401},
		"another author":       {frontend("X-User-ID", "u", "X-User-Signature", signature(u)), "?author=v", 403},
		"the same author":      {frontend("X-User-ID", "u", "X-User-Signature", signature(u)), "?author=u", 200},
		"author alone":         {frontend(), "?author=u", 401},
		"two users":            {[]string{"X-API-Key", w.backend, "X-User-ID", "u"}, "?author=v", 403},
		"a long user":          {[]string{"X-API-Key", w.backend, "X-User-ID", strings.Repeat("é", 18) + "x"}, "", 400},
		"a wrong signature":    {[]string{"X-API-Key", w.backend, "X-User-ID", "u", "X-User-Signature", signature(v)}, "", 401},
		"an operator":          {[]string{"X-API-Key", w.admin}, "", 403},
		"an operator for user": {[]string{"X-API-Key", w.admin, "X-User-ID", "u"}, "", 403},
	} {
		for _, path := range []string{threadsPath, threadPath(key), messagesPath(key)} {
			if a := w.send(request{method: "GET", path: path + try.query, header: try.header}, 0); a.status != try.status {
				t.Errorf("%s: %s = %d %s", name, path, a.status, a.body)
			}
		}
	}
}

func TestOnlyABackendKeySigns(t *testing.T) {
	w := newWorld(t)
	for name, try := range map[string]struct {
		key, body string
		status    int
	}{
		"backend":  {w.backend, `{"userId":"u"}`, 200},
		"frontend": {w.frontend, `{"userId":"u"}`, 403},
		"admin":    {w.admin, `{"userId":"u"}`, 403},
		"a user":   {w.APIKey, `{"userId":"u"}`, 403},
		"nobody":   {"", `{"userId":"u"}`, 401},
		"empty":    {w.backend, `{"userId":""}`, 400},
		"absent":   {w.backend, `{}`, 400},
		"long":     {w.backend, `{"userId":"` + strings.Repeat("x", 37) + `"}`, 400},
		"control":  {w.backend, `{"userId":"a\u0000"}`, 400},
		"longest":  {w.backend, `{"userId":"` + strings.Repeat("é", 18) + `"}`, 200},
	} {
		a := w.send(request{method: "POST", path: "/backend/v1/sign", body: try.body, header: []string{"Authorization", "Bearer " + try.key}}, 0)
		if a.status != try.status {
			t.Errorf("%s = %d %s", name, a.status, a.body)
		}
	}
	c := &client{w: w, header: []string{"Authorization", "Bearer " + w.backend}}
	signed := c.call(200, "POST", "/backend/v1/sign", map[string]any{"userId": "u"})
	members(t, signed, "userId signature")
	if s := text(signed, "signature"); text(signed, "userId") != "u" || len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		t.Errorf("%v", signed)
	}
}

// Nobody gets to another's thread: by its key, a key in it, or as a place in a list.
func TestAnothersThreadsAreReachedByNoKeyCursorOrAnchor(t *testing.T) {
	w := newWorld(t)
	const canary = "plaintext-canary-7d21"
	owner := w.browser("owner")
	key, dead := owner.createThread(canary), owner.createThread(canary)
	m := owner.post(key, canary)
	owner.post(dead, canary)
	owner.call(202, "DELETE", threadPath(dead), nil)
	before := w.send(request{method: "GET", path: messagesPath(key), header: owner.header}, 200).body

	abroad := &world{Server: w.Server, t: t}
	stranger := w.NewOrg("enterprise").APIKey
	abroad.frontend, abroad.backend = w.key(stranger, "frontend"), w.key(stranger, "backend")
	for name, who := range map[string]struct {
		*client
		live int // status for a thread that is there
	}{
		"mate": {w.browser("mate"), 403}, "service": {w.service("mate 2"), 403}, "user of the org": {&client{w: w, header: []string{"X-API-Key", w.NewUser(w.Owner.OrgID).APIKey}}, 403},
		"namesake abroad": {abroad.browser("owner"), 404}, "service abroad": {abroad.service("owner 2"), 404}, "user abroad": {&client{w: w, header: []string{"X-API-Key", stranger}}, 404},
	} {
		own := who.createThread("own")
		mine := who.post(own, "mine")
		for thread, status := range map[string]int{key: who.live, dead: 404} {
			for _, r := range []request{
				{"GET", threadPath(thread), "", nil}, {"PUT", threadPath(thread), `{"title":"x"}`, nil}, {"DELETE", threadPath(thread), "", nil},
				{"POST", messagesPath(thread), `{"body":1}`, nil}, {"GET", messagesPath(thread), "", nil}, {"GET", messagePath(thread, m), "", nil},
				{"PUT", messagePath(thread, m), `{"body":1}`, nil}, {"DELETE", messagePath(thread, m), "", nil},
				{"GET", messagesPath(thread) + "?before=" + m, "", nil}, {"GET", messagesPath(thread) + "?anchor=" + m, "", nil}, {"GET", messagesPath(thread) + "?after=" + mine, "", nil},
				{"GET", threadsPath + "?before=" + thread, "", nil}, {"GET", threadsPath + "?after=" + thread, "", nil}, {"GET", threadsPath + "?anchor=" + thread, "", nil},
				{"GET", threadsPath + "?sort_by=updated_ts&anchor=" + thread, "", nil},
			} {
				r.header = who.header
				if a := w.send(r, 0); a.status != status || strings.Contains(a.body, canary) || strings.Contains(a.body, "total") {
					t.Errorf("%s: %s %s = %d %s, want %d", name, r.method, r.path, a.status, a.body, status)
				}
			}
		}
		// A message's key is a time, and as a place shows what is one's own alone.
		for _, q := range []cursor{{before: m}, {after: m}, {anchor: m}} {
			if p := who.list(messagesPath(own), q); p.total != 1 || p.count > 1 || p.count == 1 && p.keys[0] != mine {
				t.Errorf("%s: %+v = %+v", name, q, p)
			}
		}
		for _, r := range []request{{"GET", messagePath(own, m), "", nil}, {"PUT", messagePath(own, m), `{"body":1}`, nil}, {"DELETE", messagePath(own, m), "", nil}} {
			r.header = who.header
			w.send(r, 404)
		}
		if p := who.list(threadsPath, cursor{}); !slices.Equal(p.keys, []string{own}) || p.total != 1 {
			t.Errorf("%s sees %+v", name, p)
		}
	}
	if after := w.send(request{method: "GET", path: messagesPath(key), header: owner.header}, 200).body; after != before {
		t.Errorf("%s after %s", after, before)
	}
}

// An end user may be called as a user of the org is. They share no list and no count.
func TestAnEndUserIsNotTheUserOfTheSameID(t *testing.T) {
	w := newWorld(t)
	user := &client{w: w, header: []string{"X-API-Key", w.APIKey}}
	var theirs []string
	for range 3 {
		theirs = append(theirs, user.createThread("t"))
	}
	end := w.browser(w.Owner.ID)
	if p := end.list(threadsPath, cursor{limit: 1}); p.count != 0 || p.total != 0 || p.after {
		t.Errorf("%+v", p)
	}
	own := end.createThread("t")
	if p := end.list(threadsPath, cursor{limit: 1}); p.total != 1 || p.after || !slices.Equal(p.keys, []string{own}) {
		t.Errorf("%+v", p)
	}
	if p := user.list(threadsPath, cursor{}); p.total != 3 || slices.Contains(p.keys, own) {
		t.Errorf("%+v", p)
	}
	end.call(403, "GET", threadsPath+"?after="+theirs[0], nil)
}

// A part in another's thread, and what generation C has no word for.
func TestASharedThreadIsListedAndItsReactionsAreNotShown(t *testing.T) {
	w := newWorld(t)
	owner, mate := w.browser("owner"), w.browser("mate")
	key := owner.createThread("t")
	m := owner.post(key, 1)
	for _, r := range []request{
		{"PUT", "/v1/threads/" + key + "/participants/mate", `{"part":"write","end_user":true}`, owner.header},
		{"POST", "/v1/threads/" + key + "/messages/" + m + "/reactions", `{"reaction":"+"}`, mate.header},
		{"PUT", "/v1/threads/" + key + "/messages/" + m, `{"role":"system"}`, owner.header},
	} {
		w.send(r, 200)
	}
	if p := mate.list(threadsPath, cursor{}); !slices.Equal(p.keys, []string{key}) || p.total != 1 {
		t.Errorf("%+v", p)
	}
	owner.call(202, "PUT", messagePath(key, m), map[string]any{"body": 2})
	members(t, mate.call(200, "GET", messagePath(key, m), nil)["message"].(map[string]any), "key thread author created_ts updated_ts body")
	if native := w.send(request{"GET", "/v1/threads/" + key + "/messages/" + m, "", owner.header}, 200).body; !strings.Contains(native, `"role":"system"`) || !strings.Contains(native, `"reactions":{"mate":"+"}`) {
		t.Errorf("an edit did not keep what it did not send: %s", native)
	}
	members(t, mate.call(200, "GET", threadPath(key), nil)["thread"].(map[string]any), "key title author created_ts updated_ts")
	mate.call(403, "PUT", messagePath(key, m), map[string]any{"body": 3})
	mate.call(403, "DELETE", threadPath(key), nil)
}

func TestABrowserOfAConfiguredOriginMayCall(t *testing.T) {
	w := newWorld(t)
	c := w.browser("u")
	key := c.createThread("t")
	for path, methods := range map[string][]string{threadsPath: {"GET", "POST"}, threadPath(key): {"GET", "PUT", "DELETE"}, messagesPath(key): {"GET", "POST"}, "/backend/v1/sign": {"POST"}} {
		for _, method := range methods {
			for from, allowed := range map[string]bool{origin: true, "https://evil.example": false} {
				asks := request{"OPTIONS", path, "", []string{"Origin", from, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization,content-type,x-api-key,x-user-id,x-user-signature"}}
				a := w.send(asks, map[bool]int{true: 204, false: 405}[allowed])
				for _, header := range []string{"Authorization", "Content-Type", "X-API-Key", "X-User-ID", "X-User-Signature"} {
					if strings.Contains(a.header.Get("Access-Control-Allow-Headers"), header) != allowed {
						t.Errorf("%s: %v", from, a.header)
					}
				}
				if strings.Contains(a.header.Get("Access-Control-Allow-Methods"), method) != allowed || (a.header.Get("Access-Control-Allow-Origin") == from) != allowed {
					t.Errorf("%s %s: %v", from, method, a.header)
				}
			}
		}
	}
	for status, header := range map[int][]string{200: c.header, 401: nil} { // a page reads why it was refused
		if a := w.send(request{"GET", threadPath(key), "", append([]string{"Origin", origin}, header...)}, status); a.header.Get("Access-Control-Allow-Origin") != origin {
			t.Errorf("%d: %v", status, a.header)
		}
	}
	for _, path := range []string{threadsPath, threadPath(key), messagesPath(key)} { // a read that nobody sees would count as one
		if a := w.send(request{"HEAD", path, "", c.header}, 405); a.body != "" || !strings.Contains(a.header.Get("Allow"), "GET") {
			t.Errorf("HEAD %s: %q, %v", path, a.body, a.header)
		}
	}
	for path, want := range map[string]string{"/healthz": "status", "/readyz": "status version"} {
		members(t, (&client{w: w}).call(200, "GET", path, nil), want)
	}
}

// Written, and read by its key with nothing in between; two clients at once.
func TestWhatIsWrittenIsReadableAtOnce(t *testing.T) {
	w := newWorld(t)
	c, d := w.browser("u"), w.service("u")
	seen := map[string]bool{}
	for range 20 {
		key := c.createThread("t")
		d.call(200, "GET", threadPath(key), nil)
		m := d.post(key, "x")
		c.call(200, "GET", messagePath(key, m), nil)
		seen[component(key)], seen[component(m)] = true, true
		if component(key) != key || component(m) != m {
			t.Errorf("%q and %q change in a path", key, m)
		}
	}
	if len(slices.Collect(maps.Keys(seen))) != 40 {
		t.Errorf("%d keys of 40", len(seen))
	}
}
