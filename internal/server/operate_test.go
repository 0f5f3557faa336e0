package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// said posts the canary and returns the path of the message.
func (w *world) said(thread string) string {
	w.t.Helper()
	a := w.do(scenario{call: "POST " + thread + "/messages", body: `{"body":"` + canary + `"}`, status: 200, reads: true})
	return thread + "/messages/" + decode[api.Message](w.t, a).ID
}

func TestAnOperatorSeesThreadsAndNoText(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	thread := w.thread()
	m := w.said(thread)
	w.said(thread)
	gone := w.thread()
	w.do(scenario{call: "DELETE " + gone, status: 204})
	w.do(scenario{call: "PUT " + thread + "/participants/" + w.mateID(), body: `{"part":"read"}`, status: 200}) // who owns none
	id, user := strings.TrimPrefix(thread, "/v1/threads/"), "/admin/users/"+w.Owner.ID+"/threads"
	ask := func(call string, want ...string) answer {
		t.Helper()
		return w.do(scenario{key: w.admin, call: "GET " + call, status: 200, want: want, forbid: []string{"wrapped"}})
	}
	ask("/admin/health", `{"status":"ok","service":"keyfold"}`)
	ask("/admin/stats", `{"threads":1,"messages":2}`)
	ask("/admin/threads", id, `"kms":{"key_id":"`, `"deleted":true`)
	if a := ask("/admin/users"); strings.Join(decode[api.ThreadOwners](t, a).Users, " ") != w.Owner.ID {
		t.Error(a.body)
	}
	ask(user, `{"threads":["`+id+`"],"pagination":{"count":1,"has_more":false}}`)
	ask(user+"/"+id+"/messages?limit=1", `"count":1,"has_more":true`)
	raw := w.text(w.admin, user+"/"+id+"/messages/"+m[strings.LastIndexByte(m, '/')+1:])
	if len(raw) < 28+len(canary) || strings.Contains(raw, canary) {
		t.Errorf("%q", raw)
	}
	if same := w.text(w.admin, "/admin/keys/"+layout.Message(id, m[strings.LastIndexByte(m, '/')+1:])); same != raw {
		t.Error("the row has two values")
	}
	for _, path := range []string{"/admin/users/" + w.mateID() + "/threads", "/admin/users/x%2Fy/threads", user + "/" + nobodys + "/messages", user + "/" + id + "/messages/x",
		"/admin/users/x/threads/" + id + "/messages", "/admin/users/x/threads/" + id + "/messages/" + m[strings.LastIndexByte(m, '/')+1:]} {
		w.do(scenario{key: w.admin, call: "GET " + path, status: 404})
	}
	for _, query := range []string{"/admin/threads?limit=0", "/admin/threads?cursor=x", "/admin/users?cursor=x", user + "?cursor=x", user + "?limit=1001", user + "/" + id + "/messages?cursor=x", "/admin/keys?limit=1001"} {
		w.do(scenario{key: w.admin, call: "GET " + query, status: 400})
	}
}

// mateID is the ID of the mate.
func (w *world) mateID() string {
	w.t.Helper()
	return decode[api.Profile](w.t, w.do(scenario{key: w.mate, call: "GET /v1/auth/me", status: 200})).ID
}

// walk collects a list page by page.
func (w *world) walk(path, member string) (all []string) {
	w.t.Helper()
	for cursor := ""; ; {
		a := w.do(scenario{key: w.admin, call: "GET " + path + "&cursor=" + url.QueryEscape(cursor), status: 200})
		o := object(w.t, a)
		for _, v := range o[member].([]any) {
			text, ok := v.(string)
			if !ok {
				text = v.(map[string]any)["id"].(string)
			}
			all = append(all, text)
		}
		next := o
		if p, ok := o["pagination"].(map[string]any); ok {
			next = p
		}
		if cursor, _ = next["next_cursor"].(string); cursor == "" {
			return all
		}
	}
}

func TestAnOperatorsListsAreTheSameByAnyPage(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	key := w.backend()
	for i := range 7 {
		as := []string{"X-User-ID", fmt.Sprintf("u:%dü", i%3)}
		id := decode[api.Thread](t, w.do(scenario{key: key, call: "POST /v1/threads", header: as, body: `{}`, status: 200})).ID
		if i%3 == 0 {
			other := []string{"X-User-ID", "u:1ü"}
			w.do(scenario{key: key, call: "PUT /v1/threads/" + id + "/participants/" + url.PathEscape(other[1]), header: as, body: `{"part":"read","end_user":true}`, status: 200})
		}
	}
	for path, member := range map[string]string{"/admin/threads": "threads", "/admin/users": "users", "/admin/users/" + url.PathEscape("u:1ü") + "/threads": "threads", "/admin/keys?prefix=thread": "keys", "/admin/keys": "keys"} {
		sep := map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")]
		want := w.walk(path+sep+"limit=1000", member)
		for _, limit := range []int{1, 2, 3} {
			if got := w.walk(fmt.Sprint(path, sep, "limit=", limit), member); !slices.Equal(got, want) || len(want) == 0 {
				t.Errorf("%s by %d:\n%q\n%q", path, limit, got, want)
			}
		}
	}
	if n := len(w.walk("/admin/users/"+url.PathEscape("u:1ü")+"/threads?limit=2", "threads")); n != 2 {
		t.Errorf("u:1 has %d threads, and a part in others", n)
	}
}

// row asks for a row. Its name may hold slashes, and what comes is anything.
func (c *cast) row(name string) answer {
	r := httptest.NewRequestWithContext(c.t.Context(), "GET", "/admin/keys/"+url.PathEscape(name), nil)
	r.Header.Set("Authorization", "Bearer "+c.callers["operator"].bearer)
	w := httptest.NewRecorder()
	c.Node().Handler.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// Whoever has an admin key and nothing else must not get what lets him be somebody.
func TestAnOperatorIsShownNoRowOfAnAccountOrCredential(t *testing.T) {
	c := newCast(t)
	for _, name := range []string{"{share}", "{link}", "{invitation}", "{code}", "{refresh}", "{message}", "{sealed}", "{apikey}", "{signing}", "{account}", "{policy}"} {
		c.home.fill(name)
	}
	operator := c.callers["operator"]
	shown := map[string]bool{}
	for cursor := ""; ; {
		p := decode[api.StoreKeys](t, c.call(operator, "GET /admin/keys?limit=100&cursor="+url.QueryEscape(cursor), ""))
		for _, name := range p.Keys {
			shown[name] = true
			if a := c.row(name); a.status != 200 || strings.Contains(a.body, canary) {
				t.Errorf("%s: %d %.100s", name, a.status, a.body)
			}
		}
		if cursor = p.Pagination.NextCursor; cursor == "" {
			break
		}
	}
	secret := []string{"user", "useremail", "orguser", "password", "totp", "invitation", "invitationtext", "apikey", "apikeyof", "agent", "agentkey", "share", "shareby", "shareend", "tokenkeys", "refresh", "refreshof", "challenge", "tokenend", "trail", "trailopen"}
	seen := map[string]bool{}
	for name := range (&world{Server: c.Server, t: t}).rows() {
		kind, _, _ := strings.Cut(name, ":")
		seen[kind] = true
		if hidden := slices.Contains(secret, kind); hidden == shown[name] && (hidden || slices.Contains([]string{"thread", "vault", "orgthread", "sealed"}, kind)) {
			t.Errorf("%s is shown: %v", name, shown[name])
		}
		if slices.Contains(secret, kind) {
			if a := c.row(name); a.status != 404 {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
	}
	for _, kind := range []string{"user", "invitationtext", "apikey", "agentkey", "share", "refresh", "challenge", "thread", "sealed"} {
		if !seen[kind] {
			t.Errorf("there is no row of %s to look for", kind)
		}
	}
	for _, prefix := range []string{"user", "apikey:", "trail", "share:", "u", "a"} {
		if p := decode[api.StoreKeys](t, c.call(operator, "GET /admin/keys?prefix="+prefix, "")); len(p.Keys) > 0 {
			t.Errorf("%s: %q", prefix, p.Keys)
		}
	}
}

// A server that does not encrypt has text in its rows.
func TestAnOperatorIsShownNoRowThatLiesInClear(t *testing.T) {
	w := &world{Server: keyfoldtest.Start(t, keyfoldtest.WithoutEncryption()), t: t, heard: newListener(t), mate: "-none-", stranger: "-none-"}
	w.admin = w.NewAdminKey()
	thread := w.thread()
	m := w.said(thread)
	w.do(scenario{call: "PUT " + m, body: `{"role":"r"}`, status: 200, reads: true})
	w.do(scenario{call: "POST " + m + "/reactions", body: `{"reaction":"` + canary + `"}`, status: 200, reads: true})
	other := w.said(thread)
	w.do(scenario{call: "DELETE " + other, status: 204})
	id := strings.TrimPrefix(thread, "/v1/threads/")
	clear := 0
	for _, name := range w.walk("/admin/keys?prefix=thread:"+id, "keys") {
		if strings.Contains(name, ":msg:") || strings.Contains(name, ":del:") || strings.Contains(name, ":past:") || strings.Contains(name, ":react:") {
			w.do(scenario{key: w.admin, call: "GET /admin/keys/" + name, status: 409, want: []string{"not encrypted"}})
			clear++
		}
	}
	if clear != 5 {
		t.Errorf("%d rows in clear", clear)
	}
	w.do(scenario{key: w.admin, call: "GET /admin/users/" + w.Owner.ID + "/threads/" + id + "/messages/" + m[strings.LastIndexByte(m, '/')+1:], status: 409})
}

func TestAnOperatorRotatesDEKs(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	thread, other := w.thread(), w.thread()
	m := w.said(thread)
	w.do(scenario{call: "PUT " + m, body: `{"role":"r"}`, status: 200, reads: true})
	id := strings.TrimPrefix(thread, "/v1/threads/")
	keyOf := func(thread string) api.ThreadDEK {
		t.Helper()
		for _, th := range decode[api.Threads](t, w.do(scenario{key: w.admin, call: "GET /admin/threads", status: 200})).Threads {
			if "/v1/threads/"+th.ID == thread {
				return *th.KMS
			}
		}
		t.Fatal("the thread is not listed")
		return api.ThreadDEK{}
	}
	before, else_ := keyOf(thread), keyOf(other)
	out := decode[api.ThreadDEKRotated](t, w.do(scenario{key: w.admin, call: "POST /admin/encryption/rotate-thread-dek", body: `{"thread_id":"` + id + `"}`, status: 200, want: []string{`"status":"ok"`}}))
	if now := keyOf(thread); now.KeyID != out.NewKey || now.KeyID == before.KeyID || keyOf(other) != else_ {
		t.Errorf("%+v, %+v, %+v", before, out, now)
	}
	if j := w.ended(api.Job{ID: out.JobID}); j.Status != "completed" || j.Failed != 0 || j.Processed != 2 {
		t.Errorf("%+v", j)
	}
	w.do(scenario{call: "GET " + m, status: 200, want: []string{canary}, reads: true})
	w.do(scenario{call: "GET " + m + "/versions", status: 200, want: []string{canary}, reads: true})
	all := decode[api.ThreadDEKRotated](t, w.do(scenario{key: w.admin, call: "POST /admin/encryption/rotate-thread-dek", body: `{"all":true,"rate":100000}`, status: 200}))
	if j := w.ended(api.Job{ID: all.JobID}); j.Status != "completed" || j.Processed != 2 || keyOf(other) == else_ {
		t.Errorf("%+v", j)
	}
	w.do(scenario{call: "GET " + m, status: 200, want: []string{canary}, reads: true})

	a := w.do(scenario{key: w.admin, call: "POST /admin/encryption/rotate-kek", body: `{"vault_id":"` + strings.TrimPrefix(w.vault(false), "/v1/vaults/") + `"}`, status: 202})
	w.ended(decode[api.Jobs](t, a).Jobs[0])
	key := keyOf(thread).KeyID
	a = w.do(scenario{key: w.admin, call: "POST /admin/encryption/rewrap-deks", body: `{"thread_ids":["` + id + `","` + nobodys + `"],"parallelism":4}`, status: 200,
		want: []string{`"` + key + `":{"status":"ok","kek_id":"threads","kek_version":1}`, `"` + nobodys + `":{"error":"`}})
	if len(decode[api.DEKRewraps](t, a)) != 2 {
		t.Error(a.body)
	}
	w.do(scenario{key: w.admin, call: "POST /admin/encryption/rewrap-deks", body: `{"all":true}`, status: 200, want: []string{key, keyOf(other).KeyID}})
	w.unchanged(func() {
		for call, bodies := range map[string][]string{
			"rotate-thread-dek": {`{}`, `{"all":true,"thread_id":"` + id + `"}`, `{"thread_id":"` + id + `","rate":1}`, `{"all":true,"rate":-1}`},
			"rewrap-deks":       {`{}`, `{"all":false}`, `{"all":true,"thread_ids":["` + id + `"]}`, `{"all":true,"new_kek_hex":"` + strings.Repeat("ab", 32) + `"}`},
		} {
			for _, body := range bodies {
				w.do(scenario{key: w.admin, call: "POST /admin/encryption/" + call, body: body, status: 400})
			}
		}
		for _, who := range []string{nobodys, "x", "../" + id} {
			w.do(scenario{key: w.admin, call: "POST /admin/encryption/rotate-thread-dek", body: `{"thread_id":"` + who + `"}`, status: 404})
		}
	})
	trail := w.text(w.admin, "/admin/audit/export")
	for _, want := range []string{"thread.rotate_dek", "kek.rewrap", id} {
		if !strings.Contains(trail, want) {
			t.Errorf("the operator's trail lacks %s", want)
		}
	}
}

func TestAnOperatorsKeyIsTakenInBothHeaders(t *testing.T) {
	w := newWorld(t, keyfoldtest.AsDev())
	w.admin = w.newAdmin()
	for _, call := range []string{"GET /admin/health", "GET /admin/stats", "GET /admin/threads", "GET /admin/users", "GET /admin/keys", "POST /admin/encryption/generate-kek"} {
		w.do(scenario{key: w.admin, call: call, status: http.StatusOK})
		w.do(scenario{key: "-", header: []string{"X-API-Key", w.admin}, call: call, status: http.StatusOK})
		w.do(scenario{key: "-", call: call, status: http.StatusUnauthorized})
		w.do(scenario{call: call, status: http.StatusForbidden})
		w.do(scenario{key: w.backend(), call: call, status: http.StatusForbidden})
	}
	hex := decode[api.GeneratedKEK](t, w.do(scenario{key: w.admin, call: "POST /admin/encryption/generate-kek", status: 200})).KEKHex
	if again := decode[api.GeneratedKEK](t, w.do(scenario{key: w.admin, call: "POST /admin/encryption/generate-kek", status: 200})).KEKHex; len(hex) != 64 || again == hex {
		t.Errorf("%q, %q", hex, again)
	}
}
