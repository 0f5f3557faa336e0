package generationc_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// listed is a list as its pages are held against it: all keys that ever were, in
// the order of the pages, threads newest first, messages oldest first.
type listed struct {
	path     string
	messages bool
	all      []string
	gone     map[string]bool
}

func (l *listed) live(keys []string) (out []string) {
	for _, key := range keys {
		if !l.gone[key] {
			out = append(out, key)
		}
	}
	return out
}

// page is what the table of paging says of q.
func (l *listed) page(q cursor) page {
	all := l.live(l.all)
	p := page{total: len(all)}
	if q.limit == 0 {
		q.limit = 50
	}
	switch key := q.before + q.after + q.anchor; {
	case key == "" && l.messages:
		p.keys = last(all, q.limit)
		p.before = len(p.keys) < len(all)
	case key == "":
		p.keys = first(all, q.limit)
		p.after = len(p.keys) < len(all)
	default:
		p = l.around(q, slices.Index(l.all, key))
		p.total = len(all)
	}
	if p.count = len(p.keys); p.count > 0 {
		p.first, p.last = p.keys[0], p.keys[p.count-1]
	}
	return p
}

func (l *listed) around(q cursor, at int) (p page) {
	up, self, down := l.live(l.all[:at]), l.live(l.all[at:at+1]), l.live(l.all[at+1:])
	switch {
	case q.before != "":
		p.keys = last(up, q.limit)
		p.before, p.after = len(p.keys) < len(up), len(self)+len(down) > 0
	case q.after != "":
		p.keys = first(down, q.limit)
		p.before, p.after = len(up)+len(self) > 0, len(p.keys) < len(down)
	default:
		n, m := (q.limit-1)/2, q.limit/2
		if l.messages {
			n, m = q.limit, q.limit
		}
		p.keys = slices.Concat(last(up, n), self, first(down, m))
		p.before, p.after = n < len(up), m < len(down)
	}
	return p
}

func first(keys []string, n int) []string { return keys[:min(n, len(keys))] }
func last(keys []string, n int) []string  { return keys[max(0, len(keys)-n):] }

func (l *listed) check(t fataler, c *client, q cursor) page {
	t.Helper()
	got, want := c.list(l.path, q), l.page(q)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(page{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%+v of %s: the table is -, the answer is +:\n%s", q, l.path, diff)
	}
	return got
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// walk goes from page to page as clients do until there is no more, and returns
// all keys in the order of the list.
func (l *listed) walk(t *testing.T, c *client, q cursor, backwards bool) (keys []string) {
	t.Helper()
	for range len(l.all) + 1 {
		p := l.check(t, c, q)
		if backwards {
			keys = append(slices.Clone(p.keys), keys...)
			q = cursor{limit: q.limit, before: p.first}
		} else {
			keys = append(keys, p.keys...)
			q = cursor{limit: q.limit, after: p.last}
		}
		if backwards && !p.before || !backwards && !p.after {
			return keys
		}
	}
	t.Fatalf("%s has no end", l.path)
	return nil
}

// twoLists are n threads, and a thread with n messages.
func twoLists(c *client, n int) []*listed {
	threads := &listed{path: threadsPath, gone: map[string]bool{}}
	for i := range n {
		threads.all = append([]string{c.createThread(fmt.Sprint("thread ", i))}, threads.all...)
	}
	in := c.w.browser("another").createThread("in")
	messages := &listed{path: messagesPath(in), messages: true, gone: map[string]bool{}}
	for i := range n {
		messages.all = append(messages.all, c.w.browser("another").post(in, i))
	}
	return []*listed{threads, messages}
}

// reader is who may read the list.
func (l *listed) reader(c *client) *client {
	if l.messages {
		return c.w.browser("another")
	}
	return c
}

func TestWalksThroughPagesMeetEveryKeyOnceInOrder(t *testing.T) {
	w := newWorld(t)
	const n = 7
	for _, l := range twoLists(w.browser("u"), n) {
		c := l.reader(w.browser("u"))
		for _, limit := range []int{1, 2, 3, 6, 7, 8, 50, 1000, 0} {
			older := l.walk(t, c, cursor{limit: limit}, l.messages)
			if diff := cmp.Diff(l.all, older); diff != "" {
				t.Errorf("older, by %d: %s", limit, diff)
			}
			oldest := map[bool]string{true: l.all[0], false: l.all[n-1]}[l.messages]
			newer := l.walk(t, c, cursor{limit: limit, after: map[bool]string{true: oldest}[l.messages], before: map[bool]string{false: oldest}[l.messages]}, !l.messages)
			if len(newer) != n-1 {
				t.Errorf("newer, by %d: %d of %d", limit, len(newer), n-1)
			}
			for _, key := range l.all {
				p := l.check(t, c, cursor{limit: limit, anchor: key})
				if !slices.Contains(p.keys, key) {
					t.Errorf("%s is not in the page around it: %v", key, p.keys)
				}
				l.check(t, c, cursor{limit: limit, before: key})
				l.check(t, c, cursor{limit: limit, after: key})
			}
		}
	}
}

func TestAPageThatNamesNoLimitHasFifty(t *testing.T) {
	w := newWorld(t)
	for _, l := range twoLists(w.browser("u"), 52) {
		if p := l.check(t, l.reader(w.browser("u")), cursor{}); p.count != 50 || p.total != 52 {
			t.Errorf("%+v", p)
		}
	}
}

// A client that walks does not hear that the key it holds has gone.
func TestAWalkGoesOnFromAKeyThatWasDeletedMeanwhile(t *testing.T) {
	w := newWorld(t)
	for _, l := range twoLists(w.browser("u"), 7) {
		c := l.reader(w.browser("u"))
		for _, i := range []int{3, 0, 6, 4, 1, 5, 2} { // until nothing is left
			c.call(202, "DELETE", l.path+"/"+component(l.all[i]), nil)
			l.gone[l.all[i]] = true
			for _, key := range l.all {
				for _, limit := range []int{1, 2, 5} {
					l.check(t, c, cursor{limit: limit})
					l.check(t, c, cursor{limit: limit, before: key})
					l.check(t, c, cursor{limit: limit, after: key})
					l.check(t, c, cursor{limit: limit, anchor: key})
				}
			}
		}
	}
}

func TestThreadsAreSortedByWhatIsAsked(t *testing.T) {
	w := newWorld(t)
	c := w.browser("u")
	a, b, d := c.createThread("a"), c.createThread("b"), c.createThread("d")
	c.call(202, "PUT", threadPath(a), map[string]any{"title": "last"})
	for sortBy, want := range map[string][]string{"": {d, b, a}, "created_ts": {d, b, a}, "updated_ts": {a, d, b}} {
		whole := &listed{path: threadsPath, all: want}
		for _, q := range []cursor{{}, {limit: 1}, {limit: 2}, {limit: 1, after: want[0]}, {limit: 1, before: want[2]}, {limit: 3, anchor: want[1]}} {
			q.sortBy = sortBy
			whole.check(t, c, q)
		}
	}
	key := c.post(a, 1)
	for _, sortBy := range []string{"created_ts", "updated_ts"} { // which clients may send here, too
		if p := c.list(messagesPath(a), cursor{sortBy: sortBy}); !slices.Equal(p.keys, []string{key}) {
			t.Errorf("%+v", p)
		}
	}
}

// Everything that two users do, in any order, against lists of what there is.
func TestPagesAreThoseOfAModel(t *testing.T) {
	w := newWorld(t)
	users := 0
	rapid.Check(t, func(r *rapid.T) {
		users++
		c := w.browser(fmt.Sprintf("user/%d:ü", users))
		own := &listed{path: threadsPath, gone: map[string]bool{}}
		in := map[string]*listed{} // by thread
		drawn := func(l *listed) string { return rapid.SampledFrom(l.all).Draw(r, "key") }
		thread := func() (*listed, bool) {
			if live := own.live(own.all); len(live) > 0 {
				return in[rapid.SampledFrom(live).Draw(r, "thread")], true
			}
			return nil, false
		}
		ask := func(l *listed) {
			q := cursor{limit: rapid.IntRange(0, 6).Draw(r, "limit")}
			if way := rapid.SampledFrom([]*string{nil, &q.before, &q.after, &q.anchor}).Draw(r, "way"); way != nil && len(l.all) > 0 {
				*way = drawn(l)
			}
			l.check(r, c, q)
		}
		r.Repeat(map[string]func(*rapid.T){
			"create": func(*rapid.T) {
				key := c.createThread("t")
				own.all = append([]string{key}, own.all...)
				in[key] = &listed{path: messagesPath(key), messages: true, gone: map[string]bool{}}
			},
			"post": func(*rapid.T) {
				if l, ok := thread(); ok {
					for range rapid.IntRange(1, 4).Draw(r, "n") {
						var made struct{ Key string }
						w.decode(w.send(request{method: "POST", path: l.path, body: `{"body":1}`, header: c.header}, 202), &made)
						l.all = append(l.all, made.Key)
					}
				}
			},
			"edit": func(*rapid.T) {
				if l, ok := thread(); ok && len(l.all) > 0 {
					key := drawn(l)
					c.call(map[bool]int{true: 404, false: 202}[l.gone[key]], "PUT", l.path+"/"+key, map[string]any{"body": 2})
				}
			},
			"delete a message": func(*rapid.T) {
				if l, ok := thread(); ok && len(l.all) > 0 {
					key := drawn(l)
					c.call(map[bool]int{true: 404, false: 202}[l.gone[key]], "DELETE", l.path+"/"+key, nil)
					l.gone[key] = true
				}
			},
			"delete a thread": func(*rapid.T) {
				if len(own.all) > 0 {
					key := drawn(own)
					c.call(map[bool]int{true: 404, false: 202}[own.gone[key]], "DELETE", threadPath(key), nil)
					own.gone[key] = true
				}
			},
			"page of threads": func(*rapid.T) { ask(own) },
			"page of messages": func(*rapid.T) {
				if l, ok := thread(); ok {
					ask(l)
				}
			},
		})
	})
}
