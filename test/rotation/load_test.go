package rotation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/thread"
)

// hands is how many write, and how many read.
const hands = 8

// load is writers and readers at work on one vault and one thread.
type load struct {
	*site
	t             *testing.T
	vault, thread string
	stop          atomic.Bool
	all           sync.WaitGroup
	written       [hands]atomic.Int64 // versions of path "path <i>" that were acknowledged
	posted        [hands]atomic.Int64 // and messages
	reads         atomic.Int64
}

func (l *load) write(i int) {
	for !l.stop.Load() {
		n := l.written[i].Load() + 1
		if err := l.put(l.vault, fmt.Sprint("path/", i), fmt.Sprintf("value %d of %d", n, i)); err != nil {
			l.t.Errorf("writer %d: %v", i, err)
			return
		}
		l.written[i].Store(n)
		if err := l.post(l.thread, fmt.Sprintf("message %d of %d", n, i)); err != nil {
			l.t.Errorf("writer %d: post: %v", i, err)
			return
		}
		l.posted[i].Store(n)
		if n%5 == 0 {
			if _, err := l.threads.Create(context.Background(), owner, api.CreateThread{}); err != nil {
				l.t.Errorf("writer %d: a thread: %v", i, err)
				return
			}
		}
	}
}

func (l *load) read(i int) {
	for n := 0; !l.stop.Load(); n++ {
		l.reads.Add(1)
		r, err := l.vaults.Read(context.Background(), owner, l.vault, fmt.Sprint("path/", i))
		if err == nil && r.Secret.Value != fmt.Sprintf("value %d of %d", r.Secret.Version, i) {
			err = fmt.Errorf("version %d holds %q", r.Secret.Version, r.Secret.Value)
		}
		if err != nil && !errors.Is(err, fault.NotFound) {
			l.t.Errorf("reader %d: %v", i, err)
			return
		}
		if old := l.written[i].Load() / 2; old > 0 {
			if _, err := l.vaults.ReadVersion(context.Background(), owner, l.vault, fmt.Sprint("path/", i), int(old)); err != nil {
				l.t.Errorf("reader %d: version %d: %v", i, old, err)
				return
			}
		}
		if _, err := l.threads.ListMessages(context.Background(), owner, l.thread, thread.MessageQuery{Limit: 10}); err != nil {
			l.t.Errorf("reader %d: messages: %v", i, err)
			return
		}
	}
}

// complete fails unless all that was acknowledged is there and opens.
func (l *load) complete() {
	l.t.Helper()
	want := 0
	for i := range hands {
		want += int(l.written[i].Load())
	}
	versions := l.versions(l.t)
	if len(versions) != want {
		l.t.Errorf("%d versions are there, %d were acknowledged", len(versions), want)
	}
	for _, v := range versions {
		var i int
		fmt.Sscanf(v.path, "path/%d", &i)
		if got := l.open(l.t, v); got != fmt.Sprintf("value %d of %d", v.n, i) {
			l.t.Errorf("version %d of %s holds %q", v.n, v.path, got)
		}
	}
	got, want := l.countMessages(), 0
	for i := range hands {
		want += int(l.posted[i].Load())
	}
	if got != want {
		l.t.Errorf("%d messages are there, %d were acknowledged", got, want)
	}
}

// countMessages reads all messages of the thread, page by page.
func (l *load) countMessages() (n int) {
	for after := ""; ; {
		page := l.page(l.t, l.thread, after)
		if len(page) == 0 {
			return n
		}
		n, after = n+len(page), page[len(page)-1].ID
	}
}

// TestARotationUnderLoadLosesNothing rotates all KEKs three times while others
// write and read, and destroys the old version each time.
func TestARotationUnderLoadLosesNothing(t *testing.T) {
	s := mustOpen(t, t.TempDir(), parts{jobs: true})
	defer s.close(t)
	v, err1 := s.vaults.Create(t.Context(), owner, api.CreateVault{Name: "a vault"})
	th, err2 := s.threads.Create(t.Context(), owner, api.CreateThread{})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	l := &load{site: s, t: t, vault: v.ID, thread: th.ID}
	for i := range hands {
		l.all.Go(func() { l.write(i) })
		l.all.Go(func() { l.read(i) })
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for n := uint32(1); n <= 3; n++ {
		for from := l.reads.Load(); l.reads.Load() < from+200 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		if err := s.again(ctx); err != nil {
			t.Error(err)
		}
		if n == 3 {
			l.stop.Store(true)
			l.all.Wait()
			s.under(t, n+1)
		}
		s.destroy(t, n)
	}
	l.stop.Store(true)
	l.all.Wait()
	l.complete()
	t.Logf("%d reads, %d versions", l.reads.Load(), len(s.versions(t)))
}
