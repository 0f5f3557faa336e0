package generationc_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/keyfoldtest"
)

// origin is that of the page in which the frontend client runs.
const origin = "https://app.example.com"

// world is a server, and the keys of one org's product.
type world struct {
	*keyfoldtest.Server
	t                        testing.TB
	frontend, backend, admin string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	s := keyfoldtest.Start(t, keyfoldtest.WithCORS(origin))
	w := &world{Server: s, t: t, admin: s.NewAdminKey()}
	w.frontend, w.backend = w.key(s.APIKey, "frontend"), w.key(s.APIKey, "backend")
	return w
}

// key makes a key of the owner's org, by the native API.
func (w *world) key(owner, role string) string {
	w.t.Helper()
	r := request{method: "POST", path: "/v1/auth/api-keys", body: fmt.Sprintf(`{"name":"k","role":%q}`, role), header: []string{"X-API-Key", owner}}
	var made struct {
		APIKey string `json:"api_key"`
	}
	w.decode(w.send(r, 201), &made)
	return made.APIKey
}

// request is what goes over the wire.
type request struct {
	method, path, body string
	header             []string
}

type answer struct {
	status int
	header http.Header
	body   string
}

// send sends r and holds the answer to what all of generation C's have in common.
// want 0: any status.
func (w *world) send(r request, want int) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), r.method, w.URL+r.path, strings.NewReader(r.body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(r.header); i += 2 {
		req.Header.Set(r.header[i], r.header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := answer{res.StatusCode, res.Header, string(text)}
	if want != 0 && a.status != want {
		w.t.Fatalf("%s %s %.200s = %d %.300s, want %d", r.method, r.path, r.body, a.status, a.body, want)
	}
	if !strings.HasPrefix(r.path, "/v1/") && r.method != "HEAD" && a.status != 204 {
		w.checkForm(r, a)
	}
	return a
}

func (w *world) checkForm(r request, a answer) {
	w.t.Helper()
	var of struct{ Error, Title, Detail, Type string }
	if a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		w.t.Errorf("%s %s = %d %v %.300s", r.method, r.path, a.status, a.header, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &of); err != nil {
		w.t.Errorf("%s %s: %v: %.300s", r.method, r.path, err, a.body)
	}
	if problem := of.Error != "" && of.Error == of.Detail && of.Type != "" && of.Title != ""; problem != (a.status >= 400) {
		w.t.Errorf("%s %s = %d %.300s", r.method, r.path, a.status, a.body)
	}
}

func (w *world) decode(a answer, v any) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		w.t.Fatalf("%.300s: %v", a.body, err)
	}
}

// client does what a published client does.
type client struct {
	w      *world
	header []string
	author string // in the query of each call, as a backend may
	said   string // error text of the last call
}

// browser is a client with a frontend key, for a user whom the backend signed.
func (w *world) browser(user string) *client {
	w.t.Helper()
	var signed struct{ UserID, Signature string }
	w.decode(w.send(request{method: "POST", path: "/backend/v1/sign", body: `{"userId":` + quote(user) + `}`, header: []string{"Authorization", "Bearer " + w.backend}}, 200), &signed)
	if signed.UserID != user {
		w.t.Fatalf("%q was signed as %q", user, signed.UserID)
	}
	return &client{w: w, header: []string{"X-API-Key", w.frontend, "X-User-ID", user, "X-User-Signature", signed.Signature}}
}

// service is a client with the backend key, for a user named in a header.
func (w *world) service(user string) *client {
	return &client{w: w, header: []string{"Authorization", "Bearer " + w.backend, "X-User-ID", user}}
}

// call makes a call and returns its answer, nil when that has no body. body nil:
// none is sent.
func (c *client) call(want int, method, path string, body any) map[string]any {
	c.w.t.Helper()
	r := request{method: method, path: c.named(path), header: append([]string{"Content-Type", "application/json"}, c.header...)}
	if body != nil {
		r.body = string(encode(body))
	}
	a := c.w.send(r, want)
	if a.status == 204 || !strings.Contains(a.header.Get("Content-Type"), "application/json") {
		return nil
	}
	var out map[string]any
	d := json.NewDecoder(strings.NewReader(a.body))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		c.w.t.Fatal(err)
	}
	c.said, _ = out["error"].(string)
	return out
}

// named is path with the author, if the client names one there.
func (c *client) named(path string) string {
	switch {
	case c.author == "":
		return path
	case strings.Contains(path, "?"):
		return path + "&author=" + url.QueryEscape(c.author)
	}
	return path + "?author=" + url.QueryEscape(c.author)
}

const threadsPath = "/frontend/v1/threads"

func (c *client) createThread(title string) string {
	c.w.t.Helper()
	return text(c.call(202, "POST", threadsPath, map[string]any{"title": title}), "key")
}

func threadPath(key string) string { return threadsPath + "/" + component(key) }

func messagesPath(thread string) string { return threadPath(thread) + "/messages" }

func messagePath(thread, key string) string { return messagesPath(thread) + "/" + component(key) }

func (c *client) post(thread string, body any) string {
	c.w.t.Helper()
	return text(c.call(202, "POST", messagesPath(thread), map[string]any{"body": body}), "key")
}

// page is an answer of a list: keys, and pagination.
type page struct {
	keys          []string
	first, last   string
	before, after bool
	count, total  int
}

// cursor is what a list is asked.
type cursor struct {
	limit                         int
	before, after, anchor, sortBy string
}

func (q cursor) query() string {
	v := url.Values{}
	for name, value := range map[string]string{"before": q.before, "after": q.after, "anchor": q.anchor, "sort_by": q.sortBy} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.limit > 0 {
		v.Set("limit", fmt.Sprint(q.limit))
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

func (c *client) list(path string, q cursor) page {
	c.w.t.Helper()
	a := c.w.send(request{method: "GET", path: c.named(path + q.query()), header: c.header}, 200)
	var got struct {
		Threads, Messages []struct{ Key string }
		Pagination        *struct {
			BeforeAnchor *string `json:"before_anchor"`
			AfterAnchor  *string `json:"after_anchor"`
			HasBefore    *bool   `json:"has_before"`
			HasAfter     *bool   `json:"has_after"`
			Count, Total *int
		}
	}
	c.w.decode(a, &got)
	p := got.Pagination
	if p == nil || p.BeforeAnchor == nil || p.AfterAnchor == nil || p.HasBefore == nil || p.HasAfter == nil || p.Count == nil || p.Total == nil {
		c.w.t.Fatalf("%s: pagination lacks a member: %.300s", path, a.body)
	}
	out := page{first: *p.BeforeAnchor, last: *p.AfterAnchor, before: *p.HasBefore, after: *p.HasAfter, count: *p.Count, total: *p.Total}
	for _, one := range append(got.Threads, got.Messages...) {
		out.keys = append(out.keys, one.Key)
	}
	return out
}

func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}

func quote(s string) string { return string(encode(s)) }

func text(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

func number(t testing.TB, m map[string]any, name string) int64 {
	t.Helper()
	n, ok := m[name].(json.Number)
	v, err := n.Int64()
	if !ok || err != nil {
		t.Fatalf("%s is no number in %v", name, m)
	}
	return v
}

// component is encodeURIComponent.
func component(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-_.!~*'()", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
