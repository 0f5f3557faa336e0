package many

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// ledger is what was acknowledged, to be counted against what is there.
type ledger struct {
	mu      sync.Mutex
	posts   []post
	puts    []put
	reads   int
	refused []string // answers that no fault excuses
}

// post is a message that was sent; its body says the same, so that one in another's
// place is seen.
type post struct {
	span
	Thread int    `json:"thread"`
	Worker int    `json:"worker"`
	N      int    `json:"n"`
	id     string // "": the call was not answered
}

func (p post) name() string { return fmt.Sprintf("%d/%d/%d", p.Thread, p.Worker, p.N) }

// put is a version of a secret that was written, whose value names its path.
type put struct {
	span
	path, value string
	version     int // 0: the call was not answered
}

func (l *ledger) refuse(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused = append(l.refused, fmt.Sprintf(format, args...)); len(l.refused) > 20 {
		l.refused = l.refused[:20]
	}
}

// load is what callers do to a site until its context ends.
type load struct {
	*caller
	ledger  *ledger
	threads []string // paths of their messages
	vault   string   // path of a vault
	secrets int      // paths in it that are written
}

// run works with so many workers of each kind until ctx ends; the call that each
// has begun is ended.
func (l *load) run(ctx context.Context, workers int) {
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.post(w, n)
			}
		})
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				path := fmt.Sprint("s", (w+n)%l.secrets)
				if n%2 == 0 {
					l.put(path, fmt.Sprintf("%s by %d, its %d", path, w, n))
				} else {
					l.get(path)
				}
			}
		})
	}
	wg.Wait()
}

func (l *load) post(worker, n int) {
	p := post{Thread: (worker + n) % len(l.threads), Worker: worker, N: n}
	body, _ := json.Marshal(struct {
		Body post `json:"body"`
	}{p})
	a := l.call(context.Background(), "POST", l.threads[p.Thread], string(body))
	p.span = a.span
	var made struct{ ID string }
	switch {
	case a.ok():
		if err := json.Unmarshal([]byte(a.text), &made); err != nil || made.ID == "" {
			l.ledger.refuse("a post was answered with %d %s", a.status, a.text)
			return
		}
		p.id = made.ID
	case !a.lost():
		l.ledger.refuse("a post was answered with %d %s", a.status, a.text)
		return
	}
	l.ledger.mu.Lock()
	defer l.ledger.mu.Unlock()
	l.ledger.posts = append(l.ledger.posts, p)
}

// version is what a put or a get of a secret answers with.
type version struct {
	Path, Value string
	Version     int
}

func (l *load) put(path, value string) {
	a := l.call(context.Background(), "PUT", l.vault+"/secrets/"+path, `{"value":"`+value+`"}`)
	p := put{span: a.span, path: path, value: value}
	var made version
	switch {
	case a.ok():
		if err := json.Unmarshal([]byte(a.text), &made); err != nil || made.Version == 0 || made.Path != path {
			l.ledger.refuse("a put of %s was answered with %d %s", path, a.status, a.text)
			return
		}
		p.version = made.Version
	case !a.lost():
		l.ledger.refuse("a put was answered with %d %s", a.status, a.text)
		return
	}
	l.ledger.mu.Lock()
	defer l.ledger.mu.Unlock()
	l.ledger.puts = append(l.ledger.puts, p)
}

// get reads a secret: whatever it says was written to that path.
func (l *load) get(path string) {
	a := l.call(context.Background(), "GET", l.vault+"/secrets/"+path, "")
	var got version
	switch {
	case a.status == 404 || a.status == 0:
	case !a.ok() || json.Unmarshal([]byte(a.text), &got) != nil || got.Path != path || !strings.HasPrefix(got.Value, path+" by "):
		l.ledger.refuse("a get of %s was answered with %d %s", path, a.status, a.text)
	default:
		l.ledger.mu.Lock()
		defer l.ledger.mu.Unlock()
		l.ledger.reads++
	}
}

// count is what a ledger came to.
type count struct {
	posts, puts, sealed, reads int
	lost, doubled, mislabelled int
}

func (c count) String() string {
	return fmt.Sprintf("acknowledged: %d messages, %d versions of secrets and %d sealed ones; %d reads; lost %d, doubled %d, mislabelled %d",
		c.posts, c.puts, c.sealed, c.reads, c.lost, c.doubled, c.mislabelled)
}

// settle counts the ledger against what any server now tells, and fails the test for
// everything that is not as it was acknowledged.
func (l *load) settle(t *testing.T) (c count) {
	t.Helper()
	for _, text := range l.ledger.refused {
		t.Error(text)
	}
	c.reads = l.ledger.reads
	l.settlePosts(t, &c)
	l.settlePuts(t, &c)
	if c.lost+c.doubled+c.mislabelled > 0 {
		t.Errorf("of %d messages and %d versions %d are lost, %d doubled and %d mislabelled", c.posts, c.puts, c.lost, c.doubled, c.mislabelled)
	}
	return c
}

func (l *load) settlePosts(t *testing.T, c *count) {
	t.Helper()
	stored := map[string][]string{} // IDs, by name
	for i, path := range l.threads {
		last := ""
		for _, m := range l.messages(t, path) {
			if m.Body.Thread != i {
				t.Errorf("thread %d has a message %s", i, m.Body.name())
				c.mislabelled++
			}
			if m.ID <= last {
				t.Errorf("thread %d: %s comes after %s", i, m.ID, last)
				c.doubled++
			}
			last = m.ID
			stored[m.Body.name()] = append(stored[m.Body.name()], m.ID)
		}
	}
	for _, p := range l.ledger.posts {
		ids := stored[p.name()]
		switch {
		case len(ids) > 1:
			t.Errorf("message %s is there as %v", p.name(), ids)
			c.doubled++
		case p.id != "" && len(ids) == 0:
			t.Errorf("message %s, acknowledged as %s, is lost", p.name(), p.id)
			c.lost++
		case p.id != "" && ids[0] != p.id:
			t.Errorf("message %s, acknowledged as %s, is there as %s", p.name(), p.id, ids[0])
			c.mislabelled++
		}
		if p.id != "" {
			c.posts++
		}
	}
	l.inOrder(t)
}

// inOrder fails the test for messages that are in another order than they were posted
// in: who began to post when another message had been acknowledged comes after it.
func (l *load) inOrder(t *testing.T) {
	t.Helper()
	for i := range l.threads {
		var all []post
		for _, p := range l.ledger.posts {
			if p.Thread == i && p.id != "" {
				all = append(all, p)
			}
		}
		slices.SortFunc(all, func(a, b post) int { return cmp.Compare(a.id, b.id) })
		var latest post // of those before, the one that began last
		for _, p := range all {
			if p.ended.Before(latest.began) {
				t.Errorf("message %s was acknowledged %v before %s was begun, and comes after it", p.name(), latest.began.Sub(p.ended), latest.name())
			}
			if p.began.After(latest.began) {
				latest = p
			}
		}
	}
}

type stored struct {
	ID   string
	Body post
}

// messages reads a thread in full.
func (l *load) messages(t *testing.T, path string) (all []stored) {
	t.Helper()
	for last := strings.Repeat("0", 19) + "1-000000"; ; {
		a := l.call(t.Context(), "GET", path+"?limit=1000&after="+last, "")
		var page struct{ Messages []stored }
		if err := json.Unmarshal([]byte(a.text), &page); !a.ok() || err != nil {
			t.Fatalf("GET %s = %d %.300s", path, a.status, a.text)
		}
		if len(page.Messages) == 0 {
			return all
		}
		all = append(all, page.Messages...)
		last = all[len(all)-1].ID
	}
}

func (l *load) settlePuts(t *testing.T, c *count) {
	t.Helper()
	at := map[string]map[int]string{} // what was acknowledged: path, version, value
	written := map[string]int{}       // by value, how many versions have it
	for _, p := range l.ledger.puts {
		if at[p.path] == nil {
			at[p.path] = map[int]string{}
		}
		if other, there := at[p.path][p.version]; p.version > 0 && there {
			t.Errorf("version %d of %s was given to %q and to %q", p.version, p.path, other, p.value)
			c.doubled++
		}
		at[p.path][p.version] = p.value
	}
	for path, versions := range at {
		newest := l.newest(t, path)
		for n := 1; n <= newest; n++ {
			a := l.call(t.Context(), "GET", fmt.Sprintf("%s/secret-version/%s/%d", l.vault, path, n), "")
			var got version
			if err := json.Unmarshal([]byte(a.text), &got); !a.ok() || err != nil {
				t.Errorf("version %d of %s = %d %.300s", n, path, a.status, a.text)
				c.lost++
				continue
			}
			if written[got.Value]++; written[got.Value] > 1 {
				t.Errorf("%q is in two versions, %d of %s one of them", got.Value, n, path)
				c.doubled++
			}
			if want, there := versions[n]; there && got.Value != want || got.Version != n || got.Path != path || !strings.HasPrefix(got.Value, path+" by ") {
				t.Errorf("version %d of %s is %+v, acknowledged was %q", n, path, got, want)
				c.mislabelled++
			}
		}
		for n := range versions {
			if n > newest {
				t.Errorf("version %d of %s was acknowledged, %d is the newest", n, path, newest)
				c.lost++
			}
			if n > 0 {
				c.puts++
			}
		}
	}
}

func (l *load) newest(t *testing.T, path string) int {
	t.Helper()
	a := l.call(t.Context(), "GET", l.vault+"/secrets/"+path, "")
	var got version
	if err := json.Unmarshal([]byte(a.text), &got); !a.ok() || err != nil {
		t.Fatalf("GET %s = %d %.300s", path, a.status, a.text)
	}
	return got.Version
}
