package many

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
)

// sealRotation is the rotation of a customer's key over a vault of sealed versions.
type sealRotation struct {
	*site
	caller   *caller
	vault    string // ID
	old, new *cmek.Key
	n        int
	job      api.CMEKRotationJob
	asked    int // how often it was asked for

	// While it runs somebody writes, with the old key and the new one in turns.
	writing sync.WaitGroup
	written []bool // of the path w<i>: it was acknowledged
	under   int    // of those, how many under the old key
	fresh   int    // how many under the new one
	unknown int    // how many under the old key nobody answered
}

// dekRotation is the rotation of a thread's DEK over its messages.
type dekRotation struct {
	*site
	caller *caller
	thread string // ID
	n      int
	job    string // ID
}

// rotations is one of each, which are begun together.
type rotations struct {
	*site
	seal *sealRotation
	dek  *dekRotation
}

func (s *site) rotations(c *caller, n int) *rotations { return s.rotationsOf(c, n, n) }

// rotationsOf makes what they go over.
func (s *site) rotationsOf(c *caller, versions, messages int) *rotations {
	s.t.Helper()
	seal := &sealRotation{site: s, caller: c, vault: c.made(s.t, "/v1/vaults", `{"name":"rotated"}`), old: cmek.Generate(), new: cmek.Generate(), n: versions}
	if a := c.call(s.t.Context(), "POST", "/v1/vaults/"+seal.vault+"/cmek", fmt.Sprintf(`{"fingerprint":%q}`, seal.old.Fingerprint())); !a.ok() {
		s.t.Fatalf("sealing a vault = %d %s", a.status, a.text)
	}
	dek := &dekRotation{site: s, caller: c, thread: c.made(s.t, "/v1/threads", `{}`), n: messages}
	s.each(versions, func(i int) {
		blob, err := cmek.EncryptValue(seal.old, []byte(seal.value(i)))
		if err != nil {
			s.t.Error(err)
		}
		if a := c.call(s.t.Context(), "PUT", fmt.Sprintf("/v1/vaults/%s/secrets/r%d", seal.vault, i), `{"value":"`+blob+`"}`); !a.ok() {
			s.t.Errorf("a put = %d %s", a.status, a.text)
		}
	})
	s.each(messages, func(i int) {
		if a := c.call(s.t.Context(), "POST", dek.path(), fmt.Sprintf(`{"body":"message %d"}`, i)); !a.ok() {
			s.t.Errorf("a post = %d %s", a.status, a.text)
		}
	})
	return &rotations{s, seal, dek}
}

func (r *rotations) start(url string) { r.seal.start(url); r.dek.start(url) }
func (r *rotations) finish()          { r.seal.finish(); r.dek.finish() }
func (r *rotations) check()           { r.seal.check(); r.dek.check() }

// underWay fails the test when one of the two is at its end: what has just happened
// to a server was then too late to say anything. It tells how much of each is done.
func (r *rotations) underWay() (versions, messages int) {
	r.t.Helper()
	seal, dek := r.seal.look(), r.dek.look()
	if seal.Status != "running" || seal.Processed >= r.seal.n {
		r.t.Errorf("the rotation of a customer's key is no longer under way: %+v", seal)
	}
	if dek.Status != "running" || dek.Processed >= r.dek.n {
		r.t.Errorf("the rotation of a DEK is no longer under way: %+v", dek)
	}
	return seal.Processed, dek.Processed
}

// await waits until ok.
func (s *site) await(what string, ok func() bool) {
	s.t.Helper()
	for until := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			s.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// each calls do for 0 to n-1, sixteen at a time.
func (s *site) each(n int, do func(i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func (r *sealRotation) value(i int) string { return fmt.Sprint("value ", i, " of ", r.vault) }

func (r *sealRotation) client(url string) *client.Client {
	r.t.Helper()
	c, err := client.New(url, r.caller.token, client.WithCMEKKey(r.old, r.new))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// start asks one server for the rotation.
func (r *sealRotation) start(url string) {
	c := r.client(url)
	defer c.Close()
	job, err := c.StartCMEKRotation(context.Background(), r.vault, r.old, r.new, client.RotateOptions{})
	if err != nil {
		r.t.Error(err)
		return
	}
	r.job = job
	if r.asked++; r.asked == 1 {
		path := r.path()
		r.writing.Go(func() { r.write(path) })
	}
}

// write writes versions until the vault refuses the old key, which it must not before
// the rotation is completed.
func (r *sealRotation) write(rotation string) {
	ctx := r.t.Context()
	for i := 0; ; i++ {
		key := r.new
		if i%2 == 0 {
			key = r.old
		}
		blob, err := cmek.EncryptValue(key, []byte(r.value(i)))
		if err != nil {
			r.t.Error(err)
			return
		}
		a := r.caller.call(ctx, "PUT", fmt.Sprintf("/v1/vaults/%s/secrets/w%d", r.vault, i), `{"value":"`+blob+`"}`, api.HeaderCMEKFingerprint, key.Fingerprint())
		r.written = append(r.written, a.ok())
		switch {
		case ctx.Err() != nil:
			return
		case a.ok() && key == r.old:
			r.under++
		case a.ok():
			r.fresh++
		case a.lost() && key == r.old:
			r.unknown++
		case a.lost() || strings.Contains(a.text, api.ProblemCMEKRotationClosing):
		case key == r.old && strings.Contains(a.text, api.ProblemCMEKKeyMismatch):
			if job := r.caller.call(ctx, "GET", rotation, ""); !strings.Contains(job.text, `"completed"`) {
				r.t.Errorf("the old key is refused while the rotation is %s", job.text)
			}
			return
		default:
			r.t.Errorf("a write while a customer's key is rotated = %d %s", a.status, a.text)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *sealRotation) path() string { return "/v1/vaults/" + r.vault + "/cmek-rotate/" + r.job.ID }

// look reads the job at any server.
func (r *sealRotation) look() api.CMEKRotationJob {
	r.t.Helper()
	a := r.caller.call(r.t.Context(), "GET", r.path(), "")
	if err := json.Unmarshal([]byte(a.text), &r.job); !a.ok() || err != nil {
		r.t.Fatalf("the rotation = %d %s", a.status, a.text)
	}
	return r.job
}

// finish sees the rotation to its end. The two keys are in a key process's memory
// alone: one that was killed makes the rotation wait for them to be sent again.
func (r *sealRotation) finish() {
	r.t.Helper()
	r.await("the rotation of a customer's key", func() bool {
		switch r.look().Status {
		case "completed":
			return true
		case "interrupted":
			r.start(r.servers[1].url)
		case "running":
		default:
			r.t.Fatalf("the rotation ended: %+v", r.job)
		}
		time.Sleep(100 * time.Millisecond)
		return false
	})
}

// check reads every version at some server: it opens with the new key alone and says
// what was written.
func (r *sealRotation) check() {
	r.t.Helper()
	if r.writing.Wait(); r.under == 0 || r.fresh == 0 {
		r.t.Errorf("while a customer's key was rotated %d versions were written under the old one and %d under the new one", r.under, r.fresh)
	}
	if n := r.look().Processed; n < r.n+r.under || n > r.n+r.under+r.unknown {
		r.t.Errorf("of %d versions, and %d that were written under the old key meanwhile, %d were rotated", r.n, r.under, r.job.Processed)
	}
	var clients []*client.Client
	for _, url := range r.urls() {
		c, err := client.New(url, r.caller.token, client.WithCMEKKey(r.new))
		if err != nil {
			r.t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
	}
	r.each(r.n, func(i int) {
		got, err := clients[i%len(clients)].Get(context.Background(), r.vault, fmt.Sprint("r", i))
		if err != nil || string(got.Value) != r.value(i) || got.Version != 1 {
			r.t.Errorf("r%d: %+v, %v", i, got, err)
		}
	})
	for i, acknowledged := range r.written {
		got, err := clients[i%len(clients)].Get(context.Background(), r.vault, fmt.Sprint("w", i))
		if acknowledged && (err != nil || string(got.Value) != r.value(i)) {
			r.t.Errorf("w%d: %+v, %v", i, got, err)
		}
	}
	r.t.Logf("a customer's key rotated over %d versions, asked for %d times; %d written meanwhile, %d of them under the old key", r.n, r.asked, len(r.written), r.under)
}

func (r *dekRotation) path() string { return "/v1/threads/" + r.thread + "/messages" }

// operator is a caller with the operator's key.
func (r *dekRotation) operator(urls ...string) *caller { return newCaller(urls, r.admin, new(waits)) }

// start asks one server for the rotation.
func (r *dekRotation) start(url string) {
	a := r.operator(url).call(context.Background(), "POST", "/admin/encryption/rotate-thread-dek", fmt.Sprintf(`{"thread_id":%q}`, r.thread))
	var started api.ThreadDEKRotated
	if err := json.Unmarshal([]byte(a.text), &started); !a.ok() || err != nil {
		r.t.Errorf("rotating a DEK = %d %s", a.status, a.text)
	}
	r.job = started.JobID
}

// look reads the job at any server.
func (r *dekRotation) look() (job api.Job) {
	r.t.Helper()
	a := r.operator(r.urls()...).call(r.t.Context(), "GET", "/admin/jobs/"+r.job, "")
	if err := json.Unmarshal([]byte(a.text), &job); !a.ok() || err != nil {
		r.t.Fatalf("the DEK's rotation = %d %s", a.status, a.text)
	}
	return job
}

// finish waits until every message is under the new DEK.
func (r *dekRotation) finish() {
	r.t.Helper()
	r.await("the rotation of a DEK", func() bool {
		job := r.look()
		if job.Status != "running" && job.Status != "completed" {
			r.t.Fatalf("the DEK's rotation ended: %+v", job)
		}
		return job.Status == "completed"
	})
}

// check reads every message.
func (r *dekRotation) check() {
	r.t.Helper()
	l := load{caller: r.caller}
	seen := map[string]int{}
	for _, m := range l.texts(r.t, r.path()) {
		seen[m]++
	}
	for i := range r.n {
		if n := seen[fmt.Sprint("message ", i)]; n != 1 {
			r.t.Errorf("message %d is there %d times", i, n)
		}
	}
	r.t.Logf("a thread's DEK rotated over %d messages", r.n)
}

// texts reads a thread of strings in full.
func (l *load) texts(t testing.TB, path string) (all []string) {
	t.Helper()
	for last := strings.Repeat("0", 19) + "1-000000"; ; {
		a := l.call(t.Context(), "GET", path+"?limit=1000&after="+last, "")
		var page struct{ Messages []struct{ ID, Body string } }
		if err := json.Unmarshal([]byte(a.text), &page); !a.ok() || err != nil {
			t.Fatalf("GET %s = %d %.300s", path, a.status, a.text)
		}
		if len(page.Messages) == 0 {
			return all
		}
		for _, m := range page.Messages {
			all, last = append(all, m.Body), m.ID
		}
	}
}
