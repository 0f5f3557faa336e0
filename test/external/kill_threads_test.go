package external

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// talker posts, edits, deletes and reacts to messages of its own in one thread, one
// call after the other, and remembers what it asked for and what was acknowledged.
type talker struct {
	s      *server // whose URL and key stay what they are
	thread string  // path of its messages
	name   string
	rand   *rand.Rand
	said   []*said // in the order in which the posts were acknowledged
	calls  *atomic.Int64
}

// said is a message as its author knows it.
type said struct {
	id        string
	texts     []asked // the post, and all edits
	reactions []asked
	deleted   bool // acknowledged
}

// asked is a text that was sent. Version is that of the answer; 0: nobody knows
// whether it took effect.
type asked struct {
	text    string
	version int
}

// answer is what of an answer the test looks at.
type answer struct {
	ID        string            `json:"id"`
	Body      string            `json:"body"`
	Version   int               `json:"version"`
	Deleted   bool              `json:"deleted"`
	Reactions map[string]string `json:"reactions"`
}

// talk does things until it is told to stop, and then finishes what it is at.
func (w *talker) talk(stop *atomic.Bool) {
	for !stop.Load() {
		var one *said
		if len(w.said) > 0 {
			one = w.said[len(w.said)-1-w.rand.IntN(min(len(w.said), 20))]
		}
		switch n := w.rand.IntN(10); {
		case one == nil || one.deleted || n < 4:
			w.post()
		case n < 7:
			w.edit(one, n == 6)
		case n < 9:
			w.react(one)
		default:
			w.remove(one)
		}
		w.calls.Add(1)
	}
}

// until makes a call again and again, until it is answered with one of these.
func (w *talker) until(method, path, body, key string, statuses ...int) (status int, said answer) {
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
		status, text := w.s.callOnce(method, path, body, key)
		for _, s := range statuses {
			if s == status {
				json.Unmarshal([]byte(text), &said)
				return status, said
			}
		}
		if status != 0 && status != 503 {
			w.s.t.Errorf("%s %s = %d %s", method, path, status, text)
			return status, said
		}
	}
	w.s.t.Errorf("%s %s was not answered in %v", method, path, patience)
	return 0, said
}

func (w *talker) fresh() string { return fmt.Sprintf("%s %s %x", canary, w.name, w.rand.Uint64()) }

func (w *talker) post() {
	text := w.fresh()
	_, got := w.until("POST", w.thread, `{"body":"`+text+`"}`, text, 200)
	w.said = append(w.said, &said{id: got.ID, texts: []asked{{text, 1}}})
}

// edit sends a text once, or with an idempotency key until it is acknowledged.
func (w *talker) edit(m *said, once bool) {
	a := asked{text: w.fresh()}
	path, body := w.thread+"/"+m.id, `{"body":"`+a.text+`"}`
	if once {
		_, got := w.until("PUT", path, body, a.text, 200)
		a.version = got.Version
	} else if status, text := w.s.call("PUT", path, body); status == 200 {
		var got answer
		json.Unmarshal([]byte(text), &got)
		a.version = got.Version
	}
	m.texts = append(m.texts, a)
}

func (w *talker) react(m *said) {
	a := asked{text: w.fresh()[len(canary)+1:]}
	if status, _ := w.s.call("POST", w.thread+"/"+m.id+"/reactions", `{"reaction":"`+a.text+`"}`); status == 200 {
		a.version = 1
	}
	m.reactions = append(m.reactions, a)
}

// remove deletes m. A retry finds nothing where the first call took effect.
func (w *talker) remove(m *said) {
	w.until("DELETE", w.thread+"/"+m.id, "", "", 200, 204, 404)
	m.deleted = true
}

// messages reads a thread in full, with what was deleted.
func (s *server) messages(thread string) (all []answer) {
	s.t.Helper()
	for last := strings.Repeat("0", 19) + "1-000000"; ; {
		var page struct{ Messages []answer }
		if err := json.Unmarshal([]byte(s.must("GET", thread+"?include_deleted=true&limit=1000&after="+last, "")), &page); err != nil {
			s.t.Fatal(err)
		}
		if len(page.Messages) == 0 {
			return all
		}
		all, last = append(all, page.Messages...), page.Messages[len(page.Messages)-1].ID
	}
}

// check reads back all that was said in a thread: every message once, those of each
// author in the order of posting, every acknowledged version in its place, and what
// was deleted without its text.
func check(s *server, thread string, talkers []*talker) {
	s.t.Helper()
	list := s.messages(thread)
	known := 0
	for _, w := range talkers {
		known += len(w.said)
		at := 0
		for _, m := range w.said {
			for at < len(list) && list[at].ID != m.id {
				at++
			}
			if at == len(list) {
				s.t.Errorf("the acknowledged message %s of %s is not there, or not behind the one before", m.id, w.name)
				return
			}
			m.check(s, thread, list[at])
		}
	}
	if len(list) != known {
		s.t.Errorf("%d messages were acknowledged, and %d are there", known, len(list))
	}
}

// check compares a message, as a list has it, with what its author knows.
func (m *said) check(s *server, thread string, got answer) {
	s.t.Helper()
	versions := m.versions(s, thread)
	last := versions[len(versions)-1]
	if m.deleted {
		if status, _ := s.call("GET", thread+"/"+m.id, ""); status != 404 || !got.Deleted || got.Body != "" || !last.Deleted {
			s.t.Errorf("the deleted message %s is answered with %d, and listed as %+v", m.id, status, got)
		}
		versions = versions[:len(versions)-1]
	} else if got.Deleted || got.Body != last.Body {
		s.t.Errorf("message %s is listed as %+v, its newest version is %+v", m.id, got, last)
	}
	m.checkTexts(s.t, versions)
	m.checkReactions(s.t, got)
}

func (m *said) versions(s *server, thread string) (all []answer) {
	s.t.Helper()
	var page struct{ Versions []answer }
	if err := json.Unmarshal([]byte(s.must("GET", thread+"/"+m.id+"/versions", "")), &page); err != nil || len(page.Versions) == 0 {
		s.t.Fatalf("%d versions of %s, %v", len(page.Versions), m.id, err)
	}
	return page.Versions
}

// checkTexts fails unless the versions are what was acknowledged, at its number, and
// of the rest each at most once, in the order of asking.
func (m *said) checkTexts(t testing.TB, versions []answer) {
	t.Helper()
	n := 0
	for _, a := range m.texts {
		if n < len(versions) && versions[n].Body == a.text {
			if n++; a.version == 0 || max(a.version, 1) == n {
				continue
			}
			t.Errorf("of message %s version %d was acknowledged as %d", m.id, n, a.version)
		} else if a.version != 0 {
			t.Errorf("of message %s the acknowledged version %d is not there", m.id, a.version)
		}
	}
	if n != len(versions) {
		t.Errorf("message %s has %d versions, of which %d were asked for, in order", m.id, len(versions), n)
	}
}

// checkReactions fails unless the reaction is the last one that was acknowledged, or
// one that was asked for later.
func (m *said) checkReactions(t testing.TB, got answer) {
	t.Helper()
	may := map[string]bool{"": true}
	for _, a := range m.reactions {
		if a.version != 0 {
			clear(may)
		}
		may[a.text] = true
	}
	now := ""
	for _, sign := range got.Reactions { // all are the owner's
		now = sign
	}
	if !may[now] {
		t.Errorf("the reaction to %s is %q, and %d others are newer", m.id, now, len(may))
	}
}

// sum says how much was done.
func sum(all map[string][]*talker) string {
	var posts, edits, reactions, deleted, unknown int
	for _, talkers := range all {
		for _, w := range talkers {
			for _, m := range w.said {
				posts, edits, reactions = posts+1, edits+len(m.texts)-1, reactions+len(m.reactions)
				if m.deleted {
					deleted++
				}
				for _, a := range slices.Concat(m.texts, m.reactions) {
					if a.version == 0 {
						unknown++
					}
				}
			}
		}
	}
	return fmt.Sprintf("%d posts, %d edits, %d reactions and %d deletions, and of %d edits and reactions no answer came", posts, edits, reactions, deleted, unknown)
}

// site is a server and a key process, both of which the test kills.
type site struct {
	*server
	t       *testing.T
	addr    string
	stopKMS func(syscall.Signal)
}

func newSite(t *testing.T) *site {
	dir := shortDir(t)
	must(t, kmsCommand(t, dir, "init"))
	x := &site{t: t, addr: freePort(t), stopKMS: serveKMS(t, dir)}
	x.server = x.serve(dir)
	return x
}

func (x *site) serve(dir string) *server {
	x.t.Helper()
	return dev(x.t, dir, []string{"KEYFOLD_LOG=warn"}, "--addr", x.addr, "--kms", "unix://"+filepath.Join(dir, "kms.sock"))
}

// kill kills the server, the key process or both, and starts them again.
func (x *site) kill(what string) {
	x.t.Helper()
	if what != "the server" {
		x.stopKMS(syscall.SIGKILL)
	}
	if what != "the key process" {
		x.signal(syscall.SIGKILL)
		<-x.ended
	}
	if what != "the server" {
		x.stopKMS = serveKMS(x.t, x.dir)
	}
	if what != "the key process" {
		x.server = x.serve(x.dir)
	}
	x.await("/readyz", x.ready)
}

// rotation is the job that rotates the DEKs of all threads, slowly, so that kills
// come in between. There is always one.
type rotation struct{ id string }

// running reports whether the job runs. One that has ended must have done all, and
// another is begun.
func (r *rotation) running(s *server) bool {
	s.t.Helper()
	admin := s.with(s.adminKey())
	if r.id == "" {
		var job struct {
			ID string `json:"job_id"`
		}
		text := admin.must("POST", "/admin/encryption/rotate-thread-dek", `{"all":true,"rate":300}`)
		if err := json.Unmarshal([]byte(text), &job); err != nil || job.ID == "" {
			s.t.Fatalf("no job: %s", text)
		}
		r.id = job.ID
	}
	var job struct {
		Status string
		Failed int
	}
	text := admin.must("GET", "/admin/jobs/"+r.id, "")
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		s.t.Fatal(err)
	}
	switch {
	case job.Status == "running":
		return true
	case job.Status != "completed" || job.Failed > 0:
		s.t.Errorf("a rotation of all DEKs ended as %s", text)
	}
	r.id = ""
	return false
}

// TestNothingAcknowledgedIsLostWhenProcessesAreKilledUnderLoad kills a server and its
// key process at any moment, 50 times with KEYFOLD_LONG=1, while DEKs are rotated.
func TestNothingAcknowledgedIsLostWhenProcessesAreKilledUnderLoad(t *testing.T) {
	kills, each := 4, 2 // kills, and those that the same threads see
	if os.Getenv("KEYFOLD_LONG") != "" {
		kills, each = 50, 5
	}
	x := newSite(t)
	var calls atomic.Int64
	var jobs rotation
	all := map[string][]*talker{}
	threads := []string{}
	hit, done := map[string]int{}, 0
	for n := range kills {
		if n%each == 0 {
			threads = threads[:0]
			for i := range 3 {
				threads = append(threads, x.thread())
				for j := range 3 {
					all[threads[i]] = append(all[threads[i]], &talker{s: x.server, thread: threads[i], name: fmt.Sprint(n, "-", i, "-", j), rand: rand.New(rand.NewPCG(uint64(n), uint64(3*i+j))), calls: &calls})
				}
			}
		}
		var stop atomic.Bool
		var talking sync.WaitGroup
		for _, thread := range threads {
			for _, w := range all[thread] {
				talking.Go(func() { w.talk(&stop) })
			}
		}
		at := calls.Load() + 100 + rand.Int64N(300)
		x.await("calls are answered", func() bool { return calls.Load() >= at })
		what := []string{"the server", "the key process", "both"}[n%3]
		if jobs.running(x.server) {
			hit["during a rotation"]++
		}
		time.Sleep(time.Duration(rand.IntN(5000)) * time.Microsecond)
		x.kill(what)
		hit[what]++
		stop.Store(true)
		talking.Wait()
		for _, thread := range threads {
			check(x.server, thread, all[thread])
		}
		if done++; t.Failed() {
			break
		}
	}
	for thread, talkers := range all {
		check(x.server, thread, talkers)
	}
	for until := time.Now().Add(3 * patience); jobs.id != "" && jobs.running(x.server); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the rotation does not end")
		}
	}
	for thread, talkers := range all {
		check(x.server, thread, talkers)
	}
	t.Logf("%d kills (%v), %d calls: %s", done, hit, calls.Load(), sum(all))
	x.stop()
	x.stopKMS(syscall.SIGTERM)
	x.mustNotHold(canary)
}
