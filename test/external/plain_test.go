package external

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// texts are those that a test looks for in files: random ones, that compression
// leaves as they are.
type texts struct {
	mu  sync.Mutex
	all []string
}

func (c *texts) fresh() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := rand.Text()
	c.all = append(c.all, text)
	return text
}

// in returns how many of the texts are in files of dir with a name like pattern.
func (c *texts) in(t testing.TB, dir, pattern string) int {
	t.Helper()
	var look scanner
	c.mu.Lock()
	for _, text := range c.all {
		look.add(text, []byte(text))
	}
	c.mu.Unlock()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if like, _ := filepath.Match(pattern, d.Name()); !like {
				return nil
			}
			var data []byte
			data, err = os.ReadFile(path)
			look.search(data)
		}
		if errors.Is(err, fs.ErrNotExist) { // removed since its directory was read
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return len(look.found)
}

// soil fills threads in every way that writes a text.
func (s *server) soil(c *texts, threads int) (paths []string) {
	s.t.Helper()
	var posts sync.WaitGroup
	for range threads {
		thread := s.thread()
		paths = append(paths, thread)
		for range 4 {
			posts.Go(func() {
				for i := range 30 {
					message := thread + "/" + s.id(s.must("POST", thread, `{"body":"`+c.fresh()+`","role":"`+c.fresh()+`"}`))
					switch i % 4 {
					case 1:
						s.must("PUT", message, `{"body":"`+c.fresh()+`"}`)
					case 2:
						s.must("POST", message+"/reactions", `{"reaction":"`+c.fresh()+`"}`)
					case 3:
						s.must("DELETE", message, "")
					}
				}
			})
		}
	}
	posts.Wait()
	return paths
}

// adminKey is the key of dev.json that may call /admin.
func (s *server) adminKey() string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "dev.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var said struct {
		Key string `json:"admin_key"`
	}
	if err := json.Unmarshal(text, &said); err != nil || said.Key == "" {
		s.t.Fatalf("no admin key in dev.json: %v", err)
	}
	return said.Key
}

// with is s with another key.
func (s *server) with(key string) *server {
	return &server{t: s.t, dir: s.dir, url: s.url, key: key}
}

// TestEncryptionIsTurnedOnAndNoFileKeepsATextOfBefore also kills the server while
// it encrypts what there is, again and again.
func TestEncryptionIsTurnedOnAndNoFileKeepsATextOfBefore(t *testing.T) {
	dir, before := shortDir(t), new(texts)
	s := dev(t, dir, nil, "--encryption", "off")
	if text := s.must("GET", "/v1/health", ""); !strings.Contains(text, `"encryption":"off"`) || !strings.Contains(text, `"degraded"`) {
		t.Errorf("health says %s", text)
	}
	threads := s.soil(before, 2)
	s.signal(syscall.SIGKILL)
	<-s.ended
	s = dev(t, dir, []string{"KEYFOLD_ENCRYPTION=off"})
	threads = append(threads, s.soil(before, 2)...)
	if said := s.output.String(); !strings.Contains(said, "ENCRYPTION IS OFF") || !strings.Contains(said, "encryption is off: messages") {
		t.Error("the server does not say that encryption is off")
	}
	want := s.everything(threads)
	s.stop()
	for pattern, few := range map[string]int{"*.log": 100, "*.sst": 100} {
		if n := before.in(t, dir, pattern); n < few {
			t.Fatalf("%d texts are in %s; the test needs more", n, pattern)
		}
	}

	after := new(texts)
	for kills := 0; ; kills++ {
		s = dev(t, dir, nil)
		text := s.must("GET", "/v1/health", "")
		if !strings.Contains(text, `"encryption":"incomplete"`) || !strings.Contains(text, `"degraded"`) {
			// The job that was left may have been quicker than we, or was killed when all but its row was done.
			if n := before.in(t, dir, "*"); kills == 0 || n > 0 {
				t.Errorf("after %d kills health says %s, and %d texts are in files", kills, text, n)
			}
		}
		use := s.uses(threads, after)
		if kills < 3 {
			go s.with(s.adminKey()).call("POST", "/admin/encryption/encrypt-existing", `{"all":true}`)
			use.more(int64(10 * kills))
			s.signal(syscall.SIGKILL)
			<-s.ended
			use.end()
			continue
		}
		text = s.with(s.adminKey()).must("POST", "/admin/encryption/encrypt-threads", "")
		s.await("the job ends", s.encrypted)
		use.end()
		use.wrong(t, text)
		break
	}
	for range 2 {
		if text := s.must("GET", "/v1/health", ""); strings.Contains(text, "encryption") {
			t.Errorf("once all is encrypted, health says %s", text)
		}
		if n, m := before.in(t, dir, "*"), after.in(t, dir, "*"); n+m > 0 {
			t.Errorf("%d texts of before and %d of after encryption was turned on are in files", n, m)
		}
		if got := s.everything(threads); got != want {
			t.Errorf("what was written is answered otherwise: %d bytes, want %d", len(got), len(want))
		}
		s.stop()
		if n, m := before.in(t, dir, "*"), after.in(t, dir, "*"); n+m > 0 {
			t.Errorf("after the end, %d and %d", n, m)
		}
		s = dev(t, dir, nil)
	}
}

// encrypted reports whether a job has encrypted all threads, and none runs.
func (s *server) encrypted() bool {
	s.t.Helper()
	var said struct {
		Jobs []struct{ Kind, Status string }
	}
	text := s.with(s.adminKey()).must("GET", "/admin/jobs", "")
	if err := json.Unmarshal([]byte(text), &said); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	done := false
	for _, j := range said.Jobs {
		if j.Status == "running" {
			return false
		}
		done = done || j.Kind == "encrypt-existing" && j.Status == "completed"
	}
	return done
}

// everything is what reads answer of the messages that soil wrote.
func (s *server) everything(threads []string) string {
	s.t.Helper()
	var all strings.Builder
	for _, thread := range threads {
		page := s.must("GET", thread+"?limit=120&include_deleted=true&after="+strings.Repeat("0", 19)+"1-000000", "")
		var said struct {
			Messages []struct {
				ID string `json:"id"`
			} `json:"messages"`
		}
		if err := json.Unmarshal([]byte(page), &said); err != nil || len(said.Messages) != 120 {
			s.t.Fatalf("%d messages, %v", len(said.Messages), err)
		}
		all.WriteString(page)
		for _, m := range said.Messages {
			_, versions := s.call("GET", thread+"/"+m.ID+"/versions", "")
			all.WriteString(versions)
		}
	}
	return all.String()
}

// usage reads and posts until it ends or the server does.
type usage struct {
	s       *server
	stop    atomic.Bool
	done    atomic.Int64
	people  sync.WaitGroup
	mu      sync.Mutex
	refused []string
}

func (s *server) uses(threads []string, c *texts) *usage {
	u := &usage{s: s}
	ask := func(method, path, body string) {
		for !u.stop.Load() && !s.gone() {
			text := body
			if body != "" {
				text = `{"body":"` + c.fresh() + `"}`
			}
			status, answer := s.call(method, path, text)
			if u.done.Add(1); status != 200 {
				u.mu.Lock()
				u.refused = append(u.refused, fmt.Sprintf("%s = %d %.200s", method, status, answer))
				u.mu.Unlock()
			}
		}
	}
	for _, thread := range threads {
		u.people.Go(func() { ask("GET", thread+"?limit=100&include_deleted=true", "") })
		u.people.Go(func() { ask("POST", thread, "body") })
	}
	return u
}

func (u *usage) more(n int64) {
	u.s.t.Helper()
	want := u.done.Load() + n
	u.s.await("calls are answered", func() bool { return u.done.Load() >= want })
}

func (u *usage) end() {
	u.stop.Store(true)
	u.people.Wait()
}

// wrong fails the test if somebody was refused.
func (u *usage) wrong(t testing.TB, answer string) {
	t.Helper()
	if len(u.refused) > 0 {
		t.Errorf("%d of %d calls were refused while %s: %s", len(u.refused), u.done.Load(), answer, u.refused[0])
	}
}
