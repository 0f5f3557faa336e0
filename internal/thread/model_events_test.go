package thread

import (
	"context"
	"slices"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"pgregory.net/rapid"
)

// modelFollower is somebody who follows a thread and, when a server that he was
// connected to ends, goes on at another one.
type modelFollower struct {
	*Following // nil: he is cut off
	server     *Service
	who        access.Principal
	th         *modelThread
	next       int             // of the thread's changes, the first that he has not got
	last       string          // ID from which he goes on
	since      int64           // from when on he gets all; a little of before may come, too
	got        map[string]bool // by this Following
}

const maxModelFollowers = 6

// follow begins to follow a thread, or goes on where one was cut off.
func (m *model) follow(t *rapid.T) {
	for _, f := range m.follows {
		if f.Following == nil {
			m.resume(t, f)
			return
		}
	}
	if len(m.follows) == maxModelFollowers {
		m.hearOne(t, m.follows[0])
		if len(m.follows) == maxModelFollowers {
			m.follows[0].Close()
			m.follows = slices.Delete(m.follows, 0, 1)
		}
	}
	th := m.some(t)
	f := &modelFollower{server: m.at(t), who: m.somebody(t, th), th: th, next: len(th.changes), since: m.clock.Load(), got: map[string]bool{}}
	var err error
	f.Following, err = f.server.Follow(context.Background(), f.who, th.ID, "")
	if m.answered(t, err, th.mayRead(f.who)) {
		f.last = f.Position()
		m.follows = append(m.follows, f)
	}
}

func (m *model) resume(t *rapid.T, f *modelFollower) {
	want := f.th.mayRead(f.who)
	f.server, f.got = m.at(t), map[string]bool{}
	f.since, _, _ = parseMessageID(f.last)
	if want == "" && f.since < m.clock.Load()-int64(changesKept) {
		want = fault.Gone
	}
	var err error
	f.Following, err = f.server.Follow(context.Background(), f.who, f.th.ID, f.last)
	if !m.answered(t, err, want) {
		m.leave(f)
	}
}

// cutOff ends all that is followed on these servers, or all.
func (m *model) cutOff(servers ...*Service) {
	for _, f := range m.follows {
		if f.Following != nil && (len(servers) == 0 || slices.Contains(servers, f.server)) {
			f.Close()
			f.Following = nil
		}
	}
}

func (m *model) leave(f *modelFollower) {
	m.follows = slices.DeleteFunc(m.follows, func(one *modelFollower) bool { return one == f })
}

func (m *model) hear(t *rapid.T) {
	if len(m.follows) == 0 {
		m.follow(t)
		return
	}
	m.hearOne(t, pick(t, "follower", m.follows))
}

// hearOne takes all that there is for f, who has missed nothing then.
func (m *model) hearOne(t *rapid.T, f *modelFollower) {
	t.Helper()
	if f.Following == nil {
		m.resume(t, f)
	}
	for f.Following != nil && isClosed(f.News()) {
		events, err := f.Next(context.Background(), f.who)
		if !m.answered(t, err, f.th.mayRead(f.who)) {
			f.Close()
			m.leave(f)
			return
		}
		for _, e := range events {
			m.heard(t, f, e)
		}
	}
	if f.Following != nil && f.next != len(f.th.changes) {
		t.Fatalf("who follows has got %d of %d changes", f.next, len(f.th.changes))
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// heard fails unless e is the next change, or one of before that may come again, with
// the message as it is.
func (m *model) heard(t *rapid.T, f *modelFollower, e Event) {
	t.Helper()
	at := slices.IndexFunc(f.th.changes, func(c change) bool { return c.ID == e.ID })
	switch {
	case at < 0 || f.got[e.ID] || at > f.next || at < f.next && e.ID < before(f.since):
		t.Fatalf("change %d, %+v, came when %d was next; it came before: %v", at, e, f.next, f.got[e.ID])
	case at == f.next:
		f.next++
	}
	f.got[e.ID], f.last = true, max(f.last, e.ID)
	c := f.th.changes[at]
	want := api.MessageEvent{Thread: f.th.ID, MessageID: c.Message}
	if msg := f.th.find(c.Message); msg != nil {
		want.Message = &msg.Message
	}
	if e.Kind != string(c.Kind) {
		t.Fatalf("the event is %s, the change %s", e.Kind, c.Kind)
	}
	m.equal(t, want, decode[api.MessageEvent](t, e.Data))
}
