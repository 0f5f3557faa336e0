package thread

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
)

// crowd is a world in which posts meet.
type crowd struct {
	*world
	threads []api.Thread // one for each post
	busy    api.Thread
}

// inCrowd runs test, in a bubble, with n threads.
func inCrowd(t *testing.T, n int, test func(*testing.T, *crowd)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := &crowd{world: w, busy: w.thread(t, owner, "busy")}
		for range n {
			c.threads = append(c.threads, w.thread(t, owner, "t"))
		}
		test(t, c)
	})
}

// hold lets one post wait at the KMS until release.
func (c *crowd) hold(t *testing.T) (release func()) {
	t.Helper()
	open, held := make(chan struct{}), atomic.Bool{}
	c.kms.before = func() {
		if !held.Swap(true) {
			<-open
		}
	}
	var busy sync.WaitGroup
	busy.Go(func() { c.say(t, c.busy.ID, "busy") })
	synctest.Wait()
	return func() {
		close(open)
		busy.Wait()
	}
}

// meet posts to every thread, all in one group if they are less than enough, and
// returns the errors.
func (c *crowd) meet(t *testing.T) []error {
	t.Helper()
	release := c.hold(t)
	errs := make([]error, len(c.threads))
	var posts sync.WaitGroup
	for i, th := range c.threads {
		posts.Go(func() {
			_, errs[i] = c.Post(context.Background(), owner, th.ID, api.PostMessage{Body: quoted(fmt.Sprint("text ", i))})
		})
	}
	synctest.Wait()
	release()
	posts.Wait()
	return errs
}

// stored tests that every thread whose post has no error has its message, once
// and readable, and every other none.
func (c *crowd) stored(t *testing.T, errs []error) {
	t.Helper()
	for i, th := range c.threads {
		want := 0
		if errs[i] == nil {
			want = 1
		}
		rows := 0
		for key := range c.dump(t) {
			if strings.HasPrefix(key, layout.Messages(th.ID)) {
				rows++
			}
		}
		if rows != want {
			t.Errorf("thread %d has %d rows, its post ended with %v", i, rows, errs[i])
		}
		if want == 0 {
			continue
		}
		if got := c.list(t, owner, th.ID, MessageQuery{}).Messages; len(got) != 1 || string(got[0].Body) != fmt.Sprintf(`"text %d"`, i) {
			t.Errorf("thread %d: %v", i, got)
		}
	}
}

func allNil(errs []error) bool { return errors.Join(errs...) == nil }

func TestPostsThatMeetAreOneCallAndOneCommit(t *testing.T) {
	inCrowd(t, enough-1, func(t *testing.T, c *crowd) {
		c.store.reset()
		calls := c.kms.calls.Load()
		errs := c.meet(t)
		calls, commits := c.kms.calls.Load()-calls, c.store.commits.Load()
		if calls != 2 || commits != 2 || !allNil(errs) { // one is the post that they met at
			t.Errorf("%d calls and %d commits: %v", calls-1, commits-1, errors.Join(errs...))
		}
		c.stored(t, errs)
	})
}

func TestEnoughPostsWaitForNoOtherGroup(t *testing.T) {
	inCrowd(t, enough, func(t *testing.T, c *crowd) {
		release := c.hold(t)
		defer release()
		var posts sync.WaitGroup
		for _, th := range c.threads {
			posts.Go(func() { c.say(t, th.ID, "x") })
		}
		posts.Wait() // else the bubble reports a deadlock
	})
}

func TestGroupsAreBounded(t *testing.T) {
	g := &together{waiting: make([]*appending, (maxUnderWay+1)*maxTogether)}
	for range maxUnderWay {
		if n := len(g.leave()); n != maxTogether {
			t.Errorf("a group of %d", n)
		}
	}
	if n := len(g.leave()); n != 0 {
		t.Errorf("a group of %d beside %d others", n, maxUnderWay)
	}
	if n := len(g.next(nil)); n != maxTogether {
		t.Errorf("after the end of one, a group of %d", n)
	}
}

// Whatever is wrong with one of a group, the others are stored.
func TestAPostTakesNoOtherAlong(t *testing.T) {
	const n, bad = 5, 2
	for name, c := range map[string]struct {
		arrange func(*crowd, *testing.T)
		want    fault.Code
	}{
		"its thread is deleted": {func(c *crowd, t *testing.T) {
			c.kms.encrypting = func(it kmsapi.EncryptItem, _ *kmsapi.EncryptResult) {
				if strings.Contains(string(it.Plaintext), fmt.Sprint("text ", bad)) {
					if err := c.another().Delete(t.Context(), owner, c.threads[bad].ID); err != nil && !errorIs(err, fault.NotFound) {
						t.Error(err)
					}
				}
			}
		}, fault.NotFound},
		"its key is lost": {func(c *crowd, t *testing.T) {
			c.editMeta(t, c.threads[bad].ID, func(m *meta) { m.KMS.KeyID = "lost" })
		}, fault.Damaged},
		"its thread has no key": {func(c *crowd, t *testing.T) {
			c.editMeta(t, c.threads[bad].ID, func(m *meta) { m.KMS.KeyID = "" })
		}, fault.Damaged},
		"it is not encrypted": {func(c *crowd, _ *testing.T) {
			c.kms.encrypting = func(it kmsapi.EncryptItem, r *kmsapi.EncryptResult) {
				if strings.Contains(string(it.Plaintext), fmt.Sprint("text ", bad)) {
					r.Ciphertext = it.Plaintext
				}
			}
		}, fault.Internal},
		"the KMS takes no group with it": {func(c *crowd, _ *testing.T) {
			c.kms.refuse = func(items []kmsapi.EncryptItem) error {
				for _, it := range items {
					if strings.Contains(string(it.Plaintext), fmt.Sprint("text ", bad)) {
						return fault.New(fault.TooLarge, "too large")
					}
				}
				return nil
			}
		}, fault.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			inCrowd(t, n, func(t *testing.T, w *crowd) {
				c.arrange(w, t)
				errs := w.meet(t)
				for i, err := range errs {
					if i == bad {
						wantCode(t, err, c.want)
					} else if err != nil {
						t.Errorf("post %d: %v", i, err)
					}
				}
				w.kms.encrypting = nil
				if c.want != fault.NotFound {
					w.stored(t, errs)
				}
			})
		})
	}
}

// Else a stream of posts that meet others of their time could hold up everybody.
func TestAPostThatMeetsAConflictOfAnotherGoesOnAsItIs(t *testing.T) {
	inCrowd(t, 5, func(t *testing.T, c *crowd) {
		taken := c.post(t, owner, c.busy.ID, api.PostMessage{Body: quoted("x"), TS: 5})
		c.threads[2] = c.busy
		items := c.kms.items
		release := c.hold(t)
		var posts sync.WaitGroup
		for _, th := range c.threads {
			posts.Go(func() { c.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: taken.TS}) })
		}
		synctest.Wait()
		release()
		posts.Wait()
		if n := c.kms.items - items - 1; n != 5+1 {
			t.Errorf("5 posts, one of which met a conflict, took %d encryptions", n)
		}
	})
}

// A commit that ends in an error may have been done: to store its messages
// again would store them twice.
func TestAGroupWhoseCommitEndsUnknownIsNotStoredAgain(t *testing.T) {
	inCrowd(t, 4, func(t *testing.T, c *crowd) {
		lost := errors.New("the answer was lost")
		var groups atomic.Int32
		c.store.afterCommit = func() error {
			if groups.Add(1) > 1 {
				return lost
			}
			return nil
		}
		for i, err := range c.meet(t) {
			if !errors.Is(err, lost) {
				t.Errorf("post %d: %v", i, err)
			}
		}
		if n := groups.Load(); n != 2 {
			t.Errorf("%d commits, want 2", n)
		}
		c.stored(t, make([]error, 4)) // each once
	})
}

func TestAPostWhoseCallerLeftBeforeTheCommitIsNotStored(t *testing.T) {
	inCrowd(t, 2, func(t *testing.T, c *crowd) {
		release := c.hold(t)
		ctx, cancel := context.WithCancel(t.Context())
		errs := make([]error, 2)
		var posts sync.WaitGroup
		for i, ctx := range []context.Context{ctx, t.Context()} {
			posts.Go(func() {
				_, errs[i] = c.Post(ctx, owner, c.threads[i].ID, api.PostMessage{Body: quoted(fmt.Sprint("text ", i))})
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait() // the KMS still holds the group before theirs
		wantCode(t, errs[0], fault.Unavailable)
		if !errors.Is(errs[0], context.Canceled) {
			t.Error("a caller who leaves waits:", errs[0])
		}
		release()
		posts.Wait()
		if errs[1] != nil {
			t.Error("the other post:", errs[1])
		}
		c.stored(t, errs)
	})
}

func TestACallerWhoLeavesDuringTheCommitHearsHowItEnds(t *testing.T) {
	inCrowd(t, 1, func(t *testing.T, c *crowd) {
		ctx, cancel := context.WithCancel(t.Context())
		c.store.beforeCommit = func() error {
			cancel()
			synctest.Wait()
			return nil
		}
		_, err := c.Post(ctx, owner, c.threads[0].ID, api.PostMessage{Body: quoted("text 0")})
		if err != nil {
			t.Error(err)
		}
		c.stored(t, []error{err})
	})
}

func TestALargeMessageWaitsForNoGroup(t *testing.T) {
	inCrowd(t, 1, func(t *testing.T, c *crowd) {
		release := c.hold(t)
		defer release()
		c.say(t, c.threads[0].ID, strings.Repeat("x", maxShared))
	})
}
