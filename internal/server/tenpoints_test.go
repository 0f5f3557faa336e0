package server_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/server"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// The ten points of section 5 of the thread API: what was seen to fail in the
// product that it comes from. They run on the whole server, with the key process
// that KEYFOLD_TEST_KMS names.

// talk is a thread of the owner's with a message in every form, each with the text.
type talk struct {
	w           *world
	thread      string // path
	first, next string // paths of messages; the first has versions and a reaction, the next replies to it
	text        string
}

func (w *world) talk(text string) talk {
	w.t.Helper()
	k := talk{w: w, thread: w.thread(), text: text}
	post := func(body string) string {
		w.t.Helper()
		return k.thread + "/messages/" + decode[api.Message](w.t, w.do(scenario{call: "POST " + k.thread + "/messages", body: body, status: 200, reads: true})).ID
	}
	k.first = post(`{"body":"` + text + `"}`)
	k.next = post(`{"body":{"again":"` + text + `"},"reply_to":"` + filepath.Base(k.first) + `"}`)
	w.do(scenario{call: "PUT " + k.first, body: `{"body":"edited ` + text + `"}`, status: 200, reads: true})
	w.do(scenario{call: "POST " + k.first + "/reactions", body: `{"reaction":"` + text + `"}`, status: 200, reads: true})
	return k
}

// reads are all calls that show the text.
func (k talk) reads() []string {
	id := strings.TrimPrefix(k.thread, "/v1/threads/")
	return []string{"GET " + k.thread + "/messages", "GET " + k.thread + "/messages?limit=1", "GET " + k.thread + "/messages?include_deleted=true",
		"GET " + k.thread + "/messages?before=" + filepath.Base(k.next), "GET " + k.thread + "/messages?after=" + filepath.Base(k.first), "GET /v1/messages?thread=" + id,
		"GET " + k.first, "GET " + k.next, "GET " + k.first + "/versions", "GET " + k.first + "/versions?limit=1", "GET " + k.first + "/reactions"}
}

// readable fails unless every way shows the text.
func (k talk) readable(when string) {
	k.w.t.Helper()
	for _, call := range k.reads() {
		if a := k.w.quiet(k.w.APIKey, call, ""); a.status != 200 || !strings.Contains(a.body, k.text) {
			k.w.t.Errorf("%s: %s = %d %s", when, call, a.status, a.body)
		}
	}
}

// quiet makes a call that is held against no document: an ID in it may hold slashes.
func (w *world) quiet(key, call, body string, header ...string) answer {
	w.t.Helper()
	method, target, _ := strings.Cut(call, " ")
	r := httptest.NewRequestWithContext(w.t.Context(), method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.Node().Handler.ServeHTTP(rec, r)
	return answer{rec.Code, rec.Result().Header, rec.Body.String()}
}

func TestPoint1AThreadsKeyOpensThatThreadsMessagesAndNothingElse(t *testing.T) {
	w := newWorld(t)
	mine, other := w.talk(canary), w.talk(canary)
	id, otherID := strings.TrimPrefix(mine.thread, "/v1/threads/"), strings.TrimPrefix(other.thread, "/v1/threads/")
	row := w.row(layout.Message(id, filepath.Base(mine.next)))
	record := w.row(layout.ThreadMeta(id))
	key := func(thread string) string {
		_, rest, _ := strings.Cut(string(w.row(layout.ThreadMeta(thread)).Value), `"key_id":"`)
		name, _, _ := strings.Cut(rest, `"`)
		return name
	}
	closed := func(what string, calls ...string) {
		t.Helper()
		for _, call := range calls {
			if a := w.quiet(w.APIKey, call, ""); a.status < 400 || strings.Contains(a.body, canary) {
				t.Errorf("%s: %s = %d %s", what, call, a.status, a.body)
			}
		}
	}
	for _, wrong := range []string{key(otherID), nobodys} {
		w.put(record.Key, []byte(strings.ReplaceAll(string(record.Value), key(id), wrong)))
		closed("under the key "+wrong, mine.reads()...)
		w.put(record.Key, record.Value)
	}
	mine.readable("with its own key")
	w.put(layout.Message(otherID, filepath.Base(mine.next)), row.Value)
	closed("in another thread", "GET "+other.thread+"/messages/"+filepath.Base(mine.next), "GET "+other.thread+"/messages")
	w.put(layout.Message(id, filepath.Base(mine.first)), row.Value)
	closed("in another message's place", "GET "+mine.first)
}

// filesHold reports which files of dir hold text. One that Pebble removes meanwhile holds none.
func filesHold(t *testing.T, dir, text string) (in []string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if strings.Contains(string(data), text) {
			in = append(in, path)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files, %v", files, err)
	}
	return in
}

func TestPoint2NothingIsStoredOrServedInClear(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, keyfoldtest.OnDisk(dir))
	text := "canary-" + rand.Text() // which no file compresses
	k := w.talk(text)
	w.SetKMSDown(true)
	w.unchanged(func() {
		for _, call := range append(k.reads(), "POST /v1/threads {}", "POST "+k.thread+"/messages "+`{"body":"`+text+`"}`, "POST /v1/messages "+`{"body":"`+text+`"}`,
			"PUT "+k.first+` {"body":"`+text+`"}`, "DELETE "+k.first, "POST "+k.first+"/reactions "+`{"reaction":"`+text+`"}`, "DELETE "+k.first+"/reactions/"+w.Owner.ID) {
			parts := strings.SplitN(call, " ", 3)
			if a := w.quiet(w.APIKey, parts[0]+" "+parts[1], strings.Join(parts[2:], "")); a.status != 503 || strings.Contains(a.body, text) {
				t.Errorf("%s = %d %s", call, a.status, a.body)
			}
		}
	})
	w.SetKMSDown(false)
	k.readable("when the KMS is back")
	w.MustNotHold(t, text) // store and log
	for _, when := range []string{"while it runs", "after a restart"} {
		if in := filesHold(t, dir, text); len(in) > 0 {
			t.Errorf("%s: %q hold it", when, in)
		}
		w.Restart()
	}
	if strings.Contains(w.Log(), text) {
		t.Error("the log holds it")
	}
}

func TestPoint3EveryMessageIsReadableAfterARestart(t *testing.T) {
	w := newWorld(t, keyfoldtest.OnDisk(t.TempDir()))
	a, b := w.talk(canary), w.talk(canary)
	for range 2 {
		w.Restart()
		a.readable("after a restart")
		b.readable("after a restart")
	}
}

func TestPoint4RewrapAndRotationLeaveEverythingReadable(t *testing.T) {
	w := newWorld(t, keyfoldtest.OnDisk(t.TempDir()))
	w.admin = w.newAdmin()
	k := w.talk(canary)
	id := strings.TrimPrefix(k.thread, "/v1/threads/")
	for _, c := range []struct{ call, body string }{
		{"rotate-thread-dek", `{"thread_id":"` + id + `"}`},
		{"rotate-kek", `{"threads":true}`},
		{"rewrap-deks", `{"all":true}`},
		{"rotate-thread-dek", `{"all":true}`},
	} {
		a := w.quiet(w.admin, "POST /admin/encryption/"+c.call, c.body)
		if a.status >= 300 {
			t.Fatalf("%s = %d %s", c.call, a.status, a.body)
		}
		k.readable("during " + c.call)
		w.Restart() // wherever the job is
		k.readable("after a restart during " + c.call)
		w.settle()
		k.readable("after " + c.call)
	}
}

// settle waits for all jobs.
func (w *world) settle() { (&cast{Server: w.Server, t: w.t}).settle() }

// What was answered is there, after the server was stopped under load. Kills are in
// test/external.
func TestPoint5AStopUnderLoadLosesNothingThatWasAnswered(t *testing.T) {
	w := newWorld(t, keyfoldtest.OnDisk(t.TempDir()))
	thread := w.thread()
	var (
		mu    sync.Mutex
		want  = map[string]string{} // body by message
		load  sync.WaitGroup
		done  = make(chan struct{})
		begun = make(chan struct{}, 1000)
	)
	for n := range 4 {
		load.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				body := fmt.Sprintf(`"%d.%d"`, n, i)
				id, ok := w.attempt("POST", thread+"/messages", `{"body":`+body+`}`)
				if !ok {
					continue
				}
				mu.Lock()
				want[id] = body
				mu.Unlock()
				edited := body[:len(body)-1] + ` edited"`
				if _, ok := w.attempt("PUT", thread+"/messages/"+id, `{"body":`+edited+`}`); ok {
					mu.Lock()
					want[id] = edited
					mu.Unlock()
				} else {
					mu.Lock()
					delete(want, id) // either is right
					mu.Unlock()
				}
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 3 {
		for range 20 {
			<-begun
		}
		w.Restart()
	}
	close(done)
	load.Wait()
	if len(want) < 20 {
		t.Fatalf("only %d messages", len(want))
	}
	for id, body := range want {
		if a := w.quiet(w.APIKey, "GET "+thread+"/messages/"+id, ""); !strings.Contains(a.body, `"body":`+body) {
			t.Errorf("%s was answered, and is %d %s", body, a.status, a.body)
		}
	}
}

// attempt makes a call over the network that may meet a restart.
func (w *world) attempt(method, path, body string) (id string, ok bool) {
	r, err := http.NewRequest(method, w.URL+path, strings.NewReader(body))
	if err != nil {
		return "", false
	}
	r.Header.Set("Authorization", "Bearer "+w.APIKey)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", false
	}
	defer res.Body.Close()
	var m api.Message
	err = json.NewDecoder(res.Body).Decode(&m)
	return m.ID, err == nil && res.StatusCode == 200
}

func TestPoint6NobodyGetsThroughAnothersThread(t *testing.T) {
	w := newWorld(t)
	k := w.talk(canary)
	w.thread()
	page := decode[api.Threads](t, w.do(scenario{call: "GET /v1/threads?limit=1", status: 200}))
	own := decode[api.Thread](t, w.do(scenario{key: w.mate, call: "POST /v1/threads", body: `{}`, status: 200})).ID
	in := strings.NewReplacer("{thread}", strings.TrimPrefix(k.thread, "/v1/threads/"), "{message}", filepath.Base(k.first), "{identity}", w.Owner.ID, "{participant}", w.Owner.ID,
		"{k}", strings.TrimPrefix(k.thread, "/v1/threads/"), "{m}", filepath.Base(k.first), "{key}", strings.TrimPrefix(k.thread, "/v1/threads/"))
	calls := 0
	w.unchanged(func() {
		for _, row := range server.Rows() {
			call := row.Method + " " + in.Replace(row.Pattern)
			if !strings.Contains(call, k.thread) || strings.HasSuffix(call, "/hold") {
				continue // who holds what is the org's owners' to say, too
			}
			calls++
			for key, status := range map[string]int{w.mate: 403, w.stranger: 404} {
				if a := w.quiet(key, call, goodBody(row)); a.status != status || strings.Contains(a.body, canary) {
					t.Errorf("%s = %d %s, want %d", call, a.status, a.body, status)
				}
			}
		}
		for _, key := range []string{w.mate, w.stranger} {
			for _, call := range []string{"GET /v1/threads", "GET /v1/threads?cursor=" + page.NextCursor, "GET /v1/threads?slug=t-" + strings.TrimPrefix(k.thread, "/v1/threads/"), "GET /v1/threads?title=T"} {
				if a := w.quiet(key, call, ""); a.status != 200 || strings.Contains(a.body, strings.TrimPrefix(k.thread, "/v1/threads/")) {
					t.Errorf("%s = %d %s", call, a.status, a.body)
				}
			}
		}
		// A message of another's thread, named in one's own.
		for call, status := range map[string]int{
			"GET /v1/threads/" + own + "/messages/" + filepath.Base(k.first):                404,
			"PUT /v1/threads/" + own + "/messages/" + filepath.Base(k.first):                404,
			"DELETE /v1/threads/" + own + "/messages/" + filepath.Base(k.first):             404,
			"GET /v1/threads/" + own + "/messages/" + filepath.Base(k.first) + "/versions":  404,
			"GET /v1/threads/" + own + "/messages?before=" + filepath.Base(k.next):          200,
			"GET /v1/threads/" + own + "/messages?after=" + filepath.Base(k.first):          200,
			"GET /v1/threads/" + own + "/messages/" + filepath.Base(k.first) + "/reactions": 404,
			"GET /v1/threads/" + own + "%2F.." + "/messages":                                404,
			"GET /v1/threads/" + own + ":msg:" + "/messages":                                404,
		} {
			if a := w.quiet(w.mate, call, `{"body":1}`); a.status != status || strings.Contains(a.body, canary) || strings.Contains(a.body, `"ts"`) {
				t.Errorf("%s = %d %s, want %d", call, a.status, a.body, status)
			}
		}
	})
	if calls < 15 {
		t.Errorf("only %d calls on a thread", calls)
	}
}

func TestPoint7ARefusedWriteIsAnswered4xx(t *testing.T) {
	w := newWorld(t)
	k := w.talk("text")
	backend := w.backend()
	as := []string{"X-User-ID", "ada"}
	theirs := strings.Trim(strings.SplitN(w.quiet(backend, "POST /v1/threads", `{}`, as...).body, `"`, 5)[3], `"`)
	w.unchanged(func() {
		for call, bodies := range map[string][]string{
			"POST " + k.thread + "/messages":               {``, `{}`, `{"body":null}`, `{"body":1,"reply_to":"x"}`, `{"body":1,"ts":-5}`, `[]`},
			"POST /v1/messages":                            {``, `{}`, `{"body":null}`, `{"thread":"x","body":1}`},
			"PUT " + k.first:                               {``, `{}`, `{"body":null}`, `{"reply_to":"` + nobodys + `"}`},
			"PUT " + k.first + "x":                         {`{"body":1}`},
			"POST " + k.first + "/reactions":               {``, `{}`, `{"reaction":""}`, `{"reaction":"` + strings.Repeat("x", 65) + `"}`},
			"DELETE " + k.first + "/reactions/x":           {``},
			"DELETE " + k.thread + "x":                     {``},
			"PUT " + k.thread:                              {``, `{"title":"` + strings.Repeat("x", 501) + `"}`, `{"title":1}`},
			"POST /v1/threads":                             {`{"title":"` + strings.Repeat("x", 501) + `"}`, `{"title":"\u0000"}`, `[]`},
			"PUT " + k.thread + "/participants/" + nobodys: {`{"part":"read"}`, `{}`},
		} {
			for _, body := range bodies {
				if a := w.quiet(w.APIKey, call, body); a.status < 400 || a.status > 499 {
					t.Errorf("%s %s = %d %s", call, body, a.status, a.body)
				}
			}
		}
		const c = "/frontend/v1/threads"
		for call, bodies := range map[string][]string{
			"POST " + c:                               {``, `[]`, `{"title":"` + strings.Repeat("x", 501) + `"}`},
			"POST " + c + "/" + theirs + "/messages":  {``, `{}`, `{"body":null}`},
			"PUT " + c + "/" + theirs:                 {``, `{"title":1}`},
			"DELETE " + c + "/" + nobodys:             {``},
			"PUT " + c + "/" + theirs + "/messages/x": {`{"body":1}`},
		} {
			for _, body := range bodies {
				if a := w.quiet(backend, call, body, as...); a.status < 400 || a.status > 499 {
					t.Errorf("%s %s = %d %s", call, body, a.status, a.body)
				}
			}
		}
	})
}

// What a page costs does not grow with its thread: what is read is allocated.
func TestPoint8APageCostsTheSameInALargeThread(t *testing.T) {
	w := newWorld(t)
	cost := func(messages int) float64 {
		thread := w.thread()
		for range messages {
			w.quiet(w.APIKey, "POST "+thread+"/messages", `{"body":"text"}`)
		}
		least := math.Inf(1) // what others do beside it only adds
		for range 3 {
			least = min(least, testing.AllocsPerRun(20, func() {
				if a := w.quiet(w.APIKey, "GET "+thread+"/messages?limit=20", ""); strings.Count(a.body, `"text"`) != 20 {
					t.Errorf("%d %s", a.status, a.body)
				}
			}))
		}
		return least
	}
	if small, large := cost(50), cost(1500); large > 1.3*small {
		t.Errorf("a page of 50 messages' thread takes %.0f allocations, of 1,500 messages' %.0f", small, large)
	}
}

func TestPoint9AClientThatLeavesHarmsNobodyAndAnyUserIDWorks(t *testing.T) {
	w := newWorld(t)
	k := w.talk("text")
	for range 30 {
		w.quiet(w.APIKey, "POST "+k.thread+"/messages", `{"body":"text `+strings.Repeat("x", 100_000)+`"}`)
	}
	u, err := url.Parse(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", k.thread, w.APIKey)
		if _, err := conn.Read(make([]byte, 1+i*50)); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
		w.do(scenario{call: "GET " + k.next, status: 200, want: []string{"text"}})
	}
	key := w.backend()
	ids := []string{"a:b", "a/b", "../x", "ключ🔑", "a b", "100%", "%2F", ".", strings.Repeat("x", 36), strings.Repeat("ü", 18), `"\`}
	for _, id := range ids {
		as := []string{"X-User-ID", id}
		a := w.quiet(key, "POST /v1/messages", `{"body":"`+canary+`"}`, as...)
		m := decode[api.Message](t, a)
		thread := "/v1/threads/" + m.Thread
		if m.Author != id {
			t.Fatalf("%q: %d %s", id, a.status, a.body)
		}
		reader, path := "reader of "+fmt.Sprint(len(id)), url.PathEscape(id)
		for call, status := range map[string]int{"GET " + thread + "/messages": 200, "GET /v1/threads?author=" + url.QueryEscape(id): 200, "POST " + thread + "/messages/" + m.ID + "/reactions": 200} {
			if a := w.quiet(key, call, `{"reaction":"+"}`, map[bool][]string{true: nil, false: as}[strings.Contains(call, "author")]...); a.status != status || !strings.Contains(a.body, m.Thread) {
				t.Errorf("%q: %s = %d %s", id, call, a.status, a.body)
			}
		}
		if id == "." || id == "../x" {
			continue // which no path may hold, in any spelling
		}
		for _, c := range []struct {
			call   string
			status int
			as     string
		}{
			{"DELETE " + thread + "/messages/" + m.ID + "/reactions/" + path, 204, id},
			{"PUT " + thread + "/participants/" + url.PathEscape(reader), 200, id},
			{"GET " + thread + "/messages", 200, reader},
			{"PUT /v1/threads/" + strings.TrimPrefix(k.thread, "/v1/threads/") + "/participants/" + path, 200, ""},
			{"DELETE " + thread, 403, reader},
			{"DELETE " + thread, 204, id},
		} {
			who, header := key, []string{"X-User-ID", c.as}
			if c.as == "" {
				who, header = w.APIKey, nil
			}
			if a := w.quiet(who, c.call, `{"part":"read","end_user":true}`, header...); a.status != c.status {
				t.Errorf("%q: %s = %d %s, want %d", id, c.call, a.status, a.body, c.status)
			}
		}
		if a := w.quiet(key, "GET "+k.thread+"/messages?limit=1", "", as...); a.status != 200 {
			t.Errorf("%q has a part: %d %s", id, a.status, a.body)
		}
	}
}

func TestPoint10APurgeDestroysTheKey(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	k, kept := w.talk(canary), w.talk(canary)
	id := strings.TrimPrefix(k.thread, "/v1/threads/")
	var dek string
	for _, th := range decode[api.Threads](t, w.quiet(w.admin, "GET /admin/threads", "")).Threads {
		if th.ID == id {
			dek = th.KMS.KeyID
		}
	}
	if _, err := w.KeyStore().Get(t.Context(), layout.DEK(dek)); err != nil {
		t.Fatal(err)
	}
	row := w.row(layout.Message(id, filepath.Base(k.first)))
	w.do(scenario{call: "PUT /v1/retention", body: `{"deleted_days":1}`, status: 200})
	w.do(scenario{call: "DELETE " + k.thread, status: 204})
	w.Advance(48 * time.Hour)
	w.do(scenario{key: w.admin, call: "POST /admin/jobs/purge", status: 200})
	w.settle()
	if _, err := w.KeyStore().Get(t.Context(), layout.DEK(dek)); err == nil {
		t.Error("the DEK is there")
	}
	for name := range w.rows() {
		if strings.Contains(name, id) && !strings.HasPrefix(name, "job:") {
			t.Errorf("%s is left", name)
		}
	}
	w.put(row.Key, row.Value) // as from a backup
	for _, call := range k.reads() {
		if a := w.quiet(w.APIKey, call, ""); a.status < 400 || strings.Contains(a.body, canary) {
			t.Errorf("%s = %d %s", call, a.status, a.body)
		}
	}
	kept.readable("after another's purge")
}
